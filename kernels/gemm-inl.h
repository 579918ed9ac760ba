// Packed panels and the register tile of the outer-product matrix product (Goto & van de Geijn,
// "Anatomy of High-Performance Matrix Multiplication", 2008): 6 rows x 2 vectors of columns, one
// accumulator per element vector, depth ascending. Twelve accumulators fit sixteen registers and
// cover the latency of two FMA pipes.
#if defined(SDQ_KERNELS_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_GEMM_INL_H_
#undef SDQ_KERNELS_GEMM_INL_H_
#else
#define SDQ_KERNELS_GEMM_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {

inline constexpr size_t kPanelRows = 6;
inline constexpr size_t kPanelDepth = 256;  // sums of one register tile
inline constexpr size_t kMaxTile = kPanelRows * 2 * kMaxFloats;

HWY_INLINE size_t PanelColumns() { return 2 * hn::Lanes(FloatTag()); }

// Copies `depth` x `columns` (at most `width`) values at src into packed[depth][width], zeros
// behind the columns.
HWY_INLINE void PackColumns(const float* src, size_t stride, size_t depth, size_t columns,
                            size_t width, float* packed) {
  for (size_t k = 0; k < depth; ++k, src += stride, packed += width) {
    std::memcpy(packed, src, columns * sizeof(float));
    std::fill(packed + columns, packed + width, 0.0f);
  }
}

// Transposes `rows` (at most kPanelRows) x `depth` values at src into packed[depth][kPanelRows].
HWY_INLINE void PackRows(const float* src, size_t stride, size_t rows, size_t depth,
                         float* packed) {
  for (size_t r = 0; r < kPanelRows; ++r) {
    for (size_t k = 0; k < depth; ++k) {
      packed[k * kPanelRows + r] = r < rows ? src[r * stride + k] : 0.0f;
    }
  }
}

// tile[kPanelRows][PanelColumns()] = sum over k < depth of a[k][row] * b[k][column].
HWY_INLINE void MultiplyPanels(const float* a, const float* b, size_t depth, float* tile) {
  const FloatTag d;
  const size_t n = hn::Lanes(d);
  FloatVec s00 = hn::Zero(d), s01 = hn::Zero(d);
  FloatVec s10 = hn::Zero(d), s11 = hn::Zero(d);
  FloatVec s20 = hn::Zero(d), s21 = hn::Zero(d);
  FloatVec s30 = hn::Zero(d), s31 = hn::Zero(d);
  FloatVec s40 = hn::Zero(d), s41 = hn::Zero(d);
  FloatVec s50 = hn::Zero(d), s51 = hn::Zero(d);
  for (size_t k = 0; k < depth; ++k, a += kPanelRows, b += 2 * n) {
    const FloatVec b0 = hn::LoadU(d, b);
    const FloatVec b1 = hn::LoadU(d, b + n);
    const FloatVec a0 = hn::Set(d, a[0]);
    s00 = hn::MulAdd(a0, b0, s00);
    s01 = hn::MulAdd(a0, b1, s01);
    const FloatVec a1 = hn::Set(d, a[1]);
    s10 = hn::MulAdd(a1, b0, s10);
    s11 = hn::MulAdd(a1, b1, s11);
    const FloatVec a2 = hn::Set(d, a[2]);
    s20 = hn::MulAdd(a2, b0, s20);
    s21 = hn::MulAdd(a2, b1, s21);
    const FloatVec a3 = hn::Set(d, a[3]);
    s30 = hn::MulAdd(a3, b0, s30);
    s31 = hn::MulAdd(a3, b1, s31);
    const FloatVec a4 = hn::Set(d, a[4]);
    s40 = hn::MulAdd(a4, b0, s40);
    s41 = hn::MulAdd(a4, b1, s41);
    const FloatVec a5 = hn::Set(d, a[5]);
    s50 = hn::MulAdd(a5, b0, s50);
    s51 = hn::MulAdd(a5, b1, s51);
  }
  hn::StoreU(s00, d, tile);
  hn::StoreU(s01, d, tile + n);
  hn::StoreU(s10, d, tile + 2 * n);
  hn::StoreU(s11, d, tile + 3 * n);
  hn::StoreU(s20, d, tile + 4 * n);
  hn::StoreU(s21, d, tile + 5 * n);
  hn::StoreU(s30, d, tile + 6 * n);
  hn::StoreU(s31, d, tile + 7 * n);
  hn::StoreU(s40, d, tile + 8 * n);
  hn::StoreU(s41, d, tile + 9 * n);
  hn::StoreU(s50, d, tile + 10 * n);
  hn::StoreU(s51, d, tile + 11 * n);
}

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_GEMM_INL_H_
