// Scores and mixtures of several queries at once: keys and values are read and widened once for all
// of them, and every query gets the additions that it would get alone, in the same order. Named
// accumulators, not arrays, which vectors of unknown length cannot form; but for eight queries,
// which only AVX-512 has the registers for.
#if defined(SDQ_KERNELS_ATTENTION_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_ATTENTION_TILE_INL_H_
#undef SDQ_KERNELS_ATTENTION_TILE_INL_H_
#else
#define SDQ_KERNELS_ATTENTION_TILE_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/fetch.h"
#include "kernels/kv_cache.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {

// Two vectors are a block of keys at most.
using TileTag = hn::CappedTag<float, kKeyBlock / 2>;
using TileVec = hn::Vec<TileTag>;

// How many of a block's `rows` rows of keys fetch ahead, with `left` rows from its beginning to the
// end of the keys: the last ones would fetch what lies behind them.
template <class Element>
HWY_INLINE size_t FetchingRows(size_t rows, size_t left) {
  constexpr size_t kAhead = kKvFetchAhead / (kKeyBlock * sizeof(typename Element::Raw));
  return left <= kAhead ? 0 : std::min(rows, left - kAhead);
}

template <class Element>
HWY_INLINE void FetchKeys(const typename Element::Raw* row) {
  FetchLines<2>(row, kKeyBlock * sizeof(*row), kKvFetchAhead);
}

// Each sum += x * its vector.
HWY_INLINE void MulAddTwo(TileVec x, TileVec v0, TileVec v1, TileVec& sum0, TileVec& sum1) {
  sum0 = hn::MulAdd(x, v0, sum0);
  sum1 = hn::MulAdd(x, v1, sum1);
}

HWY_INLINE void StoreTwo(TileVec v0, TileVec v1, float* to) {
  const TileTag d;
  hn::StoreU(v0, d, to);
  hn::StoreU(v1, d, to + hn::Lanes(d));
}

// scores[a][0, 2 lanes) = q[a] . k for four queries and two vectors of positions; elements ascend.
// `keys` is where the first position's first element lies; `fetching`: rows that fetch ahead.
template <class Element>
HWY_INLINE void ScoreFour(const float* const* q, const typename Element::Raw* keys, size_t dim,
                          size_t fetching, size_t at, float* const* scores) {
  const TileTag d;
  const size_t lanes = hn::Lanes(d);
  TileVec a0 = hn::Zero(d), a1 = a0, b0 = a0, b1 = a0, c0 = a0, c1 = a0, e0 = a0, e1 = a0;
  for (size_t i = 0; i < dim; ++i, keys += kKeyBlock) {
    if (i < fetching) FetchKeys<Element>(keys);
    const TileVec k0 = Element::Load(d, keys), k1 = Element::Load(d, keys + lanes);
    const TileVec qa = hn::Set(d, q[0][i]), qb = hn::Set(d, q[1][i]);
    const TileVec qc = hn::Set(d, q[2][i]), qe = hn::Set(d, q[3][i]);
    MulAddTwo(qa, k0, k1, a0, a1);
    MulAddTwo(qb, k0, k1, b0, b1);
    MulAddTwo(qc, k0, k1, c0, c1);
    MulAddTwo(qe, k0, k1, e0, e1);
  }
  StoreTwo(a0, a1, scores[0] + at);
  StoreTwo(b0, b1, scores[1] + at);
  StoreTwo(c0, c1, scores[2] + at);
  StoreTwo(e0, e1, scores[3] + at);
}

#if HWY_TARGET == HWY_AVX3

// The same for eight queries.
template <class Element>
HWY_INLINE void ScoreEight(const float* const* q, const typename Element::Raw* keys, size_t dim,
                           size_t fetching, size_t at, float* const* scores) {
  const TileTag d;
  const size_t lanes = hn::Lanes(d);
  TileVec sums[8][2];
#pragma GCC unroll 8
  for (size_t a = 0; a < 8; ++a) sums[a][0] = sums[a][1] = hn::Zero(d);
  for (size_t i = 0; i < dim; ++i, keys += kKeyBlock) {
    if (i < fetching) FetchKeys<Element>(keys);
    const TileVec k0 = Element::Load(d, keys), k1 = Element::Load(d, keys + lanes);
#pragma GCC unroll 8
    for (size_t a = 0; a < 8; ++a) {
      MulAddTwo(hn::Set(d, q[a][i]), k0, k1, sums[a][0], sums[a][1]);
    }
  }
#pragma GCC unroll 8
  for (size_t a = 0; a < 8; ++a) StoreTwo(sums[a][0], sums[a][1], scores[a] + at);
}

