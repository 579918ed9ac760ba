// C (+)= A B in f32. Every element of C is summed over depth in blocks of kPanelDepth, ascending
// inside a block, block sums added in order: an order that depends on k alone.
#include <algorithm>
#include <cstddef>

#include "kernels/aligned_buffer.h"
#include "kernels/dense.h"
#include "kernels/parallel.h"
#include "kernels/tile_product.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/gemm-inl.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {

// Columns of B packed at a time: kPanelDepth x kBlockColumns floats are 1 MiB.
inline constexpr size_t kBlockColumns = 1024;
// Row panels of A packed at a time by a thread: 16 x kPanelRows x kPanelDepth floats are 96 KiB.
inline constexpr size_t kBlockPanels = 16;

struct Destination {
  float* c;
  size_t ldc;
  bool accumulate;
};

// Writes the part of a tile that lies inside C.
HWY_INLINE void StoreTile(const float* tile, size_t width, size_t rows, size_t columns,
                          const Destination& to) {
  for (size_t r = 0; r < rows; ++r) {
    float* c = to.c + r * to.ldc;
    const float* t = tile + r * width;
    if (to.accumulate) {
      for (size_t j = 0; j < columns; ++j) c[j] += t[j];
    } else {
      for (size_t j = 0; j < columns; ++j) c[j] = t[j];
    }
  }
}

// One block of columns and depth. `b` is packed in panels of width PanelColumns().
struct Block {
  const float* a;  // A at the block's depth
  size_t lda;
  const float* b;
  size_t rows;     // of C
  size_t columns;  // of C in this block
  size_t depth;
};

// Row panels [begin, end).
void MultiplyRowPanels(const Block& block, size_t begin, size_t end, const Destination& to,
                       float* packed_a) {
  const size_t width = PanelColumns();
  HWY_ALIGN float tile[kMaxTile];
  for (size_t first = begin; first < end; first += kBlockPanels) {
    const size_t last = std::min(end, first + kBlockPanels);
    for (size_t p = first; p < last; ++p) {
      PackRows(block.a + p * kPanelRows * block.lda, block.lda,
               std::min(kPanelRows, block.rows - p * kPanelRows), block.depth,
               packed_a + (p - first) * kPanelRows * kPanelDepth);
    }
    for (size_t j = 0; j < block.columns; j += width) {
      for (size_t p = first; p < last; ++p) {
        const size_t row = p * kPanelRows;
        MultiplyPanels(packed_a + (p - first) * kPanelRows * kPanelDepth, block.b + j * block.depth,
                       block.depth, tile);
        StoreTile(tile, width, std::min(kPanelRows, block.rows - row),
                  std::min(width, block.columns - j),
                  Destination{to.c + row * to.ldc + j, to.ldc, to.accumulate});
      }
    }
  }
}

void MatMulTarget(const float* a, size_t lda, const float* b, size_t ldb, float* c, size_t ldc,
                  size_t m, size_t n, size_t k, bool accumulate) {
  const size_t width = PanelColumns();
  const size_t max_depth = std::min(k, kPanelDepth);
  const size_t max_columns = (std::min(n, kBlockColumns) + width - 1) / width * width;
  const AlignedFloats packed_b(max_columns * max_depth);
  constexpr size_t kThreadFloats = kBlockPanels * kPanelRows * kPanelDepth;
  const AlignedFloats packed_a(Threads() * kThreadFloats);
  const size_t row_panels = (m + kPanelRows - 1) / kPanelRows;
  for (size_t j = 0; j < n; j += kBlockColumns) {
    const size_t columns = std::min(kBlockColumns, n - j);
    for (size_t p = 0; p < k; p += kPanelDepth) {
      const size_t depth = std::min(kPanelDepth, k - p);
      ParallelFor((columns + width - 1) / width, 4, [&](size_t begin, size_t end, size_t) {
        for (size_t i = begin; i < end; ++i) {
          PackColumns(b + p * ldb + j + i * width, ldb, depth, std::min(width, columns - i * width),
                      width, packed_b.data() + i * width * depth);
        }
      });
      const Block block{a + p, lda, packed_b.data(), m, columns, depth};
      const Destination to{c + j, ldc, accumulate || p > 0};
      ParallelFor(row_panels, 1, [&](size_t begin, size_t end, size_t thread) {
        MultiplyRowPanels(block, begin, end, to, packed_a.data() + thread * kThreadFloats);
      });
    }
  }
}

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sdq::kernels {

HWY_EXPORT(MatMulTarget);

void MatMul(const float* a, size_t lda, const float* b, size_t ldb, float* c, size_t ldc, size_t m,
            size_t n, size_t k, bool accumulate, Precision precision) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    for (size_t i = 0; i < m && !accumulate; ++i) std::fill_n(c + i * ldc, n, 0.0f);
    return;
  }
  if (precision == Precision::kRounded && TileProductsAvailable()) {
    return TileMatMul(a, lda, b, ldb, c, ldc, m, n, k, accumulate);
  }
  HWY_DYNAMIC_DISPATCH(MatMulTarget)(a, lda, b, ldb, c, ldc, m, n, k, accumulate);
}

}  // namespace sdq::kernels
#endif  // HWY_ONCE
