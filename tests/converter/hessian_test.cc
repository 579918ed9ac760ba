#include "converter/hessian.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "kernels/parallel.h"

namespace sdq::converter {
namespace {

// X X^T of `tokens` Gaussian inputs with uneven column scales.
std::vector<double> RandomHessian(size_t n, size_t tokens, unsigned seed = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<double> h(n * n);
  std::vector<double> x(n);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t i = 0; i < n; ++i) x[i] = normal(generator) * (1.0 + double(i % 7));
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) h[i * n + j] += x[i] * x[j] / double(tokens);
    }
  }
  return h;
}

double MeanDiagonal(const std::vector<double>& h, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += h[i * n + i];
  return sum / double(n);
}

TEST_CASE("Hessian: A D A^T is the damped matrix") {
  // Sizes around the panel of 64 columns and the 4 x 8 tiles.
  const size_t n = GENERATE(size_t{1}, 2, 3, 7, 63, 64, 65, 131, 200);
  const std::vector<double> h = RandomHessian(n, n / 2 + 1);
  const Result<Feedback> f = FactorHessian(h, n, 0.01);
  REQUIRE(f.ok());
  const double mean = MeanDiagonal(h, n);
  double worst = 0;
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (size_t k = 0; k < n; ++k) {
        sum += double(f->a[i * n + k]) * double(f->d[k]) * double(f->a[j * n + k]);
      }
      worst = std::max(worst, std::abs(sum - h[i * n + j] - (i == j ? 0.01 * mean : 0.0)));
    }
  }
  CHECK(worst < 1e-6 * mean);
  for (size_t i = 0; i < n; ++i) {
    CHECK(f->a[i * n + i] == 1.0f);
    CHECK(f->d[i] > 0);
    for (size_t j = 0; j < i; ++j) REQUIRE(f->a[i * n + j] == 0.0f);
  }
}

TEST_CASE("Hessian: solved rows times the damped matrix are the rows") {
  const size_t n = GENERATE(size_t{1}, 2, 7, 65, 131);
  const size_t rows = 11;
  const std::vector<double> h = RandomHessian(n, n / 2 + 1);
  const Result<Feedback> f = FactorHessian(h, n, 0.01);
  REQUIRE(f.ok());
  std::vector<float> wanted(rows * n), solved;
  for (size_t i = 0; i < wanted.size(); ++i) wanted[i] = std::sin(float(i) * 0.37f);
  solved = wanted;
  SolveRows(*f, rows, solved.data());
  const double damping = 0.01 * MeanDiagonal(h, n);
  double worst = 0;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t j = 0; j < n; ++j) {
      double sum = damping * double(solved[r * n + j]);
      for (size_t i = 0; i < n; ++i) sum += double(solved[r * n + i]) * h[i * n + j];
      worst = std::max(worst, std::abs(sum - double(wanted[r * n + j])));
    }
  }
  CHECK(worst < 2e-4);
}

TEST_CASE("Hessian: a 2 x 2 factor by hand") {
  // [[5, 2], [2, 4]] = A diag(4, 4) A^T with A = [[1, 0.5], [0, 1]].
  const Result<Feedback> f = FactorHessian({5, 2, 2, 4}, 2, 0.0);
  REQUIRE(f.ok());
  CHECK(f->a == std::vector<float>{1.0f, 0.5f, 0.0f, 1.0f});
  CHECK(f->d == std::vector<float>{4.0f, 4.0f});
}

TEST_CASE("Hessian: dead columns get the mean of the living ones") {
  const Result<Feedback> f = FactorHessian({2, 0, 0, 0, 0, 0, 0, 0, 6}, 3, 0.5);
  REQUIRE(f.ok());
  CHECK(f->d[0] == Approx(4.0));
  CHECK(f->d[1] == Approx(6.0));
  CHECK(f->d[2] == Approx(8.0));
  const Result<Feedback> dead = FactorHessian({0, 0, 0, 0}, 2, 0.0);
  REQUIRE(dead.ok());
  CHECK(dead->d == std::vector<float>{1.0f, 1.0f});
}

TEST_CASE("Hessian: bad matrices are refused") {
  CHECK_FALSE(FactorHessian({1, 0, 0}, 2, 0.01).ok());
  CHECK_FALSE(FactorHessian({}, 0, 0.01).ok());
  CHECK_FALSE(FactorHessian({1, 2, 2, 1}, 2, 0.0).ok());  // indefinite
  CHECK_FALSE(FactorHessian({1, 0, 0, -1}, 2, 0.01).ok());
  CHECK_FALSE(FactorHessian({1, 0, 0, NAN}, 2, 0.01).ok());
  CHECK_FALSE(FactorHessian({1, NAN, NAN, 1}, 2, 0.01).ok());
  CHECK_FALSE(FactorHessian({1, 0, 0, INFINITY}, 2, 0.01).ok());
  CHECK_FALSE(FactorHessian({1, 0, 0, 1}, 2, -1.0).ok());
  CHECK_FALSE(FactorHessian({1, 0, 0, 1}, 2, NAN).ok());
}

TEST_CASE("Hessian: rotated, it weighs rotated errors alike") {
  const size_t block = GENERATE(size_t{0}, 32, 96);
  const size_t n = 96;
  const std::vector<double> h = RandomHessian(n, 50);
  const kernels::Rotation rotation(n, block, 9);
  std::vector<double> rotated = h;
  RotateHessian(rotation, &rotated);
  const std::vector<double> errors = RandomHessian(n, 3, 2);  // any n vectors
  for (size_t r = 0; r < 5; ++r) {
    std::vector<float> e(errors.begin() + std::ptrdiff_t(r * n),
                         errors.begin() + std::ptrdiff_t((r + 1) * n));
    const auto cost = [&](const std::vector<double>& m) {
      double sum = 0;
      for (size_t i = 0; i < n; ++i) {
        for (size_t j = 0; j < n; ++j) sum += double(e[i]) * m[i * n + j] * double(e[j]);
      }
      return sum;
    };
    const double before = cost(h);
    rotation.Apply(e.data());
    CHECK(cost(rotated) == Approx(before).epsilon(1e-5));
  }
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < i; ++j) REQUIRE(rotated[i * n + j] == rotated[j * n + i]);
  }
}

TEST_CASE("Hessian: the factor does not depend on the thread count") {
  const size_t n = 150;
  const std::vector<double> h = RandomHessian(n, n);
  kernels::SetThreads(1);
  const Result<Feedback> one = FactorHessian(h, n, 0.01);
  kernels::SetThreads(3);
  const Result<Feedback> three = FactorHessian(h, n, 0.01);
  kernels::SetThreads(0);
  REQUIRE(one.ok());
  REQUIRE(three.ok());
  CHECK(one->a == three->a);
  CHECK(one->d == three->d);
}

}  // namespace
}  // namespace sdq::converter
