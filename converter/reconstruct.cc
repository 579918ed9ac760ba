#include "converter/reconstruct.h"

#include <algorithm>
#include <memory>

#include "converter/resample.h"
#include "kernels/dense.h"
#include "kernels/parallel.h"
#include "kernels/rotation.h"

namespace sdq::converter {
namespace {

constexpr size_t kRowsPerTask = 32;

// Samples of rows as floats.
class SampleReader {
 public:
  explicit SampleReader(const EncodedLinear& encoded)
      : encoded_(encoded),
        per_byte_(encoded.alphabet == format::Alphabet::kTernaryPacked ? 5 : 8),
        planes_(encoded.alphabet == format::Alphabet::kTernaryPlanes ? 2 : 1),
        row_bytes_(size_t(format::RowBytes(encoded.decimator, encoded.alphabet, encoded.columns))) {
  }

  // Of the block of a row whose bytes begin at `first_byte` of it.
  void Read(size_t row, size_t first_byte, size_t count, float* q) const {
    constexpr size_t kTile = format::kTileRows;
    const uint8_t* plus = encoded_.bits.data() +
                          (row / kTile * planes_ * row_bytes_ + first_byte) * kTile + row % kTile;
    const uint8_t* minus = plus + row_bytes_ * kTile;
    for (size_t i = 0; i < count; i += per_byte_, plus += kTile, minus += kTile) {
      unsigned byte = per_byte_ == 5 ? format::PackedNumber(*plus) : *plus;
      const unsigned other = planes_ == 2 ? *minus : ~byte & 0xffu;
      for (size_t k = 0; k < std::min(per_byte_, count - i); ++k) {
        if (per_byte_ == 5) {
          q[i + k] = float(int(byte % 3) - 1);
          byte /= 3;
        } else {
          q[i + k] = float(int(byte >> k & 1) - int(other >> k & 1));
        }
      }
    }
  }

 private:
  const EncodedLinear& encoded_;
  size_t per_byte_, planes_, row_bytes_;
};

float ScaleOf(const EncodedLinear& encoded, size_t index) {
  return encoded.scale_base * format::F16ToF32(encoded.scales_f16[index]);
}

// The product of the samples that `derived` names, back from q[j].
float DerivedSample(uint32_t derived, const float* q, size_t j) {
  float product = 1;
  for (size_t b = 0; derived >> b != 0; ++b) {
    if ((derived >> b & 1) != 0) product *= q[j - b];
  }
  return product;
}

// The sums of the trellis's states (trellis.cc), newest sample first, derived ones behind the
// stored ones, then the scale.
void PolyphaseRow(const EncodedLinear& encoded, const float* q, float scale, float* w) {
  const format::DecimatorSpec& d = encoded.decimator;
  for (size_t i = 0; i < encoded.columns; ++i) {
    const size_t end = d.lead + (i + 1) * d.osr_num / d.osr_den;
    const float* taps = &d.taps[i % d.osr_den * format::PhaseTaps(d)];
    const size_t known = std::min<size_t>(d.window, end), reach = format::DerivedReach(d);
    float sum = 0;
    for (size_t k = 0; k < known; ++k) sum += taps[k] * q[end - 1 - k];
    for (size_t k = 0; d.derived != 0 && k + reach < known; ++k) {
      sum += taps[d.window + k] * DerivedSample(d.derived, q, end - 1 - k);
    }
    w[i] = sum * scale;
  }
}

void ReconstructPolyphase(const EncodedLinear& encoded, float* w) {
  const SampleReader reader(encoded);
  const size_t samples = size_t(format::RowSamples(encoded.decimator, encoded.columns));
  kernels::ParallelFor(encoded.rows, kRowsPerTask, [&](size_t begin, size_t end, size_t) {
    std::vector<float> q(samples);
    for (size_t r = begin; r < end; ++r) {
      reader.Read(r, 0, samples, q.data());
      PolyphaseRow(encoded, q.data(), ScaleOf(encoded, r), w + r * encoded.columns);
    }
  });
}

// Rows [begin, end) of a block: columns from `first_column` on, bytes from `first_byte` on.
void LowPassRows(const EncodedLinear& encoded, const SampleReader& reader,
                 const BlockResampler& resampler, uint32_t block, size_t first_byte, size_t begin,
                 size_t end, float* w) {
  const size_t rows = end - begin;
  const size_t width = resampler.columns;
  const size_t blocks = format::BlockCount(encoded.decimator, encoded.columns);
  const bool per_block = encoded.granularity == format::ScaleGranularity::kBlock;
  std::vector<float> q(rows * resampler.samples), v(rows * width);
  for (size_t r = 0; r < rows; ++r) {
    reader.Read(begin + r, first_byte, resampler.samples, &q[r * resampler.samples]);
  }
  kernels::MatMul(q.data(), resampler.samples, resampler.down.data(), width, v.data(), width, rows,
                  width, resampler.samples, false);
  for (size_t r = 0; r < rows; ++r) {
    const size_t index = per_block ? (begin + r) * blocks + block : begin + r;
    const float scale = ScaleOf(encoded, index);
    const float mean = encoded.means_f16.empty()
                           ? 0.0f
                           : encoded.mean_base * format::F16ToF32(encoded.means_f16[index]);
    float* out = w + (begin + r) * encoded.columns + size_t(block) * encoded.decimator.block;
    for (size_t i = 0; i < width; ++i) out[i] = scale * v[r * width + i] + mean;
  }
}

void ReconstructLowPass(const EncodedLinear& encoded, float* w) {
  const SampleReader reader(encoded);
  std::unique_ptr<BlockResampler> resampler;  // of all blocks but a shorter last one
  size_t first_byte = 0;
  for (uint32_t b = 0; b < format::BlockCount(encoded.decimator, encoded.columns); ++b) {
    const size_t width = format::BlockColumns(encoded.decimator, encoded.columns, b);
    const size_t samples = format::BlockSamples(encoded.decimator, encoded.columns, b);
    if (resampler == nullptr || resampler->columns != width) {
      resampler = std::make_unique<BlockResampler>(width, samples);
    }
    kernels::ParallelFor(encoded.rows, kRowsPerTask, [&](size_t begin, size_t end, size_t) {
      for (size_t r = begin; r < end; r += kRowsPerTask) {
        LowPassRows(encoded, reader, *resampler, b, first_byte, r, std::min(end, r + kRowsPerTask),
                    w);
      }
    });
    first_byte += size_t(format::BytesForSamples(encoded.alphabet, samples));
  }
}

}  // namespace

std::vector<float> Reconstruct(const EncodedLinear& encoded) {
  std::vector<float> w(size_t(encoded.rows) * encoded.columns);
  if (encoded.decimator.kind == format::DecimatorKind::kPolyphase) {
    ReconstructPolyphase(encoded, w.data());
  } else {
    ReconstructLowPass(encoded, w.data());
  }
  const kernels::Rotation rotation(encoded.columns, encoded.rotation.block,
                                   encoded.rotation.sign_seed);
  rotation.InverseRows(w.data(), encoded.rows, encoded.columns);
  return w;
}

}  // namespace sdq::converter
