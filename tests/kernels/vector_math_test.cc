#include "kernels/vector_math.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "tests/kernels/dense_support.h"

namespace sdq::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

double Wide(float v) { return static_cast<double>(v); }

TEST_CASE("norms equal their formulas on every target") {
  std::vector<size_t> sizes = OddSizes();
  sizes.push_back(2050);
  for (const size_t n : sizes) {
    const OddArray<float> x(RandomFloats(n, 1, 3.0f));
    const OddArray<float> weight(RandomFloats(n, 2));
    const OddArray<float> bias(RandomFloats(n, 3));
    double sum = 0.0, squares = 0.0, centred = 0.0;
    for (size_t i = 0; i < n; ++i) sum += Wide(x[i]);
    const double mean = sum / static_cast<double>(n);
    for (size_t i = 0; i < n; ++i) {
      squares += Wide(x[i]) * Wide(x[i]);
      centred += (Wide(x[i]) - mean) * (Wide(x[i]) - mean);
    }
    const double rms = std::sqrt(squares / static_cast<double>(n) + 1e-5);
    const double deviation = std::sqrt(centred / static_cast<double>(n) + 1e-5);
    ForEachTarget([&] {
      INFO("n " << n);
      OddArray<float> y(n), in_place(n), layer(n), bare(n);
      for (size_t i = 0; i < n; ++i) in_place[i] = x[i];
      kernels::RmsNorm(x.data(), weight.data(), 1e-5f, n, y.data());
      kernels::RmsNorm(in_place.data(), weight.data(), 1e-5f, n, in_place.data());
      kernels::LayerNorm(x.data(), weight.data(), bias.data(), 1e-5f, n, layer.data());
      kernels::LayerNorm(x.data(), nullptr, nullptr, 1e-5f, n, bare.data());
      for (size_t i = 0; i < n; ++i) {
        const double w = Wide(weight[i]);
        REQUIRE(Wide(y[i]) == Approx(Wide(x[i]) / rms * w).epsilon(1e-6).margin(1e-12));
        REQUIRE(in_place[i] == y[i]);
        // The mean is rounded to f32: absolute errors of its size.
        const double normal = (Wide(x[i]) - mean) / deviation;
        const double margin = 4 * 0x1p-24 * (std::abs(mean) / deviation + 1.0);
        REQUIRE(Wide(bare[i]) == Approx(normal).epsilon(1e-6).margin(margin));
        REQUIRE(Wide(layer[i]) == Approx(normal * w + Wide(bias[i]))
                                      .epsilon(1e-6)
                                      .margin(margin * (std::abs(w) + std::abs(Wide(bias[i])))));
      }
    });
  }
}

TEST_CASE("addition and ReLU are exact") {
  for (const size_t n : OddSizes()) {
    const OddArray<float> x(RandomFloats(n, 4));
    const OddArray<float> y(RandomFloats(n, 5));
    ForEachTarget([&] {
      OddArray<float> sum(n), positive(n);
      for (size_t i = 0; i < n; ++i) sum[i] = positive[i] = x[i];
      kernels::AddInPlace(sum.data(), y.data(), n);
      kernels::ReluInPlace(positive.data(), n);
      for (size_t i = 0; i < n; ++i) {
        REQUIRE(sum[i] == x[i] + y[i]);
        REQUIRE(positive[i] == std::max(x[i], 0.0f));
      }
    });
  }
}

TEST_CASE("ReLU keeps NaN") {
  ForEachTarget([] {
    std::vector<float> x(19, kNan);
    kernels::ReluInPlace(x.data(), x.size());
    CHECK(std::all_of(x.begin(), x.end(), [](float v) { return std::isnan(v); }));
  });
}

// Values from -110 to 110, dense and with every tail length.
std::vector<float> Sweep(size_t n) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i) {
    x[i] = -110.0f + 220.0f * static_cast<float>(i) / static_cast<float>(n);
  }
  return x;
}

TEST_CASE("SiLU times up is accurate to a few units in the last place") {
  for (const size_t n : {1u, 3u, 17u, 20011u}) {
    const std::vector<float> x = Sweep(n);
    ForEachTarget([&] {
      OddArray<float> gate(x);
      const OddArray<float> up(std::vector<float>(n, 1.0f));
      kernels::SiluMul(gate.data(), up.data(), n);
      double worst = 0.0;
      for (size_t i = 0; i < n; ++i) {
        const double g = Wide(x[i]);
        // Where e^-g leaves the range of f32 the quotient is zero.
        const double expected = g < -88.0 ? Wide(gate[i]) : g / (1.0 + std::exp(-g));
        worst = std::max(worst, UlpError(gate[i], expected));
        if (g < -88.0) REQUIRE(std::abs(gate[i]) < 1e-35f);
      }
      CHECK(worst <= 4.0);
    });
  }
}

