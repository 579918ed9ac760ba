#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/dense.h"
#include "tests/kernels/dense_support.h"

namespace sdq::test {
namespace {

struct Shape {
  size_t m, n, k;
};

// Sizes around the register tile, the packed blocks and the depth of a panel.
const Shape kShapes[] = {{1, 1, 1},      {2, 3, 5},    {5, 31, 7},    {6, 32, 16},
                         {7, 33, 257},   {13, 65, 64}, {97, 17, 300}, {100, 129, 33},
                         {12, 1030, 20}, {1, 40, 600}, {64, 1, 3},    {33, 64, 512}};

TEST_CASE("matrix product equals the exact one on every target") {
  for (const Shape& s : kShapes) {
    const size_t lda = s.k + 1, ldb = s.n + 3, ldc = s.n + 2;
    const OddArray<float> a(RandomFloats((s.m - 1) * lda + s.k, 1));
    const OddArray<float> b(RandomFloats((s.k - 1) * ldb + s.n, 2));
    const std::vector<float> before = RandomFloats((s.m - 1) * ldc + s.n, 3);
    std::vector<double> exact(s.m * s.n), magnitude(s.m * s.n);
    for (size_t i = 0; i < s.m; ++i) {
      for (size_t p = 0; p < s.k; ++p) {
        for (size_t j = 0; j < s.n; ++j) {
          const double term =
              static_cast<double>(a[i * lda + p]) * static_cast<double>(b[p * ldb + j]);
          exact[i * s.n + j] += term;
          magnitude[i * s.n + j] += std::abs(term);
        }
      }
    }
    for (const bool accumulate : {false, true}) {
      ForEachTarget([&] {
        INFO("m " << s.m << " n " << s.n << " k " << s.k << " accumulate " << accumulate);
        OddArray<float> c(before);
        kernels::MatMul(a.data(), lda, b.data(), ldb, c.data(), ldc, s.m, s.n, s.k, accumulate);
        double worst = 0.0;
        for (size_t i = 0; i < s.m; ++i) {
          for (size_t j = 0; j < s.n; ++j) {
            const double start = accumulate ? static_cast<double>(before[i * ldc + j]) : 0.0;
            const double error =
                std::abs(static_cast<double>(c[i * ldc + j]) - exact[i * s.n + j] - start);
            worst = std::max(worst, error / (magnitude[i * s.n + j] + std::abs(start)));
          }
          for (size_t j = s.n; j < ldc && i + 1 < s.m; ++j) {
            REQUIRE(c[i * ldc + j] == before[i * ldc + j]);
          }
        }
        CHECK(worst <= 8 * 0x1p-24);
      });
    }
  }
}

TEST_CASE("matrix product: empty depth clears or keeps C") {
  std::vector<float> c = {1, 2, 3, 4};
  kernels::MatMul(nullptr, 0, nullptr, 2, c.data(), 2, 2, 2, 0, true);
  CHECK(c == std::vector<float>{1, 2, 3, 4});
  kernels::MatMul(nullptr, 0, nullptr, 2, c.data(), 2, 2, 1, 0, false);
  CHECK(c == std::vector<float>{0, 2, 0, 4});
}

TEST_CASE("matrix product and Gram matrix have the same bits for any thread count") {
  const size_t m = 101, n = 131, k = 300;
  const std::vector<float> a = RandomFloats(m * k, 5);
  const std::vector<float> b = RandomFloats(k * n, 6);
  ForEachTarget([&] {
    std::vector<float> first_c;
    std::vector<double> first_h;
    for (const size_t threads : {1u, 2u, 3u}) {
      kernels::SetThreads(threads);
      std::vector<float> c(m * n);
      std::vector<double> h(n * n);
      kernels::MatMul(a.data(), k, b.data(), n, c.data(), n, m, n, k, false);
      kernels::AccumulateGram(b.data(), k, n, n, h.data());
      if (threads == 1) {
        first_c = c;
        first_h = h;
      }
      CHECK(SameBits(c, first_c));
      CHECK(h == first_h);
    }
    kernels::SetThreads(0);
  });
}

TEST_CASE("Gram matrix equals the exact one, is symmetric and adds up over calls") {
  for (const size_t n : {1u, 2u, 6u, 7u, 17u, 33u, 67u}) {
    for (const size_t tokens : {1u, 3u, 256u, 257u, 600u}) {
      const size_t stride = n + 1;
      const OddArray<float> x(RandomFloats((tokens - 1) * stride + n, 9));
      std::vector<double> exact(n * n), magnitude(n * n);
      for (size_t t = 0; t < tokens; ++t) {
        for (size_t i = 0; i < n; ++i) {
          for (size_t j = 0; j < n; ++j) {
            const double term =
                static_cast<double>(x[t * stride + i]) * static_cast<double>(x[t * stride + j]);
            exact[i * n + j] += term;
            magnitude[i * n + j] += std::abs(term);
          }
        }
      }
      ForEachTarget([&] {
        INFO("n " << n << " tokens " << tokens);
        std::vector<double> h(n * n);
        kernels::AccumulateGram(x.data(), tokens, n, stride, h.data());
        const std::vector<double> once = h;
        kernels::AccumulateGram(x.data(), tokens, n, stride, h.data());
        double worst = 0.0;
        bool symmetric = true;
        for (size_t i = 0; i < n; ++i) {
          for (size_t j = 0; j < n; ++j) {
            const size_t at = i * n + j;
            worst = std::max(worst, std::abs(once[at] - exact[at]) / magnitude[at]);
            worst = std::max(worst, std::abs(h[at] - 2 * exact[at]) / (2 * magnitude[at]));
            symmetric = symmetric && h[at] == h[j * n + i];
          }
        }
        CHECK(symmetric);
        // Partial sums of at most 256 terms in f32, then f64.
        CHECK(worst <= 16 * 0x1p-24);
      });
    }
  }
}

}  // namespace
}  // namespace sdq::test
