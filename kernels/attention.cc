// Rotary embedding, KV cache rows and the attention of one head.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/float16.h"
#include "kernels/segment_rounding.h"
#include "kernels/vector_math.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/attention_tile-inl.h"
#include "kernels/reduce-inl.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {

// Turns the pairs (low[i], high[i]) by cosine[i] and sine[i].
void RotateHead(float* low, float* high, size_t half, const float* cosine, const float* sine) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    const FloatVec a = hn::LoadU(d, low + i);
    const FloatVec b = hn::LoadU(d, high + i);
    const FloatVec c = hn::LoadU(d, cosine + i);
    const FloatVec s = hn::LoadU(d, sine + i);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, low + i);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), d, high + i);
  }
  if (i < half) {
    const size_t left = half - i;
    const FloatVec a = LoadPart(d, low + i, left);
    const FloatVec b = LoadPart(d, high + i, left);
    const FloatVec c = LoadPart(d, cosine + i, left);
    const FloatVec s = LoadPart(d, sine + i, left);
    StorePart(d, hn::NegMulAdd(b, s, hn::Mul(a, c)), low + i, left);
    StorePart(d, hn::MulAdd(a, s, hn::Mul(b, c)), high + i, left);
  }
}

void RotaryTarget(float* x, size_t heads, size_t dim, const float* cos_sin) {
  const size_t half = dim / 2;
  for (size_t h = 0; h < heads; ++h, x += dim) {
    RotateHead(x, x + half, half, cos_sin, cos_sin + half);
  }
}

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

// q . k for one cached position: one accumulator per lane, elements ascending.
template <class Element>
HWY_INLINE float Score(const float* q, const typename Element::Raw* k, size_t dim) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  FloatVec sum = hn::Zero(d);
  size_t i = 0;
  for (; i + lanes <= dim; i += lanes) {
    sum = hn::MulAdd(hn::LoadU(d, q + i), Element::Load(d, k + i), sum);
  }
  if (i < dim) {
    sum = hn::MulAdd(LoadPart(d, q + i, dim - i), LoadPart<Element>(d, k + i, dim - i), sum);
  }
  return SumLanes(d, sum);
}

// out[0, 4 N) = sum over positions of weights[p] * v[p * stride + 0 ... 4 N).
template <class Element>
HWY_INLINE void MixFour(const float* weights, const typename Element::Raw* v, size_t stride,
                        size_t length, float* out) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  FloatVec sum0 = hn::Zero(d);
  FloatVec sum1 = hn::Zero(d);
  FloatVec sum2 = hn::Zero(d);
  FloatVec sum3 = hn::Zero(d);
  for (size_t p = 0; p < length; ++p, v += stride) {
    const FloatVec weight = hn::Set(d, weights[p]);
    sum0 = hn::MulAdd(weight, Element::Load(d, v), sum0);
    sum1 = hn::MulAdd(weight, Element::Load(d, v + lanes), sum1);
    sum2 = hn::MulAdd(weight, Element::Load(d, v + 2 * lanes), sum2);
    sum3 = hn::MulAdd(weight, Element::Load(d, v + 3 * lanes), sum3);
  }
  hn::StoreU(sum0, d, out);
  hn::StoreU(sum1, d, out + lanes);
  hn::StoreU(sum2, d, out + 2 * lanes);
  hn::StoreU(sum3, d, out + 3 * lanes);
}

// The same for `count` <= N elements.
template <class Element>
HWY_INLINE void MixPart(const float* weights, const typename Element::Raw* v, size_t stride,
                        size_t length, size_t count, float* out) {
  const FloatTag d;
  FloatVec sum = hn::Zero(d);
  if (count == hn::Lanes(d)) {
    for (size_t p = 0; p < length; ++p, v += stride) {
      sum = hn::MulAdd(hn::Set(d, weights[p]), Element::Load(d, v), sum);
    }
    hn::StoreU(sum, d, out);
  } else {
    for (size_t p = 0; p < length; ++p, v += stride) {
      sum = hn::MulAdd(hn::Set(d, weights[p]), LoadPart<Element>(d, v, count), sum);
    }
    StorePart(d, sum, out, count);
  }
}

// Adds weights[p] * v[p * stride + 0 ... n) for p in [begin, end) to out.
template <class Element>
void MixMore(const float* weights, const typename Element::Raw* v, size_t stride, size_t begin,
             size_t end, size_t n, float* out) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  for (size_t p = begin; p < end; ++p) {
    const FloatVec weight = hn::Set(d, weights[p]);
    const typename Element::Raw* row = v + p * stride;
    size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      hn::StoreU(hn::MulAdd(weight, Element::Load(d, row + i), hn::LoadU(d, out + i)), d, out + i);
    }
    if (i < n) {
      const FloatVec sum = LoadPart(d, out + i, n - i);
      StorePart(d, hn::MulAdd(weight, LoadPart<Element>(d, row + i, n - i), sum), out + i, n - i);
    }
  }
}

// Values [i, dim) of one query.
template <class Element>
void MixFrom(const float* weights, const typename Element::Raw* values, size_t stride,
             size_t length, size_t i, size_t dim, float* out) {
  const size_t lanes = hn::Lanes(FloatTag());
  for (; i + 4 * lanes <= dim; i += 4 * lanes) {
    MixFour<Element>(weights, values + i, stride, length, out + i);
  }
  for (; i < dim; i += lanes) {
    MixPart<Element>(weights, values + i, stride, length, std::min(lanes, dim - i), out + i);
  }
}