#endif  // HWY_TARGET == HWY_AVX3

// One or two queries, two pairs of vectors of positions: `keys` belongs to `at`, `more` to `next`,
// which may be the same.
template <class Element, size_t kQueries>
HWY_INLINE void ScoreFew(const float* const* q, const typename Element::Raw* keys,
                         const typename Element::Raw* more, size_t dim, size_t fetching,
                         size_t more_fetching, size_t at, size_t next, float* const* scores) {
  const TileTag d;
  const size_t lanes = hn::Lanes(d);
  TileVec a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
  for (size_t i = 0; i < dim; ++i, keys += kKeyBlock, more += kKeyBlock) {
    if (i < fetching) FetchKeys<Element>(keys);
    if (i < more_fetching) FetchKeys<Element>(more);
    const TileVec k0 = Element::Load(d, keys), k1 = Element::Load(d, keys + lanes);
    const TileVec k2 = Element::Load(d, more), k3 = Element::Load(d, more + lanes);
    const TileVec qa = hn::Set(d, q[0][i]);
    MulAddTwo(qa, k0, k1, a0, a1);
    MulAddTwo(qa, k2, k3, a2, a3);
    if constexpr (kQueries > 1) {
      const TileVec qb = hn::Set(d, q[1][i]);
      MulAddTwo(qb, k0, k1, b0, b1);
      MulAddTwo(qb, k2, k3, b2, b3);
    }
  }
  StoreTwo(a0, a1, scores[0] + at);
  StoreTwo(a2, a3, scores[0] + next);
  if constexpr (kQueries > 1) {
    StoreTwo(b0, b1, scores[1] + at);
    StoreTwo(b2, b3, scores[1] + next);
  }
}

// Scores of the blocks that hold positions [0, length). fetch: ahead, where the keys are in no
// cache yet.
template <class Element, size_t kQueries>
HWY_INLINE void Scores(const float* const* q, const typename Element::Raw* keys, size_t length,
                       size_t dim, bool fetch, float* const* scores) {
  const size_t pair = 2 * hn::Lanes(TileTag());
  const size_t end = KvPositions(length);
  const auto from = [&](size_t p) {
    return keys + p / kKeyBlock * kKeyBlock * dim + p % kKeyBlock;
  };
  // A block's first pair fetches for the others.
  const auto fetching = [&](size_t p) {
    return fetch && p % kKeyBlock == 0 ? FetchingRows<Element>(dim, (end - p) / kKeyBlock * dim)
                                       : 0;
  };
  if constexpr (kQueries >= 4) {
    for (size_t p = 0; p < end; p += pair) {
      if constexpr (kQueries == 4) {
        ScoreFour<Element>(q, from(p), dim, fetching(p), p, scores);
#if HWY_TARGET == HWY_AVX3
      } else {
        ScoreEight<Element>(q, from(p), dim, fetching(p), p, scores);
#endif
      }
    }
  } else {
    for (size_t p = 0; p < end; p += 2 * pair) {
      const size_t next = p + pair < end ? p + pair : p;
      ScoreFew<Element, kQueries>(q, from(p), from(next), dim, fetching(p),
                                  next == p ? 0 : fetching(next), p, next, scores);
    }
  }
}

// out[a][at, at + 2 lanes) += sum over positions [begin, end) of weights[a][p] v_p, ascending.
// `ahead`: at what distance values are fetched.
template <class Element>
HWY_INLINE void MixFour(const float* const* weights, const typename Element::Raw* values,
                        size_t dim, size_t begin, size_t end, size_t at, size_t ahead,
                        float* const* out) {
  const TileTag d;
  const size_t lanes = hn::Lanes(d);
  const auto load = [&](size_t a, size_t i) HWY_ATTR { return hn::LoadU(d, out[a] + at + i); };
  TileVec a0 = load(0, 0), a1 = load(0, lanes), b0 = load(1, 0), b1 = load(1, lanes);
  TileVec c0 = load(2, 0), c1 = load(2, lanes), e0 = load(3, 0), e1 = load(3, lanes);
  const typename Element::Raw* v = values + begin * dim + at;
  for (size_t p = begin; p < end; ++p, v += dim) {
    FetchLines<2>(v, 2 * lanes * sizeof(*v), ahead);
    const TileVec v0 = Element::Load(d, v), v1 = Element::Load(d, v + lanes);
    const TileVec wa = hn::Set(d, weights[0][p]), wb = hn::Set(d, weights[1][p]);
    const TileVec wc = hn::Set(d, weights[2][p]), we = hn::Set(d, weights[3][p]);
    MulAddTwo(wa, v0, v1, a0, a1);
    MulAddTwo(wb, v0, v1, b0, b1);
    MulAddTwo(wc, v0, v1, c0, c1);
    MulAddTwo(we, v0, v1, e0, e1);
  }
  StoreTwo(a0, a1, out[0] + at);
  StoreTwo(b0, b1, out[1] + at);
  StoreTwo(c0, c1, out[2] + at);
  StoreTwo(e0, e1, out[3] + at);
}

