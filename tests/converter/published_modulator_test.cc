#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "converter/modulator.h"

namespace sdq::converter {
namespace {

std::vector<int> Run(int order, bool ternary, const std::vector<float>& x, float threshold = 0.5f) {
  std::vector<int8_t> y(x.size());
  Modulator{order, ternary}.Run(x.data(), x.size(), threshold, y.data());
  return {y.begin(), y.end()};
}

TEST_CASE("first-order modulators follow the recursion worked by hand") {
  // I: 0.25 -0.5 0.75 0 -0.75 0.5 (binary, Q(0) = +1)
  CHECK(Run(1, false, {0.25f, 0.25f, 0.25f, 0.25f, 0.25f, 0.25f}) ==
        std::vector<int>{1, -1, 1, 1, -1, 1});
  // I: 0.25 0.5 -0.25 0 0.25 0.5 (ternary, t = 0.5: both borders belong to +-1)
  CHECK(Run(1, true, {0.25f, 0.25f, 0.25f, 0.25f, 0.25f, 0.25f}) ==
        std::vector<int>{0, 1, 0, 0, 0, 1});
  CHECK(Run(1, true, {-0.25f, -0.25f, -0.25f, -0.25f}) == std::vector<int>{0, -1, 0, 0});
  // I: 2 1.5 1 0 (overload is remembered and paid back)
  CHECK(Run(1, true, {2.0f, 0.5f, 0.5f, 0.0f, 0.0f}) == std::vector<int>{1, 1, 1, 0, 0});
}

TEST_CASE("second-order modulators follow the recursion worked by hand") {
  // I1: 0.25 -0.5 0.75 0 1.25 0.5; I2: 0.25 -1.25 0.5 -0.5 1.25 (not 1.75) 0.75
  CHECK(Run(2, false, {0.25f, 0.25f, 0.25f, 0.25f, 0.25f, 0.25f}) ==
        std::vector<int>{1, -1, 1, -1, 1, 1});
  // I1: 0.25 0.5 -0.25 1 0.25 -0.5; I2: 0.25 0.75 -0.5 1.25 (not 1.5) 0.5 -1
  CHECK(Run(2, true, {0.25f, 0.25f, 0.25f, 0.25f, 0.25f, 0.25f}) ==
        std::vector<int>{0, 1, -1, 1, 1, -1});
}

TEST_CASE("a threshold of zero never gives both signs") {
  CHECK(Run(1, true, {0.0f, 0.0f, 0.0f, 0.0f}, 0.0f) == std::vector<int>{1, -1, 1, -1});
}

TEST_CASE("the running sum of a first-order stream stays within one step of its input") {
  const bool ternary = GENERATE(false, true);
  std::vector<float> x(1000);
  for (size_t i = 0; i < x.size(); ++i) x[i] = 0.9f * std::sin(0.05f * float(i));
  const std::vector<int> y = Run(1, ternary, x, 0.5f);
  double sum = 0;
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    sum += double(x[i]) - y[i];
    worst = std::max(worst, std::abs(sum));
  }
  CHECK(worst <= 1.0001);
}

TEST_CASE("overload does not make the second order oscillate for good") {
  const bool ternary = GENERATE(false, true);
  std::vector<float> x(600, 0.0f);
  for (size_t i = 0; i < 40; ++i) x[i] = 3.0f;
  for (size_t i = 40; i < x.size(); ++i) x[i] = 0.3f;
  const std::vector<int> y = Run(2, ternary, x);
  double mean = 0;
  for (size_t i = 100; i < y.size(); ++i) mean += y[i] / 500.0;
  CHECK(mean == Approx(0.3).margin(0.02));
}

}  // namespace
}  // namespace sdq::converter
