#include <algorithm>
#include <vector>

#include "kernels/dense.h"
#include "kernels/parallel.h"
#include "kernels/tile_product.h"

namespace sdq::kernels {
namespace {

constexpr size_t kChunkTokens = 256;

// to[m][tokens] = from[tokens][m]^T
void Transpose(const float* from, size_t tokens, size_t m, float* to) {
  ParallelFor(m, 16, [&](size_t begin, size_t end, size_t) {
    for (size_t i = begin; i < end; ++i) {
      for (size_t t = 0; t < tokens; ++t) to[i * tokens + t] = from[t * m + i];
    }
  });
}

}  // namespace

void AccumulateCross(const float* e, size_t m, const float* x, size_t n, size_t tokens,
                     double* sums, Precision precision) {
  if (precision == Precision::kRounded && TileProductsAvailable()) {
    if (tokens > 0) TileAddCross(e, m, m, x, n, n, tokens, /*upper=*/false, sums);
    return;
  }
  std::vector<float> transposed(m * std::min(tokens, kChunkTokens));
  std::vector<float> product(m * n);
  for (size_t first = 0; first < tokens; first += kChunkTokens) {
    const size_t count = std::min(kChunkTokens, tokens - first);
    Transpose(e + first * m, count, m, transposed.data());
    MatMul(transposed.data(), count, x + first * n, n, product.data(), n, m, n, count, false);
    ParallelFor(m * n, size_t{1} << 14, [&](size_t begin, size_t end, size_t) {
      for (size_t i = begin; i < end; ++i) sums[i] += double(product[i]);
    });
  }
}

}  // namespace sdq::kernels
