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

// Element types in memory. Load(d, p) widens Lanes(d) elements at p to f32, exactly; d is FloatTag
// or a shorter tag.
struct ElementF32 {
  using Raw = float;
  template <class D>
  static HWY_INLINE hn::Vec<D> Load(D d, const float* p) {
    return hn::LoadU(d, p);
  }
};

struct ElementF16 {
  using Raw = uint16_t;
  template <class D>
  static HWY_INLINE hn::Vec<D> Load(D d, const uint16_t* p) {
#if SDQ_NATIVE_F16
    const hn::Rebind<hwy::float16_t, D> d16;
    return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
#else
    // Same arithmetic as F32FromF16.
    const hn::Rebind<uint16_t, D> d16;
    const hn::RebindToUnsigned<D> du;
    const auto half = hn::PromoteTo(du, hn::LoadU(d16, p));
    const auto magnitude = hn::ShiftLeft<13>(hn::And(half, hn::Set(du, 0x7fffu)));
    const auto sign = hn::ShiftLeft<16>(hn::And(half, hn::Set(du, 0x8000u)));
    const auto finite = hn::BitCast(du, hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p112f)));
    const hn::RebindToSigned<D> di;
    const auto special =
        hn::RebindMask(du, hn::Gt(hn::BitCast(di, magnitude), hn::Set(di, 0x0f7fffff)));
    const auto bits = hn::IfThenElse(special, hn::Or(magnitude, hn::Set(du, 0x7f800000u)), finite);
    return hn::BitCast(d, hn::Or(bits, sign));
#endif
  }
};

struct ElementBF16 {
  using Raw = uint16_t;
  template <class D>
  static HWY_INLINE hn::Vec<D> Load(D d, const uint16_t* p) {
    const hn::Rebind<uint16_t, D> d16;
    const hn::RebindToUnsigned<D> du;
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, p))));
  }
};

struct ElementQ8 {
  using Raw = int8_t;
  template <class D>
  static HWY_INLINE hn::Vec<D> Load(D d, const int8_t* p) {
    const hn::Rebind<int8_t, D> d8;
    const hn::RebindToSigned<D> di;
    return hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, p)));
  }
};

// The first `count` < Lanes(d) elements at p; zeros behind them.
template <class Element, class D>
HWY_INLINE hn::Vec<D> LoadPart(D d, const typename Element::Raw* p, size_t count) {
  typename Element::Raw padded[kMaxFloats] = {};
  std::memcpy(padded, p, count * sizeof(padded[0]));
  return Element::Load(d, padded);
}

// Masked, where the instruction set has it for floats: a vector that is loaded from what was just
// stored in parts waits for all of them to leave the store buffer.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2

template <>
HWY_INLINE FloatVec LoadPart<ElementF32>(FloatTag d, const float* p, size_t count) {
  return hn::MaskedLoad(hn::FirstN(d, count), d, p);
}

// Stores the first `count` < Lanes(d) lanes.
template <class D>
HWY_INLINE void StorePart(D d, hn::Vec<D> v, float* p, size_t count) {
  hn::BlendedStore(v, hn::FirstN(d, count), d, p);
}

#else

template <class D>
HWY_INLINE void StorePart(D d, hn::Vec<D> v, float* p, size_t count) {
  float lanes[kMaxFloats];
  hn::StoreU(v, d, lanes);
  std::memcpy(p, lanes, count * sizeof(float));
}

#endif

HWY_INLINE FloatVec LoadPart(FloatTag d, const float* p, size_t count) {
  return LoadPart<ElementF32>(d, p, count);
}

#if HWY_TARGET == HWY_AVX3

// Halves are added to halves: lanes 8 apart, 4, 2, 1.
HWY_INLINE float SumLanes(FloatTag, FloatVec v) {
  const __m256 eight =
      _mm256_add_ps(_mm512_castps512_ps256(v.raw), _mm512_extractf32x8_ps(v.raw, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Lane i is SumLanes(v[i]): the same additions, of several vectors at once.
HWY_INLINE FloatVec SumLanesOfSixteen(const FloatVec* v) {
  const auto halves = [](__m512 a, __m512 b) HWY_ATTR {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(1, 0, 1, 0)),
                         _mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(3, 2, 3, 2)));
  };
  __m512 four[4];  // [m]: blocks of 4 lanes of vectors m, 4 + m, 8 + m, 12 + m
#pragma GCC unroll 4
  for (size_t m = 0; m < 4; ++m) {
    const __m512 low = halves(v[m].raw, v[4 + m].raw);
    const __m512 high = halves(v[8 + m].raw, v[12 + m].raw);
    four[m] = _mm512_add_ps(_mm512_shuffle_f32x4(low, high, _MM_SHUFFLE(2, 0, 2, 0)),
                            _mm512_shuffle_f32x4(low, high, _MM_SHUFFLE(3, 1, 3, 1)));
  }
  const auto twos = [](__m512 a, __m512 b) HWY_ATTR {
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, _MM_SHUFFLE(1, 0, 1, 0)),
                         _mm512_shuffle_ps(a, b, _MM_SHUFFLE(3, 2, 3, 2)));
  };
  const __m512 low = twos(four[0], four[1]), high = twos(four[2], four[3]);
  return FloatVec{_mm512_add_ps(_mm512_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0)),
                                _mm512_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1)))};
}

#else

HWY_INLINE float SumLanes(FloatTag d, FloatVec v) { return hn::GetLane(hn::SumOfLanes(d, v)); }

#endif

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_SIMD_INL_H_