#if HWY_TARGET == HWY_AVX3

// The same for eight queries.
template <class Element>
HWY_INLINE void MixEight(const float* const* weights, const typename Element::Raw* values,
                         size_t dim, size_t begin, size_t end, size_t at, size_t ahead,
                         float* const* out) {
  const TileTag d;
  const size_t lanes = hn::Lanes(d);
  TileVec sums[8][2];
#pragma GCC unroll 8
  for (size_t a = 0; a < 8; ++a) {
    sums[a][0] = hn::LoadU(d, out[a] + at);
    sums[a][1] = hn::LoadU(d, out[a] + at + lanes);
  }
  const typename Element::Raw* v = values + begin * dim + at;
  for (size_t p = begin; p < end; ++p, v += dim) {
    FetchLines<2>(v, 2 * lanes * sizeof(*v), ahead);
    const TileVec v0 = Element::Load(d, v), v1 = Element::Load(d, v + lanes);
#pragma GCC unroll 8
    for (size_t a = 0; a < 8; ++a) {
      MulAddTwo(hn::Set(d, weights[a][p]), v0, v1, sums[a][0], sums[a][1]);
    }
  }
#pragma GCC unroll 8
  for (size_t a = 0; a < 8; ++a) StoreTwo(sums[a][0], sums[a][1], out[a] + at);
}

#endif  // HWY_TARGET == HWY_AVX3

// The same for one or two queries and 4 lanes elements.
template <class Element, size_t kQueries>
HWY_INLINE void MixFew(const float* const* weights, const typename Element::Raw* values, size_t dim,
                       size_t begin, size_t end, size_t at, size_t ahead, float* const* out) {
  const TileTag d;
  const size_t n = hn::Lanes(d);
  const auto load = [&](size_t a, size_t i) HWY_ATTR { return hn::LoadU(d, out[a] + at + i); };
  constexpr size_t kLast = kQueries - 1;
  TileVec a0 = load(0, 0), a1 = load(0, n), a2 = load(0, 2 * n), a3 = load(0, 3 * n);
  TileVec b0 = load(kLast, 0), b1 = load(kLast, n), b2 = load(kLast, 2 * n),
          b3 = load(kLast, 3 * n);
  const typename Element::Raw* v = values + begin * dim + at;
  for (size_t p = begin; p < end; ++p, v += dim) {
    FetchLines<2>(v, 4 * n * sizeof(*v), ahead);
    const TileVec v0 = Element::Load(d, v), v1 = Element::Load(d, v + n);
    const TileVec v2 = Element::Load(d, v + 2 * n), v3 = Element::Load(d, v + 3 * n);
    const TileVec wa = hn::Set(d, weights[0][p]);
    MulAddTwo(wa, v0, v1, a0, a1);
    MulAddTwo(wa, v2, v3, a2, a3);
    if constexpr (kQueries > 1) {
      const TileVec wb = hn::Set(d, weights[1][p]);
      MulAddTwo(wb, v0, v1, b0, b1);
      MulAddTwo(wb, v2, v3, b2, b3);
    }
  }
  StoreTwo(a0, a1, out[0] + at);
  StoreTwo(a2, a3, out[0] + at + 2 * n);
  if constexpr (kQueries > 1) {
    StoreTwo(b0, b1, out[1] + at);
    StoreTwo(b2, b3, out[1] + at + 2 * n);
  }
}

// The same for one query of fewer than `lanes` elements in all.
template <class Element>
HWY_INLINE void MixShort(const float* weights, const typename Element::Raw* values, size_t dim,
                         size_t begin, size_t end, float* out) {
  const TileTag d;
  TileVec sum = LoadPart<ElementF32>(d, out, dim);
  const typename Element::Raw* v = values + begin * dim;
  for (size_t p = begin; p < end; ++p, v += dim) {
    sum = hn::MulAdd(hn::Set(d, weights[p]), LoadPart<Element>(d, v, dim), sum);
  }
  StorePart(d, sum, out, dim);
}

