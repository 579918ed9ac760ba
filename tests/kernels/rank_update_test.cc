#include "kernels/rank_update.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/kernels/dense_support.h"

namespace sdq::test {
namespace {

TEST_CASE("rank update: exact on and above the diagonal on every target, nothing elsewhere") {
  constexpr size_t kStripe = kernels::kUpdateStripe;
  for (const size_t size : {0u, 16u, 64u, 112u}) {
    for (const size_t depth : {1u, 7u, 64u}) {
      const size_t n = size + 5;
      const std::vector<float> random = RandomFloats(size * depth, 3);
      const std::vector<double> packed(random.begin(), random.end());
      const auto p = [&](size_t k, size_t i) {
        return packed[(i / kStripe * depth + k) * kStripe + i % kStripe];
      };
      ForEachTarget([&] {
        for (const size_t threads : {1u, 3u}) {
          kernels::SetThreads(threads);
          std::vector<double> m(n * n, 1.0);
          kernels::SubtractOwnProduct(packed.data(), depth, size, n, m.data());
          double worst = 0;
          bool kept = true;
          for (size_t i = 0; i < n; ++i) {
            for (size_t j = i; j < n; ++j) {
              double expected = 1.0;
              for (size_t k = 0; k < depth && j < size; ++k) expected -= p(k, i) * p(k, j);
              worst = std::max(worst, std::abs(m[i * n + j] - expected));
              kept = kept && (j < size || m[i * n + j] == 1.0);
            }
          }
          INFO("size " << size << " depth " << depth << " threads " << threads);
          CHECK(worst < 1e-12);
          CHECK(kept);
        }
        kernels::SetThreads(0);
      });
    }
  }
}

}  // namespace
}  // namespace sdq::test
