// Per-target helpers of the float kernels: element types widened to f32 vectors, and loads and
// stores of fewer elements than a vector holds, which never touch memory outside the array.
#if defined(SDQ_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_SIMD_INL_H_
#undef SDQ_KERNELS_SIMD_INL_H_
#else
#define SDQ_KERNELS_SIMD_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/float16.h"

// Whether this target converts f16 in hardware, rounding to nearest even. Highway's emulation on
// the others neither rounds nor knows infinities.
#undef SDQ_NATIVE_F16
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SSE4 || \
    HWY_TARGET == HWY_SSSE3
#define SDQ_NATIVE_F16 0
#else
#define SDQ_NATIVE_F16 1
#endif

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVec = hn::Vec<FloatTag>;
inline constexpr size_t kMaxFloats = HWY_MAX_BYTES / sizeof(float);

// Element types in memory. Load(d, p) widens Lanes(d) elements at p to f32, exactly.
struct ElementF32 {
  using Raw = float;
  static HWY_INLINE FloatVec Load(FloatTag d, const float* p) { return hn::LoadU(d, p); }
};

struct ElementF16 {
  using Raw = uint16_t;
  static HWY_INLINE FloatVec Load(FloatTag d, const uint16_t* p) {
#if SDQ_NATIVE_F16
    const hn::Rebind<hwy::float16_t, FloatTag> d16;
    return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
#else
    // Same arithmetic as F32FromF16.
    const hn::Rebind<uint16_t, FloatTag> d16;
    const hn::RebindToUnsigned<FloatTag> du;
    const auto half = hn::PromoteTo(du, hn::LoadU(d16, p));
    const auto magnitude = hn::ShiftLeft<13>(hn::And(half, hn::Set(du, 0x7fffu)));
    const auto sign = hn::ShiftLeft<16>(hn::And(half, hn::Set(du, 0x8000u)));
    const auto finite = hn::BitCast(du, hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p112f)));
    const hn::RebindToSigned<FloatTag> di;
    const auto special =
        hn::RebindMask(du, hn::Gt(hn::BitCast(di, magnitude), hn::Set(di, 0x0f7fffff)));
    const auto bits = hn::IfThenElse(special, hn::Or(magnitude, hn::Set(du, 0x7f800000u)), finite);
    return hn::BitCast(d, hn::Or(bits, sign));
#endif
  }
};

struct ElementBF16 {
  using Raw = uint16_t;
  static HWY_INLINE FloatVec Load(FloatTag d, const uint16_t* p) {
    const hn::Rebind<uint16_t, FloatTag> d16;
    const hn::RebindToUnsigned<FloatTag> du;
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, p))));
  }
};

struct ElementQ8 {
  using Raw = int8_t;
  static HWY_INLINE FloatVec Load(FloatTag d, const int8_t* p) {
    const hn::Rebind<int8_t, FloatTag> d8;
    const hn::RebindToSigned<FloatTag> di;
    return hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, p)));
  }
};

// The first `count` < Lanes(d) elements at p; zeros behind them.
template <class Element>
HWY_INLINE FloatVec LoadPart(FloatTag d, const typename Element::Raw* p, size_t count) {
  typename Element::Raw padded[kMaxFloats] = {};
  std::memcpy(padded, p, count * sizeof(padded[0]));
  return Element::Load(d, padded);
}

HWY_INLINE FloatVec LoadPart(FloatTag d, const float* p, size_t count) {
  return LoadPart<ElementF32>(d, p, count);
}

// Stores the first `count` < Lanes(d) lanes.
HWY_INLINE void StorePart(FloatTag d, FloatVec v, float* p, size_t count) {
  float lanes[kMaxFloats];
  hn::StoreU(v, d, lanes);
  std::memcpy(p, lanes, count * sizeof(float));
}

HWY_INLINE float SumLanes(FloatTag d, FloatVec v) { return hn::GetLane(hn::SumOfLanes(d, v)); }

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_SIMD_INL_H_
