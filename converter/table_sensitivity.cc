#include "converter/table_sensitivity.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "converter/hessian.h"
#include "converter/linear_sensitivity.h"
#include "kernels/dense.h"
#include "kernels/parallel.h"
#include "kernels/rotation.h"
#include "kernels/vector_math.h"

namespace sdq::converter {
namespace {

// Rounding to steps of max |w| / 127 leaves a twelfth of their square.
double EightBitError(const float* row, size_t n) {
  float largest = 0;
  for (size_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(row[i]));
  const double step = double(largest) / 127;
  return step * step / 12;
}

// B (I + A) = I, [n][n].
std::vector<float> InverseOf(const Feedback& feedback) {
  const size_t n = feedback.n;
  std::vector<float> inverse(n * n, 0.0f);
  kernels::ParallelFor(n, 16, [&](size_t begin, size_t end, size_t) {
    for (size_t j = begin; j < end; ++j) {
      float* row = &inverse[j * n];
      row[j] = 1.0f;
      for (size_t k = j; k < n; ++k) {
        const float* a = &feedback.a[k * n];
        for (size_t i = k + 1; i < n; ++i) row[i] -= row[k] * a[i];
      }
    }
  });
  return inverse;
}

// What errors fed back by the damped Hessian cost under h itself, relative to sum_j D_j: the
// damping is no loss.
double Undamped(const std::vector<double>& h, const Feedback& feedback) {
  const size_t n = feedback.n;
  const std::vector<float> hessian(h.begin(), h.end());
  const std::vector<float> inverse = InverseOf(feedback);
  std::vector<float> product(n * n);
  kernels::MatMul(inverse.data(), n, hessian.data(), n, product.data(), n, n, n, n, false);
  double whole = 0, damped = 0;
  for (size_t j = 0; j < n; ++j) {
    whole += double(kernels::Dot(&product[j * n], &inverse[j * n], n));
    damped += double(feedback.d[j]);
  }
  return damped > 0 ? whole / damped : 1.0;
}

}  // namespace

TableMetric::TableMetric(std::string name, std::span<const float> table, size_t columns)
    : name_(std::move(name)), columns_(columns), sums_(columns * columns, 0.0) {
  const size_t rows = table.size() / columns;
  double errors = 0, total = 0;
  for (size_t r = 0; r < rows; ++r) {
    const float* row = table.data() + r * columns;
    powers_.push_back(double(kernels::Dot(row, row, columns)) / double(columns));
    errors += EightBitError(row, columns);
    total += powers_.back();
  }
  eight_bit_error_ = total > 0 ? errors / total : 0.0;
}

void TableMetric::AddInputs(const float* x, std::span<const double> spreads) {
  std::vector<float> weighted(x, x + spreads.size() * columns_);
  for (size_t t = 0; t < spreads.size(); ++t) {
    const auto factor = float(std::sqrt(spreads[t]));
    for (size_t j = 0; j < columns_; ++j) weighted[t * columns_ + j] *= factor;
  }
  kernels::AccumulateGramUpper(weighted.data(), spreads.size(), columns_, columns_, sums_.data());
}

void TableMetric::AddGradients(std::span<const TokenId> tokens, const float* g) {
  std::map<TokenId, size_t> rows;  // of distinct tokens, in order of appearance
  std::vector<float> sums;
  for (size_t t = 0; t < tokens.size(); ++t) {
    const auto [at, added] = rows.emplace(tokens[t], rows.size());
    if (added) sums.resize(sums.size() + columns_, 0.0f);
    kernels::AddInPlace(&sums[at->second * columns_], g + t * columns_, columns_);
  }
  for (const auto& [token, row] : rows) {
    const auto factor = float(std::sqrt(powers_[size_t(token)]));
    for (size_t j = 0; j < columns_; ++j) sums[row * columns_ + j] *= factor;
  }
  kernels::AccumulateGramUpper(sums.data(), rows.size(), columns_, columns_, sums_.data());
}

Result<TableSensitivity> TableMetric::Finish(size_t tokens, const std::vector<double>& errors,
                                             double damping, uint64_t seed) {
  TableSensitivity result;
  result.name = std::move(name_);
  result.hessian = std::move(sums_);
  kernels::MirrorUpper(columns_, result.hessian.data());
  for (double& value : result.hessian) value /= double(tokens);
  for (size_t j = 0; j < columns_; ++j) {
    result.eight_bit_loss += 0.5 * eight_bit_error_ * result.hessian[j * columns_ + j];
  }
  std::vector<double> rotated = result.hessian;
  RotateHessian(kernels::Rotation(columns_, columns_, seed), &rotated);
  SDQ_ASSIGN_OR_RETURN(const Feedback feedback, FactorHessian(rotated, columns_, damping));
  const double undamped = Undamped(rotated, feedback);
  for (const double power : FeedbackPowers(feedback, errors)) {
    result.losses.push_back(0.5 * undamped * power);
  }
  return result;
}

}  // namespace sdq::converter
