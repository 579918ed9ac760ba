// Several queries against several cached positions at once: each key and value is read and widened
// once for all of them. The same additions in the same order as one query by itself.
#if defined(SDQ_KERNELS_ATTENTION_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_ATTENTION_TILE_INL_H_
#undef SDQ_KERNELS_ATTENTION_TILE_INL_H_
#else
#define SDQ_KERNELS_ATTENTION_TILE_INL_H_
#endif

#include <cstddef>
#include <cstring>

#include "kernels/simd-inl.h"

#undef SDQ_HAS_ATTENTION_TILES

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {
#if HWY_TARGET == HWY_AVX3  // thirty-two registers of a known size

#define SDQ_HAS_ATTENTION_TILES 1

// scores[q][p] = q . k for kQueries queries and as many of the positions [0, length) as whole tiles
// of 16 / kQueries hold; returns their number. One accumulator per pair, elements ascending.
template <class Element, size_t kQueries>
HWY_INLINE size_t ScoreTiles(const float* const* q, const typename Element::Raw* keys,
                             size_t stride, size_t length, size_t dim, float* const* scores) {
  constexpr size_t kKeys = 16 / kQueries;
  const FloatTag d;
  size_t p = 0;
  for (; p + kKeys <= length; p += kKeys, keys += kKeys * stride) {
    FloatVec sums[16];
#pragma GCC unroll 16
    for (size_t i = 0; i < 16; ++i) sums[i] = hn::Zero(d);
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
      FloatVec x[kQueries];
#pragma GCC unroll 4
      for (size_t a = 0; a < kQueries; ++a) x[a] = hn::LoadU(d, q[a] + i);
#pragma GCC unroll 16
      for (size_t b = 0; b < kKeys; ++b) {
        const FloatVec key = Element::Load(d, keys + b * stride + i);
#pragma GCC unroll 4
        for (size_t a = 0; a < kQueries; ++a) {
          sums[a * kKeys + b] = hn::MulAdd(x[a], key, sums[a * kKeys + b]);
        }
      }
    }
    if (i < dim) {
      for (size_t b = 0; b < kKeys; ++b) {
        const FloatVec key = LoadPart<Element>(d, keys + b * stride + i, dim - i);
        for (size_t a = 0; a < kQueries; ++a) {
          sums[a * kKeys + b] =
              hn::MulAdd(LoadPart(d, q[a] + i, dim - i), key, sums[a * kKeys + b]);
        }
      }
    }
    HWY_ALIGN float lanes[16];
    hn::Store(SumLanesOfSixteen(sums), d, lanes);
#pragma GCC unroll 4
    for (size_t a = 0; a < kQueries; ++a) {
      std::memcpy(scores[a] + p, lanes + a * kKeys, kKeys * sizeof(float));
    }
  }
  return p;
}

// out[a][0, 16 kVectors) = sum over positions of weights[a][p] * v[p * stride + ...], ascending.
template <class Element, size_t kQueries, size_t kVectors>
HWY_INLINE void MixTile(const float* const* weights, const typename Element::Raw* v, size_t stride,
                        size_t length, size_t at, float* const* out) {
  const FloatTag d;
  FloatVec sums[kQueries * kVectors];
#pragma GCC unroll 16
  for (size_t i = 0; i < kQueries * kVectors; ++i) sums[i] = hn::Zero(d);
  v += at;
  for (size_t p = 0; p < length; ++p, v += stride) {
#pragma GCC unroll 4
    for (size_t b = 0; b < kVectors; ++b) {
      const FloatVec value = Element::Load(d, v + 16 * b);
#pragma GCC unroll 4
      for (size_t a = 0; a < kQueries; ++a) {
        sums[a * kVectors + b] =
            hn::MulAdd(hn::Set(d, weights[a][p]), value, sums[a * kVectors + b]);
      }
    }
  }
#pragma GCC unroll 4
  for (size_t a = 0; a < kQueries; ++a) {
#pragma GCC unroll 4
    for (size_t b = 0; b < kVectors; ++b) {
      hn::StoreU(sums[a * kVectors + b], d, out[a] + at + 16 * b);
    }
  }
}

#else
#define SDQ_HAS_ATTENTION_TILES 0
#endif

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_ATTENTION_TILE_INL_H_
