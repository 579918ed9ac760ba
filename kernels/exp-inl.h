// e^x in f32 vectors.
#if defined(SDQ_KERNELS_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_EXP_INL_H_
#undef SDQ_KERNELS_EXP_INL_H_
#else
#define SDQ_KERNELS_EXP_INL_H_
#endif

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {

// Within 2 units in the last place, subnormal results included; 0 and infinity beyond the range;
// NaN for NaN. e^x = 2^n e^r with |r| <= ln(2) / 2, where the Taylor series of degree 7 leaves a
// relative error below 2^-27.
HWY_INLINE FloatVec Exp(FloatTag d, FloatVec x) {
  const auto is_number = hn::Eq(x, x);
  // e^-105 rounds to 0 and e^89 to infinity.
  const FloatVec in_range = hn::Min(hn::Max(x, hn::Set(d, -105.0f)), hn::Set(d, 89.0f));
  // Sums with this are whole numbers, which their low bits count.
  const FloatVec whole = hn::Set(d, 0x1.8p+23f);
  const FloatVec shifted = hn::MulAdd(in_range, hn::Set(d, 0x1.715476p+0f), whole);
  const FloatVec n = hn::Sub(shifted, whole);
  // ln 2 in two parts, the first so short that its product with n is exact.
  FloatVec r = hn::NegMulAdd(n, hn::Set(d, 0x1.62e4p-1f), in_range);
  r = hn::NegMulAdd(n, hn::Set(d, 0x1.7f7d1cp-20f), r);
  FloatVec p = hn::Set(d, 1.0f / 5040.0f);
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 720.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 120.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 24.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 6.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
  p = hn::MulAdd(p, hn::Mul(r, r), r);
  p = hn::Add(p, hn::Set(d, 1.0f));
#if HWY_TARGET == HWY_AVX3
  const FloatVec scaled{_mm512_scalef_ps(p.raw, n.raw)};
#else
  const hn::RebindToSigned<FloatTag> di;
  // 2^n in two factors: n reaches from -151 to 128, further than one exponent field.
  const auto exponent = hn::Sub(hn::BitCast(di, shifted), hn::BitCast(di, whole));
  const auto low = hn::ShiftRight<1>(exponent);
  const auto high = hn::Sub(exponent, low);
  const auto bias = hn::Set(di, 127);
  const FloatVec scale_low = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(low, bias)));
  const FloatVec scale_high = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(high, bias)));
  const FloatVec scaled = hn::Mul(hn::Mul(p, scale_low), scale_high);
#endif
  return hn::IfThenElse(is_number, scaled, x);
}

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_EXP_INL_H_
