// What the products of one token and of several share: rows, tiles and their factors.
#ifndef SDQ_KERNELS_STREAM_ROWS_H_
#define SDQ_KERNELS_STREAM_ROWS_H_

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

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

// out = base times f16 values, `stride` apart, which are finite, so that the conversion decides
// nothing and runs in vectors.
inline void WidenFactors(const uint16_t* f16, size_t stride, size_t count, float base, float* out) {
  for (size_t i = 0; i < count; ++i) {
    const uint32_t half = f16[i * stride];
    const float magnitude = std::bit_cast<float>((half & 0x7fffu) << 13) * 0x1p112f;
    const uint32_t sign = (half & 0x8000u) << 16;
    out[i] = base * std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
}

// The sum of a token's block sums, for rows with one mean. header: scales, then block sums.
inline float SumOfBlocks(const StreamLayout& layout, const float* header) {
  float sum = 0.0f;
  for (size_t b = 0; b < layout.blocks; ++b) sum += header[layout.segments.size() + b];
  return sum;
}

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_STREAM_ROWS_H_
