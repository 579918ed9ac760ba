// Precision::kRounded: on every target either exact to f32 or rounded to bfloat16, never more.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/dense.h"
#include "kernels/float16.h"
#include "kernels/tile_product.h"
#include "tests/kernels/dense_support.h"

namespace sdq::test {
namespace {

using kernels::Precision;

// Two factors' rounding to eight significant bits, and f32 sums.
constexpr double kTolerance = 2.1 * 0x1p-9;

// Values that bfloat16 holds.
std::vector<float> ShortFloats(size_t n, uint32_t seed) {
  std::vector<float> values = RandomFloats(n, seed, 20.0f);
  for (float& v : values) v = std::round(v) / 8;
  return values;
}

struct Sum {
  double value = 0, magnitude = 0;
  void Add(float a, float b) {
    const double term = static_cast<double>(a) * static_cast<double>(b);
    value += term;
    magnitude += std::abs(term);
  }
  double ErrorOf(double actual) const { return std::abs(actual - value) / (magnitude + 1e-30); }
};

struct Shape {
  size_t m, n, k;
};
// Around a tile, a pair of them and a group.
const Shape kShapes[] = {{1, 2, 1},    {16, 16, 32}, {17, 15, 33},   {32, 32, 64},  {33, 31, 31},
                         {40, 70, 95}, {300, 5, 40}, {7, 130, 1000}, {129, 65, 129}};

template <class MakeValues>
void CheckMatMul(const MakeValues& make, double tolerance) {
  for (const Shape& s : kShapes) {
    const size_t lda = s.k + 1, ldb = s.n + 3, ldc = s.n + 2;
    const OddArray<float> a(make((s.m - 1) * lda + s.k, 1));
    const OddArray<float> b(make((s.k - 1) * ldb + s.n, 2));
    const std::vector<float> before = make((s.m - 1) * ldc + s.n, 3);
    for (const bool accumulate : {false, true}) {
      ForEachTarget([&] {
        OddArray<float> c(before);
        kernels::MatMul(a.data(), lda, b.data(), ldb, c.data(), ldc, s.m, s.n, s.k, accumulate,
                        Precision::kRounded);
        double worst = 0;
        for (size_t i = 0; i < s.m; ++i) {
          for (size_t j = 0; j < s.n; ++j) {
            Sum sum;
            if (accumulate) sum.Add(before[i * ldc + j], 1.0f);
            for (size_t p = 0; p < s.k; ++p) sum.Add(a[i * lda + p], b[p * ldb + j]);
            worst = std::max(worst, sum.ErrorOf(static_cast<double>(c[i * ldc + j])));
          }
          for (size_t j = s.n; j < ldc && i + 1 < s.m; ++j) {
            REQUIRE(c[i * ldc + j] == before[i * ldc + j]);
          }
        }
        INFO("m " << s.m << " n " << s.n << " k " << s.k << " accumulate " << accumulate);
        CHECK(worst <= tolerance);
      });
    }
  }
}

TEST_CASE("rounded matrix product: exact for bfloat16 values, near for others") {
  CheckMatMul([](size_t n, uint32_t seed) { return ShortFloats(n, seed); }, 8 * 0x1p-24);
  CheckMatMul([](size_t n, uint32_t seed) { return RandomFloats(n, seed); }, kTolerance);
}

TEST_CASE("rounded dense product: f32, f16 and bf16 weights") {
  for (const Shape& s : kShapes) {
    const size_t tokens = s.n, x_stride = s.k + 3, y_stride = s.m + 1;
    const std::vector<float> values = ShortFloats(s.m * s.k, 4);
    const OddArray<float> single(values);
    OddArray<uint16_t> half(values.size()), brief(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      half[i] = kernels::F16FromF32(values[i]);
      brief[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(values[i]) >> 16);
    }
    const OddArray<float> x(ShortFloats((tokens - 1) * x_stride + s.k, 5));
    const std::vector<float> bias = RandomFloats(s.m, 6);
    const std::pair<kernels::ElementType, const void*> stored[] = {
        {kernels::ElementType::kF32, single.data()},
        {kernels::ElementType::kF16, half.data()},
        {kernels::ElementType::kBF16, brief.data()}};
    for (const auto& [type, data] : stored) {
      kernels::DenseMatrix w;
      w.data = data;
      w.type = type;
      w.rows = s.m;
      w.columns = s.k;
      w.bias = bias.data();
      w.precision = Precision::kRounded;
      ForEachTarget([&] {
        OddArray<float> y((tokens - 1) * y_stride + s.m);
        kernels::DenseProduct(w, x.data(), tokens, x_stride, y.data(), y_stride);
        double worst = 0;
        for (size_t t = 0; t < tokens; ++t) {
          for (size_t r = 0; r < s.m; ++r) {
            Sum sum;
            sum.Add(bias[r], 1.0f);
            for (size_t c = 0; c < s.k; ++c) sum.Add(values[r * s.k + c], x[t * x_stride + c]);
            worst = std::max(worst, sum.ErrorOf(static_cast<double>(y[t * y_stride + r])));
          }
          if (t + 1 < tokens) REQUIRE(y[t * y_stride + s.m] == 0.0f);
        }
        INFO("rows " << s.m << " tokens " << tokens << " columns " << s.k);
        CHECK(worst <= 8 * 0x1p-24);
      });
    }
  }
}

TEST_CASE("rounded Gram and cross moments") {
  for (const auto& [m, n, tokens] : {Shape{5, 19, 600}, {33, 33, 31}, {70, 100, 64}, {1, 1, 1}}) {
    const std::vector<float> e = ShortFloats(tokens * m, 7);
    const std::vector<float> x = ShortFloats(tokens * n, 8);
    ForEachTarget([&, m = m, n = n, tokens = tokens] {
      std::vector<double> cross(m * n, 2.0), gram(n * n, -7.0);
      kernels::AccumulateCross(e.data(), m, x.data(), n, tokens, cross.data(), Precision::kRounded);
      kernels::AccumulateGramUpper(x.data(), tokens, n, n, gram.data(), Precision::kRounded);
      double worst = 0;
      bool below_untouched = true;
      for (size_t j = 0; j < n; ++j) {
        for (size_t i = 0; i < std::max(m, n); ++i) {
          Sum cross_sum, gram_sum;
          cross_sum.Add(2.0f, 1.0f);
          gram_sum.Add(-7.0f, 1.0f);
          for (size_t t = 0; t < tokens; ++t) {
            if (i < m) cross_sum.Add(e[t * m + i], x[t * n + j]);
            if (i < n) gram_sum.Add(x[t * n + i], x[t * n + j]);
          }
          if (i < m) worst = std::max(worst, cross_sum.ErrorOf(cross[i * n + j]));
          if (i <= j) worst = std::max(worst, gram_sum.ErrorOf(gram[i * n + j]));
          if (i > j && i < n) below_untouched = below_untouched && gram[i * n + j] == -7.0;
        }
      }
      INFO("m " << m << " n " << n << " tokens " << tokens);
      CHECK(worst <= 32 * 0x1p-24);
      CHECK(below_untouched);
    });
  }
}

TEST_CASE("rounded products have the same bits for any thread count and any batch") {
  const size_t m = 300, n = 131, k = 257;
  const std::vector<float> a = RandomFloats(m * k, 5), b = RandomFloats(k * n, 6);
  const auto product = [&](size_t threads, size_t rows) {
    kernels::SetThreads(threads);
    std::vector<float> c(m * n);
    for (size_t first = 0; first < m; first += rows) {
      kernels::MatMul(&a[first * k], k, b.data(), n, &c[first * n], n, std::min(rows, m - first), n,
                      k, false, Precision::kRounded);
    }
    kernels::SetThreads(0);
    return c;
  };
  const std::vector<float> whole = product(1, m);
  CHECK(SameBits(whole, product(3, m)));
  CHECK(SameBits(whole, product(2, 7)));
}

TEST_CASE("tile products follow the forced target") {
  const bool available = kernels::TileProductsAvailable();
  REQUIRE(kernels::ForceTarget("SCALAR"));
  CHECK_FALSE(kernels::TileProductsAvailable());
  kernels::ForceTarget("");
  CHECK(kernels::TileProductsAvailable() == available);
}

}  // namespace
}  // namespace sdq::test
