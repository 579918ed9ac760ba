#include "kernels/kv_cache.h"

#include <algorithm>
#include <array>
#include <bit>

#include "kernels/float16.h"
#include "kernels/segment_rounding.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kv_cache.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {

void StoreF16Target(const float* src, size_t n, uint16_t* dst) {
  size_t i = 0;
#if SDQ_NATIVE_F16
  const FloatTag d;
  const hn::Rebind<hwy::float16_t, FloatTag> d16;
  for (const size_t lanes = hn::Lanes(d); i + lanes <= n; i += lanes) {
    hn::StoreU(hn::DemoteTo(d16, hn::LoadU(d, src + i)), d16,
               reinterpret_cast<hwy::float16_t*>(dst + i));
  }
#endif
  for (; i < n; ++i) dst[i] = F16FromF32(src[i]);
}

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sdq::kernels {

HWY_EXPORT(StoreF16Target);

namespace {

// put(i, integer) for every element; returns the scale.
template <class Put>
float RoundHead(const float* src, size_t dim, const Put& put) {
  LargestMagnitude largest;
  for (size_t i = 0; i < dim; ++i) largest.Add(Magnitude(src[i]));
  const SegmentRounding rounding(largest);
  if (rounding.inverse == 0.0f) {
    for (size_t i = 0; i < dim; ++i) put(i, int8_t{0});
    return rounding.scale;
  }
  // Added to 1.5 * 2^23, a small number leaves itself, rounded, in the low bits.
  for (size_t i = 0; i < dim; ++i) {
    put(i, static_cast<int8_t>(std::bit_cast<uint32_t>(src[i] * rounding.inverse + 0x1.8p23f)));
  }
  return rounding.scale;
}

void StoreFloatKey(const float* src, size_t dim, float* keys) {
  for (size_t i = 0; i < dim; ++i) keys[i * kKeyBlock] = src[i];
}

void StoreHalfKey(const float* src, size_t dim, uint16_t* keys) {
  std::array<uint16_t, 64> halves;
  for (size_t first = 0; first < dim; first += halves.size()) {
    const size_t count = std::min(halves.size(), dim - first);
    HWY_DYNAMIC_DISPATCH(StoreF16Target)(src + first, count, halves.data());
    for (size_t i = 0; i < count; ++i) keys[(first + i) * kKeyBlock] = halves[i];
  }
}

}  // namespace

float StoreValue(const float* src, size_t dim, KvType type, size_t position, void* values) {
  const size_t at = position * dim;
  switch (type) {
    case KvType::kF32:
      std::copy_n(src, dim, static_cast<float*>(values) + at);
      break;
    case KvType::kF16:
      HWY_DYNAMIC_DISPATCH(StoreF16Target)(src, dim, static_cast<uint16_t*>(values) + at);
      break;
    case KvType::kQ8: {
      int8_t* to = static_cast<int8_t*>(values) + at;
      return RoundHead(src, dim, [to](size_t i, int8_t value) { to[i] = value; });
    }
  }
  return 1.0f;
}

float StoreKey(const float* src, size_t dim, KvType type, size_t position, void* keys) {
  const size_t at = position / kKeyBlock * kKeyBlock * dim + position % kKeyBlock;
  switch (type) {
    case KvType::kF32:
      StoreFloatKey(src, dim, static_cast<float*>(keys) + at);
      break;
    case KvType::kF16:
      StoreHalfKey(src, dim, static_cast<uint16_t*>(keys) + at);
      break;
    case KvType::kQ8: {
      int8_t* to = static_cast<int8_t*>(keys) + at;
      return RoundHead(src, dim, [to](size_t i, int8_t value) { to[i * kKeyBlock] = value; });
    }
  }
  return 1.0f;
}

}  // namespace sdq::kernels
#endif  // HWY_ONCE
