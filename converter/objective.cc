#include "converter/objective.h"

#include <algorithm>

#include "kernels/dense.h"

namespace sdq::converter {
namespace {

constexpr size_t kChunkRows = 128;

// sum_r x_r H x_r^T over rows x[rows][n]; h empty = identity.
double QuadraticForm(const std::vector<float>& x, size_t rows, size_t n,
                     const std::vector<float>& h) {
  const float* right = x.data();
  std::vector<float> product;
  if (!h.empty()) {
    product.resize(rows * n);
    kernels::MatMul(x.data(), n, h.data(), n, product.data(), n, rows, n, n, false);
    right = product.data();
  }
  double sum = 0;
  for (size_t i = 0; i < rows * n; ++i) sum += double(x[i]) * double(right[i]);
  return sum;
}

}  // namespace

double RelativeError(const EncodeInput& input, const std::vector<float>& reconstructed) {
  const size_t n = input.columns;
  std::vector<float> h;
  if (input.hessian != nullptr) h.assign(input.hessian->begin(), input.hessian->end());
  double error = 0;
  double signal = 0;
  std::vector<float> chunk;
  for (size_t r = 0; r < input.rows; r += kChunkRows) {
    const size_t rows = std::min(kChunkRows, input.rows - r);
    const float* weights = input.weights + r * n;
    chunk.assign(weights, weights + rows * n);
    signal += QuadraticForm(chunk, rows, n, h);
    for (size_t i = 0; i < rows * n; ++i) chunk[i] -= reconstructed[r * n + i];
    error += QuadraticForm(chunk, rows, n, h);
  }
  return signal > 0 ? error / signal : 0.0;
}

}  // namespace sdq::converter