// What kQueries queries have in common: positions [0, shared).
template <class Element, size_t kQueries>
void MixShared(const float* const* weights, const typename Element::Raw* values, size_t stride,
               size_t shared, size_t dim, float* const* out) {
  size_t i = 0;
#if SDQ_HAS_ATTENTION_TILES
  for (; i + 64 <= dim; i += 64) {
    MixTile<Element, kQueries, 4>(weights, values, stride, shared, i, out);
  }
  for (; i + 32 <= dim; i += 32) {
    MixTile<Element, kQueries, 2>(weights, values, stride, shared, i, out);
  }
  for (; i + 16 <= dim; i += 16) {
    MixTile<Element, kQueries, 1>(weights, values, stride, shared, i, out);
  }
#endif
  for (size_t a = 0; a < kQueries && i < dim; ++a) {
    MixFrom<Element>(weights[a], values, stride, shared, i, dim, out[a]);
  }
}

// x *= scales; nothing without scales.
void MulInPlace(float* x, const float* scales, size_t n) {
  if (scales == nullptr) return;
  const FloatTag d;
  size_t i = 0;
  for (const size_t lanes = hn::Lanes(d); i + lanes <= n; i += lanes) {
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i), hn::LoadU(d, scales + i)), d, x + i);
  }
  for (; i < n; ++i) x[i] *= scales[i];
}

template <class Element, size_t kQueries>
void Attend(const AttentionQuery* queries, const KvRows& rows, size_t dim) {
  const auto* keys = static_cast<const typename Element::Raw*>(rows.keys);
  const auto* values = static_cast<const typename Element::Raw*>(rows.values);
  const size_t stride = rows.stride;
  const float* q[kQueries];
  float* scores[kQueries];
  float* out[kQueries];
  double sums[kQueries];
  size_t shared = queries[0].length;
  for (size_t a = 0; a < kQueries; ++a) {
    q[a] = queries[a].q;
    scores[a] = queries[a].scores;
    out[a] = queries[a].out;
    shared = std::min(shared, queries[a].length);
  }
  size_t done = 0;
#if SDQ_HAS_ATTENTION_TILES
  done = ScoreTiles<Element, kQueries>(q, keys, stride, shared, dim, scores);
#endif
  for (size_t a = 0; a < kQueries; ++a) {
    const size_t length = queries[a].length;
    for (size_t p = done; p < length; ++p) {
      scores[a][p] = Score<Element>(q[a], keys + p * stride, dim);
    }
    MulInPlace(scores[a], rows.key_scales, length);
    sums[a] = ExpInPlace(scores[a], length, MaxOf(scores[a], length));
    MulInPlace(scores[a], rows.value_scales, length);
  }
  MixShared<Element, kQueries>(scores, values, stride, shared, dim, out);
  for (size_t a = 0; a < kQueries; ++a) {
    const size_t length = queries[a].length;
    MixMore<Element>(scores[a], values, stride, shared, length, dim, out[a]);
    ScaleInPlace(out[a], dim, length > 0 ? static_cast<float>(1.0 / sums[a]) : 0.0f);
  }
}

template <class Element>
void AttendAll(std::span<const AttentionQuery> queries, const KvRows& rows, size_t dim) {
  size_t i = 0;
  for (; i + 4 <= queries.size(); i += 4) Attend<Element, 4>(queries.data() + i, rows, dim);
  for (; i + 2 <= queries.size(); i += 2) Attend<Element, 2>(queries.data() + i, rows, dim);
  for (; i < queries.size(); ++i) Attend<Element, 1>(queries.data() + i, rows, dim);
}

void AttendTarget(std::span<const AttentionQuery> queries, const KvRows& rows, size_t dim) {
  switch (rows.type) {
    case KvType::kF32:
      return AttendAll<ElementF32>(queries, rows, dim);
    case KvType::kF16:
      return AttendAll<ElementF16>(queries, rows, dim);
    case KvType::kQ8:
      return AttendAll<ElementQ8>(queries, rows, dim);
  }
}

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sdq::kernels {

HWY_EXPORT(RotaryTarget);
HWY_EXPORT(StoreF16Target);
HWY_EXPORT(AttendTarget);

void Rotary(float* x, size_t heads, size_t dim, const float* cos_sin) {
  HWY_DYNAMIC_DISPATCH(RotaryTarget)(x, heads, dim, cos_sin);
}

void StoreKv(const float* src, size_t n, KvType type, void* dst) {
  if (type == KvType::kF32) {
    std::copy_n(src, n, static_cast<float*>(dst));
  } else {
    HWY_DYNAMIC_DISPATCH(StoreF16Target)(src, n, static_cast<uint16_t*>(dst));
  }
}

float StoreKvQ8(const float* src, size_t n, int8_t* dst) {
  LargestMagnitude largest;
  for (size_t i = 0; i < n; ++i) largest.Add(Magnitude(src[i]));
  const SegmentRounding rounding(largest);
  if (rounding.inverse == 0.0f) {
    std::fill(dst, dst + n, int8_t{0});
    return rounding.scale;
  }
  // Added to 1.5 * 2^23, a small number leaves itself, rounded, in the low bits.
  for (size_t i = 0; i < n; ++i) {
    dst[i] = static_cast<int8_t>(std::bit_cast<uint32_t>(src[i] * rounding.inverse + 0x1.8p23f));
  }
  return rounding.scale;
}

void Attend(std::span<const AttentionQuery> queries, const KvRows& rows, size_t dim) {
  HWY_DYNAMIC_DISPATCH(AttendTarget)(queries, rows, dim);
}

}  // namespace sdq::kernels
#endif  // HWY_ONCE