TEST_CASE("GELU keeps its relative precision in the left tail") {
  const std::vector<float> x = Sweep(4001);
  std::vector<float> y = x;
  kernels::GeluInPlace(y.data(), y.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = 0.5 * Wide(x[i]) * std::erfc(-Wide(x[i]) / std::sqrt(2.0));
    // The rounded argument of erfc costs x^2 units.
    const double tolerance = 4.0 + 2.0 * Wide(x[i]) * Wide(x[i]);
    INFO("x " << x[i]);
    REQUIRE(UlpError(y[i], expected) <= tolerance);
  }
}

TEST_CASE("softmax: every element within three units in the last place of e^x / sum") {
  for (const size_t n : {1u, 2u, 3u, 7u, 16u, 17u, 33u, 1000u, 5003u, 32000u}) {
    std::vector<float> x = RandomFloats(n, 31, 4.0f);
    if (n > 100) x[50] = -95.0f;  // e^x relative to the greatest: subnormal or zero
    const double greatest = Wide(*std::max_element(x.begin(), x.end()));
    double sum = 0.0;
    for (const float v : x) sum += std::exp(Wide(v) - greatest);
    const double log_sum = greatest + std::log(sum);
    ForEachTarget([&] {
      INFO("n " << n);
      OddArray<float> p(x);
      CHECK(UlpError(kernels::LogSumExp(p.data(), n), log_sum) <= 2.0);
      CHECK(UlpError(kernels::Softmax(p.data(), n), log_sum) <= 2.0);
      double worst = 0.0;
      for (size_t i = 0; i < n; ++i) {
        // x - greatest is rounded before the exponential: half a unit of the difference.
        const double distance = greatest - Wide(x[i]);
        const double tolerance = 6.0 + 2.0 * distance;
        worst = std::max(worst, UlpError(p[i], std::exp(-distance) / sum) / tolerance);
      }
      CHECK(worst <= 1.0);
    });
  }
}

TEST_CASE("the exponential is accurate where the argument is exact") {
  // With a zero among the values nothing is rounded before the exponential, and with only one other
  // value the sum is known.
  ForEachTarget([] {
    double worst = 0.0;
    for (int i = 0; i < 4000; ++i) {
      const float v = -0.03f * static_cast<float>(i);
      float x[2] = {v, 0.0f};
      kernels::Softmax(x, 2);
      const double e = std::exp(Wide(v));
      worst = std::max(worst, UlpError(x[0], e / (1.0 + e)));
      worst = std::max(worst, UlpError(x[1], 1.0 / (1.0 + e)));
    }
    CHECK(worst <= 4.0);
  });
}

TEST_CASE("softmax of awkward values") {
  ForEachTarget([] {
    std::vector<float> masked(37, -kInfinity);
    masked[5] = 1.0f;
    masked[30] = 1.0f;
    CHECK(kernels::Softmax(masked.data(), masked.size()) == Approx(1.0 + std::log(2.0)));
    for (size_t i = 0; i < masked.size(); ++i) {
      CHECK(masked[i] == (i == 5 || i == 30 ? 0.5f : 0.0f));
    }
    std::vector<float> nothing(21, -kInfinity);
    CHECK(kernels::LogSumExp(nothing.data(), nothing.size()) == -kInfinity);
    CHECK(kernels::Softmax(nothing.data(), nothing.size()) == -kInfinity);
    CHECK(nothing == std::vector<float>(21, 0.0f));
    CHECK(kernels::LogSumExp(nothing.data(), 0) == -kInfinity);
    CHECK(kernels::Softmax(nothing.data(), 0) == -kInfinity);

    std::vector<float> spoilt = RandomFloats(40, 3);
    for (const size_t at : {0u, 17u, 39u}) {
      std::vector<float> x = spoilt;
      x[at] = kNan;
      CHECK(std::isnan(kernels::LogSumExp(x.data(), x.size())));
      CHECK(std::isnan(kernels::Softmax(x.data(), x.size())));
    }
    std::vector<float> big(5, 3e38f);
    CHECK(kernels::LogSumExp(big.data(), big.size()) == 3e38f);
    kernels::Softmax(big.data(), big.size());
    CHECK(big[0] == Approx(0.2f));
  });
}

TEST_CASE("dot product equals the exact sum") {
  for (const size_t n : OddSizes()) {
    const OddArray<float> a(RandomFloats(n, 6));
    const OddArray<float> b(RandomFloats(n, 7));
    double sum = 0.0, magnitude = 0.0;
    for (size_t i = 0; i < n; ++i) {
      sum += Wide(a[i]) * Wide(b[i]);
      magnitude += std::abs(Wide(a[i]) * Wide(b[i]));
    }
    ForEachTarget([&] {
      INFO("n " << n);
      CHECK(std::abs(Wide(kernels::Dot(a.data(), b.data(), n)) - sum) <= 16 * 0x1p-24 * magnitude);
    });
  }
  CHECK(kernels::Dot(nullptr, nullptr, 0) == 0.0f);
}

}  // namespace
}  // namespace sdq::test
