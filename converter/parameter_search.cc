#include "converter/parameter_search.h"

#include <algorithm>

#include "kernels/parallel.h"

namespace sdq::converter {
namespace {

std::vector<CodingParameters> Grid(bool ternary) {
  std::vector<CodingParameters> grid;
  const int cuts = ternary ? 6 : 1;
  for (int k = 0; k < 6; ++k) {
    for (int s = 0; s < 10; ++s) {
      for (int c = 0; c < cuts; ++c) {
        grid.push_back({0.75 + 0.05 * k, 0.75 + 0.025 * s, 0.35 + 0.05 * c});
      }
    }
  }
  return grid;
}

double SquaredError(const BlockCoder& coder, const std::vector<float>& v,
                    const std::vector<BlockSamples>& blocks, const CodingParameters& parameters) {
  const size_t rows = blocks.size();
  std::vector<int8_t> q(rows * coder.samples());
  std::vector<float> scales(rows);
  std::vector<float> means(rows);
  for (size_t r = 0; r < rows; ++r) {
    scales[r] = coder.Modulate(blocks[r], parameters, q.data() + r * coder.samples());
    means[r] = blocks[r].mean;
  }
  std::vector<float> reconstructed(v.size());
  coder.Reconstruct(q.data(), scales.data(), means.data(), rows, reconstructed.data());
  double sum = 0;
  for (size_t i = 0; i < v.size(); ++i) {
    const double e = double(v[i]) - double(reconstructed[i]);
    sum += e * e;
  }
  return sum;
}

}  // namespace

ParameterChoice SearchParameters(const BlockCoder& coder, const std::vector<float>& v,
                                 size_t rows) {
  std::vector<BlockSamples> blocks;
  coder.Analyze(v.data(), rows, &blocks);
  const std::vector<CodingParameters> grid = Grid(coder.modulator().ternary);
  std::vector<double> errors(grid.size());
  kernels::ParallelFor(grid.size(), 1, [&](size_t first, size_t last, size_t) {
    for (size_t i = first; i < last; ++i) errors[i] = SquaredError(coder, v, blocks, grid[i]);
  });
  const size_t best = size_t(std::min_element(errors.begin(), errors.end()) - errors.begin());
  double signal = 0;
  for (const float x : v) signal += double(x) * double(x);
  return {grid[best], signal > 0 ? errors[best] / signal : 0.0};
}

}  // namespace sdq::converter