// The same for up to four queries and the `count` <= lanes elements before `end_element`. The
// vector may begin before them, with elements that others have done; those are not stored.
template <class Element, size_t kQueries>
HWY_INLINE void MixOne(const float* const* weights, const typename Element::Raw* values, size_t dim,
                       size_t begin, size_t end, size_t end_element, size_t count,
                       float* const* out) {
  const TileTag d;
  const size_t lanes = hn::Lanes(d), at = end_element - lanes;
  constexpr size_t kB = kQueries > 1 ? 1 : 0, kC = kQueries > 2 ? 2 : 0, kE = kQueries > 2 ? 3 : 0;
  TileVec a = hn::LoadU(d, out[0] + at), b = hn::LoadU(d, out[kB] + at);
  TileVec c = hn::LoadU(d, out[kC] + at), e = hn::LoadU(d, out[kE] + at);
  const typename Element::Raw* v = values + begin * dim + at;
  for (size_t p = begin; p < end; ++p, v += dim) {
    const TileVec x = Element::Load(d, v);
    a = hn::MulAdd(hn::Set(d, weights[0][p]), x, a);
    if constexpr (kQueries > 1) b = hn::MulAdd(hn::Set(d, weights[1][p]), x, b);
    if constexpr (kQueries > 2) c = hn::MulAdd(hn::Set(d, weights[2][p]), x, c);
    if constexpr (kQueries > 2) e = hn::MulAdd(hn::Set(d, weights[3][p]), x, e);
  }
  const auto store = [&](TileVec sum, float* row) HWY_ATTR {
    float elements[kKeyBlock / 2];
    hn::StoreU(sum, d, elements);
    std::copy(elements + lanes - count, elements + lanes, row + end_element - count);
  };
  store(a, out[0]);
  if constexpr (kQueries > 1) store(b, out[1]);
  if constexpr (kQueries > 2) store(c, out[2]);
  if constexpr (kQueries > 2) store(e, out[3]);
}

// out[a] += sum over positions [begin, end) of weights[a][p] v_p, ascending.
template <class Element, size_t kQueries>
HWY_INLINE void MixRows(const float* const* weights, const typename Element::Raw* values,
                        size_t dim, size_t begin, size_t end, size_t ahead, float* const* out) {
  const size_t lanes = hn::Lanes(TileTag());
  const size_t step = (kQueries >= 4 ? 2 : 4) * lanes;
  size_t i = 0;
  for (; i + step <= dim; i += step) {
    if constexpr (kQueries == 4) {
      MixFour<Element>(weights, values, dim, begin, end, i, ahead, out);
#if HWY_TARGET == HWY_AVX3
    } else if constexpr (kQueries == 8) {
      MixEight<Element>(weights, values, dim, begin, end, i, ahead, out);
#endif
    } else {
      MixFew<Element, kQueries>(weights, values, dim, begin, end, i, ahead, out);
    }
  }
  if (dim < lanes) {
    for (size_t a = 0; a < kQueries; ++a) {
      MixShort<Element>(weights[a], values, dim, begin, end, out[a]);
    }
    return;
  }
  for (; i < dim; i += lanes) {
    const size_t count = std::min(lanes, dim - i);
    constexpr size_t kAtOnce = std::min<size_t>(kQueries, 4);
    for (size_t a = 0; a < kQueries; a += kAtOnce) {
      MixOne<Element, kAtOnce>(weights + a, values, dim, begin, end, i + count, count, out + a);
    }
  }
}

// Positions [0, length), in runs whose values stay in the first cache from one step along the head
// to the next. fetch: ahead.
template <class Element, size_t kQueries>
HWY_INLINE void Mix(const float* const* weights, const typename Element::Raw* values, size_t length,
                    size_t dim, bool fetch, float* const* out) {
  constexpr size_t kRun = 16;
  const size_t row_bytes = dim * sizeof(*values), bytes = length * row_bytes;
  for (size_t begin = 0; begin < length; begin += kRun) {
    const size_t end = std::min(length, begin + kRun);
    const bool more = fetch && begin * row_bytes + kKvFetchAhead < bytes;
    MixRows<Element, kQueries>(weights, values, dim, begin, end, more ? kKvFetchAhead : 0, out);
  }
}

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_ATTENTION_TILE_INL_H_
