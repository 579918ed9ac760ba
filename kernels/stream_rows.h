// What the products of one token and of several share: rows, tiles and their factors.
#ifndef SDQ_KERNELS_STREAM_ROWS_H_
#define SDQ_KERNELS_STREAM_ROWS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/float16.h"
#include "kernels/stream_layout.h"
#include "kernels/stream_product.h"

namespace sdq::kernels {

inline size_t Tiles(const StreamMatrix& w) { return (w.rows + kTileRows - 1) / kTileRows; }

// Of `groups` groups of tiles with `bytes` of cached bits, times tokens, in all: how many are worth
// a hand-off to another thread, which takes about as long as 48 KB do.
inline size_t WorthHandingOut(size_t groups, size_t bytes) {
  const size_t pieces = bytes / (size_t{48} << 10);
  return groups / std::clamp<size_t>(pieces, 1, std::max<size_t>(groups, 1));
}

// out = base times f16 values, `stride` apart.
inline void WidenFactors(const uint16_t* f16, size_t stride, size_t count, float base, float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = base * F32FromF16(f16[i * stride]);
}

// The sum of a token's block sums, for rows with one mean. header: scales, then block sums.
inline float SumOfBlocks(const StreamLayout& layout, const float* header) {
  float sum = 0.0f;
  for (size_t b = 0; b < layout.blocks; ++b) sum += header[layout.segments.size() + b];
  return sum;
}

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_STREAM_ROWS_H_
