#include "converter/block_coder.h"

#include <algorithm>
#include <cmath>

#include "format/tensor.h"
#include "kernels/dense.h"

namespace sdq::converter {

float Quantile(const std::vector<float>& sorted, double p) {
  const double position = p * double(sorted.size() - 1);
  const size_t below = size_t(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double weight = position - double(below);
  return float(double(sorted[below]) + weight * (double(sorted[above]) - double(sorted[below])));
}

float RoundToF16Precision(float value) {
  int exponent = 0;
  const float fraction = std::frexp(value, &exponent);
  return std::ldexp(format::F16ToF32(format::F32ToF16(fraction)), exponent);
}

BlockCoder::BlockCoder(size_t columns, size_t samples, Modulator modulator)
    : resampler_(columns, samples), modulator_(modulator) {}

void BlockCoder::Analyze(const float* v, size_t rows, std::vector<BlockSamples>* out) const {
  const size_t count = samples();
  std::vector<float> x(rows * count);
  kernels::MatMul(v, columns(), resampler_.up.data(), count, x.data(), count, rows, count,
                  columns(), false);
  out->resize(rows);
  for (size_t r = 0; r < rows; ++r) {
    BlockSamples& block = (*out)[r];
    const float* row = x.data() + r * count;
    double sum = 0;
    for (size_t j = 0; j < count; ++j) sum += double(row[j]);
    block.mean = RoundToF16Precision(float(sum / double(count)));
    block.values.resize(count);
    block.sorted.resize(count);
    for (size_t j = 0; j < count; ++j) {
      block.values[j] = row[j] - block.mean;
      block.sorted[j] = std::abs(block.values[j]);
    }
    std::sort(block.sorted.begin(), block.sorted.end());
  }
}

float BlockCoder::Modulate(const BlockSamples& block, const CodingParameters& parameters,
                           int8_t* q) const {
  const size_t count = samples();
  const double quantile = double(Quantile(block.sorted, parameters.scale_quantile));
  const float scale = RoundToF16Precision(float(parameters.scale * quantile));
  // A scale without a finite reciprocal is as good as none: the row is its mean.
  const float inverse = 1.0f / scale;
  if (!(scale > 0) || !std::isfinite(inverse)) {
    std::fill(q, q + count, int8_t{1});
    return 0;
  }
  std::vector<float> x(count);
  for (size_t j = 0; j < count; ++j) x[j] = block.values[j] * inverse;
  const float threshold = Quantile(block.sorted, parameters.cut_quantile) * inverse;
  modulator_.Run(x.data(), count, threshold, q);
  return scale;
}

void BlockCoder::Reconstruct(const int8_t* q, const float* scales, const float* means, size_t rows,
                             float* v) const {
  const size_t count = samples();
  const std::vector<float> y(q, q + rows * count);
  kernels::MatMul(y.data(), count, resampler_.down.data(), columns(), v, columns(), rows, columns(),
                  count, false);
  for (size_t r = 0; r < rows; ++r) {
    float* row = v + r * columns();
    for (size_t i = 0; i < columns(); ++i) row[i] = scales[r] * row[i] + means[r];
  }
}

}  // namespace sdq::converter
