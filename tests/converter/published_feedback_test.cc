#include <catch2/catch.hpp>
#include <cmath>
#include <random>
#include <vector>

#include "converter/block_feedback.h"

namespace sdq::converter {
namespace {

constexpr size_t kColumns = 40;
constexpr size_t kRows = 6;
constexpr double kDamping = 0.01;

using Matrix = std::vector<double>;  // [kColumns][kColumns]

std::vector<float> RandomRows(size_t rows, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(rows * kColumns);
  for (float& value : x) value = normal(generator);
  return x;
}

Matrix CorrelatedHessian() {
  const size_t n = kColumns;
  std::vector<float> x = RandomRows(60, 3);
  Matrix h(n * n);
  for (size_t t = 0; t < 60; ++t) {
    float* row = x.data() + t * n;
    for (size_t i = 1; i < n; ++i) row[i] += 0.8f * row[i - 1];
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) h[i * n + j] += double(row[i]) * double(row[j]);
    }
  }
  return h;
}

// Lower Cholesky factor, the textbook loop.
Matrix Cholesky(const Matrix& m) {
  const size_t n = kColumns;
  Matrix l(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      double sum = m[i * n + j];
      for (size_t k = 0; k < j; ++k) sum -= l[i * n + k] * l[j * n + k];
      l[i * n + j] = i == j ? std::sqrt(sum) : sum / l[j * n + j];
    }
  }
  return l;
}

Matrix Inverse(Matrix m) {  // Gauss-Jordan; the matrices are positive definite
  const size_t n = kColumns;
  Matrix inverse(n * n);
  for (size_t i = 0; i < n; ++i) inverse[i * n + i] = 1;
  for (size_t p = 0; p < n; ++p) {
    const double pivot = m[p * n + p];
    for (size_t j = 0; j < n; ++j) {
      m[p * n + j] /= pivot;
      inverse[p * n + j] /= pivot;
    }
    for (size_t i = 0; i < n; ++i) {
      const double factor = i == p ? 0.0 : m[i * n + p];
      for (size_t j = 0; j < n; ++j) {
        m[i * n + j] -= factor * m[p * n + j];
        inverse[i * n + j] -= factor * inverse[p * n + j];
      }
    }
  }
  return inverse;
}

// U upper with H^-1 = U^T U, as GPTQ uses it.
Matrix InverseFactor(Matrix h) {
  const size_t n = kColumns;
  double mean = 0;
  for (size_t i = 0; i < n; ++i) mean += h[i * n + i] / double(n);
  for (size_t i = 0; i < n; ++i) h[i * n + i] += kDamping * mean;
  const Matrix l = Cholesky(Inverse(h));
  Matrix u(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) u[i * n + j] = l[j * n + i];
  }
  return u;
}

double Coarse(double w) { return std::round(w); }  // any quantizer

// The quantized rows by the running update W_later -= E U_b,later, in doubles: E = (W_b - Q_b)
// U_bb^-1 (triangular solve), or divided by diag(U_bb).
std::vector<double> RunningUpdate(const std::vector<float>& weights, const Matrix& u, size_t block,
                                  bool exact) {
  const size_t n = kColumns;
  std::vector<double> w(weights.begin(), weights.end());
  for (size_t r = 0; r < kRows; ++r) {
    double* row = w.data() + r * n;
    for (size_t begin = 0; begin < n; begin += block) {
      const size_t end = std::min(n, begin + block);
      std::vector<double> e(n);
      for (size_t j = begin; j < end; ++j) {
        e[j] = row[j] - Coarse(row[j]);
        row[j] = Coarse(row[j]);
        for (size_t i = begin; exact && i < j; ++i) e[j] -= e[i] * u[i * n + j];
        e[j] /= u[j * n + j];
      }
      for (size_t j = end; j < n; ++j) {
        for (size_t i = begin; i < end; ++i) row[j] -= e[i] * u[i * n + j];
      }
    }
  }
  return w;
}

std::vector<double> ClosedForm(const std::vector<float>& weights, const Feedback& f, size_t block,
                               Compensation compensation) {
  BlockFeedback feedback(weights.data(), kRows, f, compensation);
  std::vector<double> out(weights.size());
  for (size_t begin = 0; begin < kColumns; begin += block) {
    const size_t end = std::min(kColumns, begin + block);
    const size_t width = end - begin;
    std::vector<float> targets(kRows * width);
    feedback.Targets(begin, end, targets.data());
    std::vector<float> quantized(targets.size());
    for (size_t i = 0; i < targets.size(); ++i) {
      quantized[i] = float(Coarse(double(targets[i])));
      out[i / width * kColumns + begin + i % width] = double(quantized[i]);
    }
    feedback.Store(begin, end, targets.data(), quantized.data());
  }
  return out;
}

TEST_CASE("closed-form block feedback is the running update, exact and diagonal") {
  const size_t block = GENERATE(size_t{1}, 7, 16, 40);
  const bool exact = GENERATE(true, false);
  const Matrix h = CorrelatedHessian();
  const std::vector<float> weights = RandomRows(kRows, 5);
  const Result<Feedback> f = FactorHessian(h, kColumns, kDamping);
  REQUIRE(f.ok());
  CHECK(ClosedForm(weights, *f, block, exact ? Compensation::kExact : Compensation::kDiagonal) ==
        RunningUpdate(weights, InverseFactor(h), block, exact));
}

TEST_CASE("feedback lowers the objective, the exact form most") {
  const Matrix h = CorrelatedHessian();
  const std::vector<float> weights = RandomRows(kRows, 6);
  const Result<Feedback> f = FactorHessian(h, kColumns, kDamping);
  REQUIRE(f.ok());
  const auto cost = [&](const std::vector<double>& q) {
    double sum = 0;
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t i = 0; i < kColumns; ++i) {
        for (size_t j = 0; j < kColumns; ++j) {
          sum += (double(weights[r * kColumns + i]) - q[r * kColumns + i]) * h[i * kColumns + j] *
                 (double(weights[r * kColumns + j]) - q[r * kColumns + j]);
        }
      }
    }
    return sum;
  };
  const double none = cost(ClosedForm(weights, *f, kColumns, Compensation::kExact));
  const double diagonal = cost(ClosedForm(weights, *f, 8, Compensation::kDiagonal));
  const double exact = cost(ClosedForm(weights, *f, 8, Compensation::kExact));
  CHECK(exact < diagonal);
  CHECK(exact < 0.8 * none);
}

}  // namespace
}  // namespace sdq::converter
