#include "converter/objective.h"

#include <algorithm>
#include <numeric>

#include "kernels/dense.h"

namespace sdq::converter {
namespace {

constexpr size_t kChunkRows = 128;

// forms[r] = x_r H x_r^T for rows x[rows][n]; h empty = identity.
void QuadraticForms(const std::vector<float>& x, size_t rows, size_t n, const std::vector<float>& h,
                    double* forms) {
  const float* right = x.data();
  std::vector<float> product;
  if (!h.empty()) {
    product.resize(rows * n);
    kernels::MatMul(x.data(), n, h.data(), n, product.data(), n, rows, n, n, false);
    right = product.data();
  }
  for (size_t r = 0; r < rows; ++r) {
    double sum = 0;
    for (size_t i = r * n; i < (r + 1) * n; ++i) sum += double(x[i]) * double(right[i]);
    forms[r] = sum;
  }
}

}  // namespace

ObjectiveErrors MeasureErrors(const EncodeInput& input, const std::vector<float>& reconstructed) {
  const size_t n = input.columns;
  std::vector<float> h;
  if (input.hessian != nullptr) h.assign(input.hessian->begin(), input.hessian->end());
  ObjectiveErrors errors;
  errors.rows.resize(input.rows);
  std::vector<double> signals(input.rows);
  std::vector<float> chunk;
  for (size_t r = 0; r < input.rows; r += kChunkRows) {
    const size_t rows = std::min(kChunkRows, input.rows - r);
    const float* weights = input.weights + r * n;
    chunk.assign(weights, weights + rows * n);
    QuadraticForms(chunk, rows, n, h, &signals[r]);
    for (size_t i = 0; i < rows * n; ++i) chunk[i] -= reconstructed[r * n + i];
    QuadraticForms(chunk, rows, n, h, &errors.rows[r]);
  }
  const double signal = std::accumulate(signals.begin(), signals.end(), 0.0);
  const double error = std::accumulate(errors.rows.begin(), errors.rows.end(), 0.0);
  errors.relative = signal > 0 ? error / signal : 0.0;
  return errors;
}

}  // namespace sdq::converter
