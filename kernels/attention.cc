#include "kernels/attention.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/attention_tile-inl.h"
#include "kernels/reduce-inl.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {

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
void Attend(const AttentionQuery* queries, const KvRows& rows, size_t dim, bool fetch) {
  const auto* keys = static_cast<const typename Element::Raw*>(rows.keys);
  const auto* values = static_cast<const typename Element::Raw*>(rows.values);
  const float* q[kQueries];
  float* scores[kQueries];
  float* out[kQueries];
  double sums[kQueries];
  size_t shared = queries[0].length, longest = 0;
  for (size_t a = 0; a < kQueries; ++a) {
    q[a] = queries[a].q;
    scores[a] = queries[a].scores;
    out[a] = queries[a].out;
    shared = std::min(shared, queries[a].length);
    longest = std::max(longest, queries[a].length);
  }
  Scores<Element, kQueries>(q, keys, longest, dim, fetch, scores);
  for (size_t a = 0; a < kQueries; ++a) {
    const size_t length = queries[a].length;
    MulInPlace(scores[a], rows.key_scales, length);
    sums[a] = ExpInPlace(scores[a], length, MaxOf(scores[a], length));
    MulInPlace(scores[a], rows.value_scales, length);
    std::fill_n(out[a], dim, 0.0f);
  }
  Mix<Element, kQueries>(scores, values, shared, dim, fetch, out);
  for (size_t a = 0; a < kQueries; ++a) {
    const size_t length = queries[a].length;
    MixRows<Element, 1>(&scores[a], values, dim, shared, length, 0, &out[a]);
    ScaleInPlace(out[a], dim, length > 0 ? static_cast<float>(1.0 / sums[a]) : 0.0f);
  }
}

template <class Element>
void AttendAll(std::span<const AttentionQuery> queries, const KvRows& rows, size_t dim) {
  size_t i = 0;
  const auto fetch = [&] { return rows.fetch && i == 0; };
#if HWY_TARGET == HWY_AVX3
  for (; i + 8 <= queries.size(); i += 8) {
    Attend<Element, 8>(queries.data() + i, rows, dim, fetch());
  }
#endif
  for (; i + 4 <= queries.size(); i += 4) {
    Attend<Element, 4>(queries.data() + i, rows, dim, fetch());
  }
  for (; i + 2 <= queries.size(); i += 2) {
    Attend<Element, 2>(queries.data() + i, rows, dim, fetch());
  }
  for (; i < queries.size(); ++i) Attend<Element, 1>(queries.data() + i, rows, dim, fetch());
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

HWY_EXPORT(AttendTarget);

void FetchKv(const KvRows& rows, size_t length, size_t dim) {
  const size_t row_bytes = dim * KvElementBytes(rows.type);
  FetchLines<2>(rows.keys, std::min(kKvFetchAhead, KvPositions(length) * row_bytes), 0);
  FetchLines<2>(rows.values, std::min(kKvFetchAhead, length * row_bytes), 0);
}

void Attend(std::span<const AttentionQuery> queries, const KvRows& rows, size_t dim) {
  HWY_DYNAMIC_DISPATCH(AttendTarget)(queries, rows, dim);
}

}  // namespace sdq::kernels
#endif  // HWY_ONCE
