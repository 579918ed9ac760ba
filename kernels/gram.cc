// H += X^T X. Chunks of at most kPanelDepth tokens are multiplied in f32 register tiles and added
// to H in f64; tiles below the diagonal are skipped and copied from above at the end.
#include <algorithm>
#include <cstddef>

#include "hwy/cache_control.h"
#include "kernels/aligned_buffer.h"
#include "kernels/dense.h"
#include "kernels/parallel.h"
#include "kernels/tile_product.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gram.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/gemm-inl.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {

// A chunk of tokens packed twice: as left operand in panels of kPanelRows columns of X, as right
// operand in panels of PanelColumns().
struct Chunk {
  const float* left;
  const float* right;
  size_t depth;
  size_t n;
};

void PackChunk(const float* x, size_t x_stride, size_t depth, size_t n, size_t width, float* to) {
  ParallelFor((n + width - 1) / width, 8, [&](size_t begin, size_t end, size_t) {
    for (size_t p = begin; p < end; ++p) {
      PackColumns(x + p * width, x_stride, depth, std::min(width, n - p * width), width,
                  to + p * width * depth);
    }
  });
}

// Fetches the tile's part of H, which is far larger than a cache, while its product is computed.
HWY_INLINE void PrefetchTile(const double* h, size_t n, size_t rows, size_t columns) {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; c += 8) hwy::Prefetch(h + r * n + c);
  }
}

// H's columns of right panel `panel`, on and above the diagonal.
void AddPanel(const Chunk& chunk, size_t panel, double* h) {
  const size_t width = PanelColumns();
  const size_t n = chunk.n;
  const size_t first_column = panel * width;
  const size_t columns = std::min(width, n - first_column);
  const float* right = chunk.right + first_column * chunk.depth;
  HWY_ALIGN float tile[kMaxTile];
  for (size_t row = 0; row < first_column + columns; row += kPanelRows) {
    const size_t rows = std::min(kPanelRows, n - row);
    double* to = h + row * n + first_column;
    PrefetchTile(to, n, rows, columns);
    MultiplyPanels(chunk.left + row * chunk.depth, right, chunk.depth, tile);
    for (size_t r = 0; r < rows; ++r) {
      const size_t skip = row + r > first_column ? row + r - first_column : 0;
      for (size_t c = skip; c < columns; ++c) {
        to[r * n + c] += static_cast<double>(tile[r * width + c]);
      }
    }
  }
}

void AddChunk(const Chunk& chunk, double* h) {
  // A panel's work grows with its index: pairs of one from each end are of equal size.
  const size_t panels = (chunk.n + PanelColumns() - 1) / PanelColumns();
  ParallelFor((panels + 1) / 2, 1, [&](size_t begin, size_t end, size_t) {
    for (size_t p = begin; p < end; ++p) {
      AddPanel(chunk, p, h);
      if (panels - 1 - p != p) AddPanel(chunk, panels - 1 - p, h);
    }
  });
}

void AddGramTarget(const float* x, size_t tokens, size_t n, size_t x_stride, double* h) {
  const size_t width = PanelColumns();
  const size_t max_depth = std::min(tokens, kPanelDepth);
  const AlignedFloats left((n + kPanelRows - 1) / kPanelRows * kPanelRows * max_depth);
  const AlignedFloats right((n + width - 1) / width * width * max_depth);
  for (size_t t = 0; t < tokens; t += kPanelDepth) {
    const Chunk chunk{left.data(), right.data(), std::min(kPanelDepth, tokens - t), n};
    PackChunk(x + t * x_stride, x_stride, chunk.depth, n, kPanelRows, left.data());
    PackChunk(x + t * x_stride, x_stride, chunk.depth, n, width, right.data());
    AddChunk(chunk, h);
  }
}

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sdq::kernels {

HWY_EXPORT(AddGramTarget);

namespace {

inline constexpr size_t kMirrorBlock = 32;

// Rows [block * kMirrorBlock, ...) below the diagonal.
void MirrorBlockRow(size_t block, size_t n, double* h) {
  const size_t row_end = std::min(n, (block + 1) * kMirrorBlock);
  for (size_t first = 0; first < row_end; first += kMirrorBlock) {
    for (size_t r = block * kMirrorBlock; r < row_end; ++r) {
      const size_t last = std::min(first + kMirrorBlock, r);
      for (size_t c = first; c < last; ++c) h[r * n + c] = h[c * n + r];
    }
  }
}

}  // namespace

void AccumulateGramUpper(const float* x, size_t tokens, size_t n, size_t x_stride, double* h,
                         Precision precision) {
  if (tokens == 0 || n == 0) return;
  if (precision == Precision::kRounded && TileProductsAvailable()) {
    return TileAddCross(x, n, x_stride, x, n, x_stride, tokens, /*upper=*/true, h);
  }
  HWY_DYNAMIC_DISPATCH(AddGramTarget)(x, tokens, n, x_stride, h);
}

void MirrorUpper(size_t n, double* h) {
  const size_t blocks = (n + kMirrorBlock - 1) / kMirrorBlock;
  ParallelFor((blocks + 1) / 2, 4, [&](size_t begin, size_t end, size_t) {
    for (size_t b = begin; b < end; ++b) {
      MirrorBlockRow(b, n, h);
      if (blocks - 1 - b != b) MirrorBlockRow(blocks - 1 - b, n, h);
    }
  });
}

void AccumulateGram(const float* x, size_t tokens, size_t n, size_t x_stride, double* h) {
  AccumulateGramUpper(x, tokens, n, x_stride, h);
  MirrorUpper(n, h);
}

}  // namespace sdq::kernels
#endif  // HWY_ONCE
