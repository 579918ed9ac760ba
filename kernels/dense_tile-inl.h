// The register tile of the batched dense product: 4 rows x kTileTokens tokens, vectors along the
// columns, one accumulator per element. Written out, not looped, because vectors of scalable
// targets cannot be array elements.
#if defined(SDQ_KERNELS_DENSE_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_DENSE_TILE_INL_H_
#undef SDQ_KERNELS_DENSE_TILE_INL_H_
#else
#define SDQ_KERNELS_DENSE_TILE_INL_H_
#endif

#include <cstddef>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {

inline constexpr size_t kGroupRows = 4;

// Adds v to (first pass: sets) the vector at p.
HWY_INLINE void Deposit(FloatTag d, FloatVec v, bool first, float* p) {
  hn::StoreU(first ? v : hn::Add(hn::LoadU(d, p), v), d, p);
}

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SSSE3 || \
    HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

// Sixteen vector registers: twelve accumulators, the tokens' vectors and one of the rows'.
inline constexpr size_t kTileTokens = 3;

// sums[row][token] (+)= sum over steps of w[step][row] * x[step][token], vectors all.
HWY_INLINE void TilePass(const float* w, const float* x, size_t steps, bool first, float* sums) {
  const FloatTag d;
  const size_t n = hn::Lanes(d);
  FloatVec s00 = hn::Zero(d), s01 = hn::Zero(d), s02 = hn::Zero(d);
  FloatVec s10 = hn::Zero(d), s11 = hn::Zero(d), s12 = hn::Zero(d);
  FloatVec s20 = hn::Zero(d), s21 = hn::Zero(d), s22 = hn::Zero(d);
  FloatVec s30 = hn::Zero(d), s31 = hn::Zero(d), s32 = hn::Zero(d);
  for (size_t step = 0; step < steps; ++step, w += 4 * n, x += 3 * n) {
    const FloatVec x0 = hn::LoadU(d, x);
    const FloatVec x1 = hn::LoadU(d, x + n);
    const FloatVec x2 = hn::LoadU(d, x + 2 * n);
    const FloatVec w0 = hn::LoadU(d, w);
    s00 = hn::MulAdd(w0, x0, s00);
    s01 = hn::MulAdd(w0, x1, s01);
    s02 = hn::MulAdd(w0, x2, s02);
    const FloatVec w1 = hn::LoadU(d, w + n);
    s10 = hn::MulAdd(w1, x0, s10);
    s11 = hn::MulAdd(w1, x1, s11);
    s12 = hn::MulAdd(w1, x2, s12);
    const FloatVec w2 = hn::LoadU(d, w + 2 * n);
    s20 = hn::MulAdd(w2, x0, s20);
    s21 = hn::MulAdd(w2, x1, s21);
    s22 = hn::MulAdd(w2, x2, s22);
    const FloatVec w3 = hn::LoadU(d, w + 3 * n);
    s30 = hn::MulAdd(w3, x0, s30);
    s31 = hn::MulAdd(w3, x1, s31);
    s32 = hn::MulAdd(w3, x2, s32);
  }
  Deposit(d, s00, first, sums);
  Deposit(d, s01, first, sums + n);
  Deposit(d, s02, first, sums + 2 * n);
  Deposit(d, s10, first, sums + 3 * n);
  Deposit(d, s11, first, sums + 4 * n);
  Deposit(d, s12, first, sums + 5 * n);
  Deposit(d, s20, first, sums + 6 * n);
  Deposit(d, s21, first, sums + 7 * n);
  Deposit(d, s22, first, sums + 8 * n);
  Deposit(d, s30, first, sums + 9 * n);
  Deposit(d, s31, first, sums + 10 * n);
  Deposit(d, s32, first, sums + 11 * n);
}

#else  // thirty-two vector registers

inline constexpr size_t kTileTokens = 4;

HWY_INLINE void TilePass(const float* w, const float* x, size_t steps, bool first, float* sums) {
  const FloatTag d;
  const size_t n = hn::Lanes(d);
  FloatVec s00 = hn::Zero(d), s01 = hn::Zero(d), s02 = hn::Zero(d), s03 = hn::Zero(d);
  FloatVec s10 = hn::Zero(d), s11 = hn::Zero(d), s12 = hn::Zero(d), s13 = hn::Zero(d);
  FloatVec s20 = hn::Zero(d), s21 = hn::Zero(d), s22 = hn::Zero(d), s23 = hn::Zero(d);
  FloatVec s30 = hn::Zero(d), s31 = hn::Zero(d), s32 = hn::Zero(d), s33 = hn::Zero(d);
  for (size_t step = 0; step < steps; ++step, w += 4 * n, x += 4 * n) {
    const FloatVec x0 = hn::LoadU(d, x);
    const FloatVec x1 = hn::LoadU(d, x + n);
    const FloatVec x2 = hn::LoadU(d, x + 2 * n);
    const FloatVec x3 = hn::LoadU(d, x + 3 * n);
    const FloatVec w0 = hn::LoadU(d, w);
    s00 = hn::MulAdd(w0, x0, s00);
    s01 = hn::MulAdd(w0, x1, s01);
    s02 = hn::MulAdd(w0, x2, s02);
    s03 = hn::MulAdd(w0, x3, s03);
    const FloatVec w1 = hn::LoadU(d, w + n);
    s10 = hn::MulAdd(w1, x0, s10);
    s11 = hn::MulAdd(w1, x1, s11);
    s12 = hn::MulAdd(w1, x2, s12);
    s13 = hn::MulAdd(w1, x3, s13);
    const FloatVec w2 = hn::LoadU(d, w + 2 * n);
    s20 = hn::MulAdd(w2, x0, s20);
    s21 = hn::MulAdd(w2, x1, s21);
    s22 = hn::MulAdd(w2, x2, s22);
    s23 = hn::MulAdd(w2, x3, s23);
    const FloatVec w3 = hn::LoadU(d, w + 3 * n);
    s30 = hn::MulAdd(w3, x0, s30);
    s31 = hn::MulAdd(w3, x1, s31);
    s32 = hn::MulAdd(w3, x2, s32);
    s33 = hn::MulAdd(w3, x3, s33);
  }
  Deposit(d, s00, first, sums);
  Deposit(d, s01, first, sums + n);
  Deposit(d, s02, first, sums + 2 * n);
  Deposit(d, s03, first, sums + 3 * n);
  Deposit(d, s10, first, sums + 4 * n);
  Deposit(d, s11, first, sums + 5 * n);
  Deposit(d, s12, first, sums + 6 * n);
  Deposit(d, s13, first, sums + 7 * n);
  Deposit(d, s20, first, sums + 8 * n);
  Deposit(d, s21, first, sums + 9 * n);
  Deposit(d, s22, first, sums + 10 * n);
  Deposit(d, s23, first, sums + 11 * n);
  Deposit(d, s30, first, sums + 12 * n);
  Deposit(d, s31, first, sums + 13 * n);
  Deposit(d, s32, first, sums + 14 * n);
  Deposit(d, s33, first, sums + 15 * n);
}

#endif

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_DENSE_TILE_INL_H_
