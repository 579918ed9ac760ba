// Activation transform, per target: see transform_kernels.h for what each function computes.
#if defined(SDQ_KERNELS_TRANSFORM_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_TRANSFORM_KERNELS_INL_H_
#undef SDQ_KERNELS_TRANSFORM_KERNELS_INL_H_
#else
#define SDQ_KERNELS_TRANSFORM_KERNELS_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/reference.h"
#include "kernels/transform_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR

const TransformKernels* TransformTable() { return &ReferenceTransformKernels(); }

#else
namespace hn = hwy::HWY_NAMESPACE;

// At most 16 floats: tables have 16 entries, and sizes below rely on it.
using F = hn::CappedTag<float, 16>;
using FloatVec16 = hn::Vec<F>;

// One stage of a Hadamard transform between the lanes of a vector: `swapped` has the partners'
// values, `sign` -1 in the lanes that subtract. The product is exact, hence fused or not the same.
template <class D>
HWY_INLINE hn::Vec<D> LaneStage(D, hn::Vec<D> v, hn::Vec<D> swapped, hn::Vec<D> sign) {
  return hn::MulAdd(v, sign, swapped);
}

HWY_ALIGN inline constexpr float kLaneSigns[4][16] = {
    {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1},
    {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1},
    {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1},
    {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1}};

// x with its sign changed where `signs` is 0x80, not 0; null: nowhere.
template <class D>
HWY_INLINE hn::Vec<D> LoadFlipped(D d, const float* x, const uint8_t* signs) {
  const auto v = hn::LoadU(d, x);
  if (signs == nullptr) return v;
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint8_t, D> d8;
  const auto bits = hn::ShiftLeft<24>(hn::PromoteTo(du, hn::LoadU(d8, signs)));
  return hn::Xor(v, hn::BitCast(d, bits));
}

// The stages inside vectors, from x to out; if these are all, times `scale`. Returns the distance
// of the next one.
template <class D>
HWY_INLINE size_t ShortStages(D d, const float* x, const uint8_t* signs, size_t n, float scale,
                              float* out) {
  const size_t lanes = hn::Lanes(d);
  const auto factor = hn::Set(d, n == lanes ? scale : 1.0f);
  const auto sign1 = hn::Load(d, kLaneSigns[0]), sign2 = hn::Load(d, kLaneSigns[1]);
  for (size_t i = 0; i < n; i += lanes) {
    auto v = LoadFlipped(d, x + i, signs == nullptr ? nullptr : signs + i);
    v = LaneStage(d, v, hn::Shuffle2301(v), sign1);
    v = LaneStage(d, v, hn::Shuffle1032(v), sign2);
#if HWY_TARGET == HWY_AVX3
    if (lanes == 16) v = LaneStage(d, v, hn::SwapAdjacentBlocks(v), hn::Load(d, kLaneSigns[2]));
#endif
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
    if (lanes >= 8) {
      const auto sign = hn::Load(d, kLaneSigns[lanes == 16 ? 3 : 2]);
      v = LaneStage(d, v, hn::ConcatLowerUpper(d, v, v), sign);
    }
#endif
    hn::StoreU(hn::Mul(v, factor), d, out + i);
  }
  return lanes;
}

HWY_INLINE void Butterfly(FloatVec16& a, FloatVec16& b) {
  const FloatVec16 sum = hn::Add(a, b);
  b = hn::Sub(a, b);
  a = sum;
}

// The stage of distance d over two vectors that are d apart, then times `factor`.
template <class D>
HWY_INLINE void OneStage(D d, float* x, size_t distance, hn::Vec<D> factor) {
  const auto a = hn::LoadU(d, x), b = hn::LoadU(d, x + distance);
  hn::StoreU(hn::Mul(hn::Add(a, b), factor), d, x);
  hn::StoreU(hn::Mul(hn::Sub(a, b), factor), d, x + distance);
}

// Stages of distance d, 2 d over four vectors.
HWY_INLINE void TwoStages(F d, float* x, size_t distance, FloatVec16 factor) {
  auto v0 = hn::LoadU(d, x), v1 = hn::LoadU(d, x + distance);
  auto v2 = hn::LoadU(d, x + 2 * distance), v3 = hn::LoadU(d, x + 3 * distance);
  Butterfly(v0, v1), Butterfly(v2, v3);
  Butterfly(v0, v2), Butterfly(v1, v3);
  hn::StoreU(hn::Mul(v0, factor), d, x);
  hn::StoreU(hn::Mul(v1, factor), d, x + distance);
  hn::StoreU(hn::Mul(v2, factor), d, x + 2 * distance);
  hn::StoreU(hn::Mul(v3, factor), d, x + 3 * distance);
}

// Stages of distance d, 2 d, 4 d over eight vectors.
HWY_INLINE void ThreeStages(F d, float* x, size_t distance, FloatVec16 factor) {
  auto v0 = hn::LoadU(d, x), v1 = hn::LoadU(d, x + distance);
  auto v2 = hn::LoadU(d, x + 2 * distance), v3 = hn::LoadU(d, x + 3 * distance);
  auto v4 = hn::LoadU(d, x + 4 * distance), v5 = hn::LoadU(d, x + 5 * distance);
  auto v6 = hn::LoadU(d, x + 6 * distance), v7 = hn::LoadU(d, x + 7 * distance);
  Butterfly(v0, v1), Butterfly(v2, v3), Butterfly(v4, v5), Butterfly(v6, v7);
  Butterfly(v0, v2), Butterfly(v1, v3), Butterfly(v4, v6), Butterfly(v5, v7);
  Butterfly(v0, v4), Butterfly(v1, v5), Butterfly(v2, v6), Butterfly(v3, v7);
  hn::StoreU(hn::Mul(v0, factor), d, x);
  hn::StoreU(hn::Mul(v1, factor), d, x + distance);
  hn::StoreU(hn::Mul(v2, factor), d, x + 2 * distance);
  hn::StoreU(hn::Mul(v3, factor), d, x + 3 * distance);
  hn::StoreU(hn::Mul(v4, factor), d, x + 4 * distance);
  hn::StoreU(hn::Mul(v5, factor), d, x + 5 * distance);
  hn::StoreU(hn::Mul(v6, factor), d, x + 6 * distance);
  hn::StoreU(hn::Mul(v7, factor), d, x + 7 * distance);
}

// A pass over x in which stages(d, first, distance, factor) does those from `distance` on up to
// below `next`. The pass that ends the transform scales, others multiply by 1.
template <class D, class Stages>
HWY_INLINE void Pass(D d, float* x, size_t n, size_t distance, size_t next, float scale,
                     const Stages& stages) {
  const auto factor = hn::Set(d, next == n ? scale : 1.0f);
  for (size_t base = 0; base < n; base += next) {
    for (size_t i = base; i < base + distance; i += hn::Lanes(d))
      stages(d, x + i, distance, factor);
  }
}

void Hadamard(const float* x, const uint8_t* signs, size_t n, float scale, float* out) {
  const F d;
  const size_t lanes = hn::Lanes(d);
  if (n < lanes) return ReferenceTransformKernels().hadamard(x, signs, n, scale, out);
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  size_t distance = ShortStages(d, x, signs, n, scale, out);
#else
  const hn::CappedTag<float, 4> fours;
  size_t distance = ShortStages(fours, x, signs, n, scale, out);
  for (; distance < lanes; distance *= 2) {
    Pass(fours, out, n, distance, 2 * distance, scale, OneStage<decltype(fours)>);
  }
#endif
  // Three stages per pass over the values, as long as there are.
  for (; 8 * distance <= n; distance *= 8) {
    Pass(d, out, n, distance, 8 * distance, scale, ThreeStages);
  }
  if (4 * distance == n) Pass(d, out, n, distance, n, scale, TwoStages);
  if (2 * distance == n) Pass(d, out, n, distance, n, scale, OneStage<F>);
}

void FlipSigns(const float* x, const uint8_t* signs, size_t n, float* out) {
  const F d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(LoadFlipped(d, x + i, signs + i), d, out + i);
  if (i < n) ReferenceTransformKernels().flip_signs(x + i, signs + i, n - i, out + i);
}

void WeightedRows(const float* a, size_t lda, const float* v, size_t v_stride, size_t rows,
                  size_t n, float* out) {
  const F d;
  const size_t lanes = hn::Lanes(d);
  size_t j = 0;
  for (; j + 4 * lanes <= n; j += 4 * lanes) {
    auto sum0 = hn::Zero(d), sum1 = hn::Zero(d), sum2 = hn::Zero(d), sum3 = hn::Zero(d);
    for (size_t i = 0; i < rows; ++i) {
      const auto weight = hn::Set(d, v[i * v_stride]);
      const float* row = a + i * lda + j;
      sum0 = hn::Add(sum0, hn::Mul(weight, hn::LoadU(d, row)));
      sum1 = hn::Add(sum1, hn::Mul(weight, hn::LoadU(d, row + lanes)));
      sum2 = hn::Add(sum2, hn::Mul(weight, hn::LoadU(d, row + 2 * lanes)));
      sum3 = hn::Add(sum3, hn::Mul(weight, hn::LoadU(d, row + 3 * lanes)));
    }
    hn::StoreU(sum0, d, out + j);
    hn::StoreU(sum1, d, out + j + lanes);
    hn::StoreU(sum2, d, out + j + 2 * lanes);
    hn::StoreU(sum3, d, out + j + 3 * lanes);
  }
  for (; j + lanes <= n; j += lanes) {
    auto sum = hn::Zero(d);
    for (size_t i = 0; i < rows; ++i) {
      sum = hn::Add(sum, hn::Mul(hn::Set(d, v[i * v_stride]), hn::LoadU(d, a + i * lda + j)));
    }
    hn::StoreU(sum, d, out + j);
  }
  if (j < n) {
    ReferenceTransformKernels().weighted_rows(a + j, lda, v, v_stride, rows, n - j, out + j);
  }
}

// The columns that a run of samples may need: those of its first terms and as many as a sample has
// terms (at most 16). A block's first and last runs get a copy with zeros outside the block.
inline constexpr size_t kRunColumns = 2 * PolyphasePlan::kRun;

HWY_INLINE const float* RunColumns(const float* x, ptrdiff_t columns, ptrdiff_t begin,
                                   float* copy) {
  constexpr ptrdiff_t kCount = ptrdiff_t{kRunColumns};
  if (begin >= 0 && begin + kCount <= columns) return x + begin;
  std::fill(copy, copy + kRunColumns, 0.0f);
  const ptrdiff_t from = std::max<ptrdiff_t>(begin, 0);
  const ptrdiff_t to = std::min(begin + kCount, columns);
  if (from < to) std::copy(x + from, x + to, copy + (from - begin));
  return copy;
}

// The samples of a run: x begins at its first column.
//
// kTerms: the most of a sample, where others have as many or one fewer; 0: no constant. A sum that
// ends one term earlier is left as it is, since the added product could be -0 or not a number.
template <size_t kTerms>
HWY_INLINE void PolyphaseRun(const PolyphasePlan& plan, size_t s, const float* x, float* u) {
  const F d;
  const hn::RebindToSigned<F> di;
  const size_t terms = kTerms == 0 ? plan.most_terms : kTerms;
  const size_t certain = kTerms == 0 ? plan.fewest_terms : kTerms - 1;
  const int32_t* columns = plan.columns.data() + s * PolyphasePlan::kRun;
  const float* coefficients = plan.coefficients.data() + s * terms * PolyphasePlan::kRun;
  const auto add_term = [&](size_t t, hn::Vec<F> values, size_t i, hn::Vec<F>& sum) HWY_ATTR {
    const auto factor = hn::Load(d, coefficients + t * PolyphasePlan::kRun + i);
    const auto next = hn::Add(sum, hn::Mul(factor, values));
    sum = t < certain ? next : hn::IfThenElse(hn::Eq(factor, factor), next, sum);
  };
#if HWY_TARGET == HWY_AVX3
  // Two vectors hold all columns that the run may need.
  static_assert(kRunColumns == 32 && PolyphasePlan::kRun == 16);
  const auto low = hn::LoadU(d, x), high = hn::LoadU(d, x + 16);
  auto index = hn::Load(di, columns);
  auto sum = hn::Zero(d);
  for (size_t t = 0; t < terms; ++t) {
    add_term(t, hn::Vec<F>{_mm512_permutex2var_ps(low.raw, index.raw, high.raw)}, 0, sum);
    index = hn::Add(index, hn::Set(di, 1));
  }
  hn::StoreU(sum, d, u);
#else
  for (size_t i = 0; i < PolyphasePlan::kRun; i += hn::Lanes(d)) {
    const float* from = x + columns[i];
    const auto index =
        hn::IndicesFromVec(d, hn::Sub(hn::Load(di, columns + i), hn::Set(di, columns[i])));
    auto sum = hn::Zero(d);
    for (size_t t = 0; t < terms; ++t) {
      add_term(t, hn::TableLookupLanes(hn::LoadU(d, from + t), index), i, sum);
    }
    hn::StoreU(sum, d, u + i);
  }
#endif
}

template <size_t kTerms>
void PolyphaseRuns(const PolyphasePlan& plan, const float* x, size_t columns, size_t first,
                   size_t count, float* u) {
  constexpr size_t kRun = PolyphasePlan::kRun;
  // The group before which no sample of a block lies.
  const size_t groups_before = (plan.lead + plan.p - 1) / plan.p;
  const size_t from_first = first + groups_before * plan.p - plan.lead;
  const size_t step = kRun % plan.p;
  const auto columns_per_run = static_cast<ptrdiff_t>(plan.q * (kRun / plan.p));
  size_t s = from_first % plan.p;
  // Of the run's group, relative to the block's first column.
  ptrdiff_t column = static_cast<ptrdiff_t>(plan.q * (from_first / plan.p)) -
                     static_cast<ptrdiff_t>(plan.q * groups_before);
  for (size_t k = 0; k < count; k += kRun) {
    float copy[kRunColumns], last[kRun];
    const float* from =
        RunColumns(x, static_cast<ptrdiff_t>(columns), column + plan.first_column[s], copy);
    if (k + kRun <= count) {
      PolyphaseRun<kTerms>(plan, s, from, u + k);
    } else {
      PolyphaseRun<kTerms>(plan, s, from, last);
      std::copy(last, last + (count - k), u + k);
    }
    s += step;
    column += columns_per_run;
    if (s >= plan.p) s -= plan.p, column += static_cast<ptrdiff_t>(plan.q);
  }
}

void Polyphase(const PolyphasePlan& plan, const float* x, size_t columns, size_t first,
               size_t count, float* u) {
  if (plan.columns.empty()) {
    return ReferenceTransformKernels().polyphase(plan, x, columns, first, count, u);
  }
  // 8 taps have 8 / OSR terms: rates of 1.25, 1.5, 2 and 2.5, and 3.
  const size_t terms = plan.most_terms - plan.fewest_terms <= 1 ? plan.most_terms : 0;
  switch (terms) {
    case 7:
      return PolyphaseRuns<7>(plan, x, columns, first, count, u);
    case 6:
      return PolyphaseRuns<6>(plan, x, columns, first, count, u);
    case 4:
      return PolyphaseRuns<4>(plan, x, columns, first, count, u);
    case 3:
      return PolyphaseRuns<3>(plan, x, columns, first, count, u);
    default:
      return PolyphaseRuns<0>(plan, x, columns, first, count, u);
  }
}

uint32_t LargestOfFours(const float* u, size_t fours) {
  const F d;
  const hn::RebindToUnsigned<F> du;
  const size_t lanes = hn::Lanes(d);
  auto largest = hn::Zero(du);
  size_t i = 0;
  for (; i + lanes <= 4 * fours; i += lanes) {
    const auto magnitude = hn::Abs(hn::LoadU(d, u + i));
    const auto pairs = hn::Add(magnitude, hn::Shuffle2301(magnitude));
    largest = hn::Max(largest, hn::BitCast(du, hn::Add(pairs, hn::Shuffle1032(pairs))));
  }
  HWY_ALIGN uint32_t each[16];
  hn::Store(largest, du, each);
  uint32_t bits = ReferenceTransformKernels().largest_of_fours(u + i, fours - i / 4);
  for (size_t lane = 0; lane < lanes; ++lane) bits = std::max(bits, each[lane]);
  return bits;
}

#if HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128  // which has no vector registers
// Lanes of each block of four: i0, i1, i2, i3 of v.
template <int i0, int i1, int i2, int i3>
HWY_INLINE hn::Vec<F> PerBlock(hn::Vec<F> v) {
#if HWY_TARGET == HWY_AVX3
  return hn::Vec<F>{_mm512_shuffle_ps(v.raw, v.raw, _MM_SHUFFLE(i3, i2, i1, i0))};
#elif HWY_TARGET == HWY_AVX2
  return hn::Vec<F>{_mm256_shuffle_ps(v.raw, v.raw, _MM_SHUFFLE(i3, i2, i1, i0))};
#else
  return hn::Vec<F>{_mm_shuffle_ps(v.raw, v.raw, _MM_SHUFFLE(i3, i2, i1, i0))};
#endif
}

// Rounds four vectors' lanes and packs them, block by block: bytes 4 i .. 4 i + 3 of a block of 16
// are the lanes of argument i.
HWY_INLINE __m128i PackBlocks(__m128 a, __m128 b, __m128 c, __m128 d) {
  return _mm_packs_epi16(_mm_packs_epi32(_mm_cvtps_epi32(a), _mm_cvtps_epi32(b)),
                         _mm_packs_epi32(_mm_cvtps_epi32(c), _mm_cvtps_epi32(d)));
}
#if HWY_TARGET == HWY_AVX2
HWY_INLINE __m256i PackBlocks(__m256 a, __m256 b, __m256 c, __m256 d) {
  return _mm256_packs_epi16(_mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b)),
                            _mm256_packs_epi32(_mm256_cvtps_epi32(c), _mm256_cvtps_epi32(d)));
}
#elif HWY_TARGET == HWY_AVX3
HWY_INLINE __m512i PackBlocks(__m512 a, __m512 b, __m512 c, __m512 d) {
  return _mm512_packs_epi16(_mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b)),
                            _mm512_packs_epi32(_mm512_cvtps_epi32(c), _mm512_cvtps_epi32(d)));
}
#endif

// The 16 entries of each block of four samples, in that block's place. Entries with bits 0 and 1
// of their number are a sum or difference of the first two samples, negated or not, to which those
// with bits 2 and 3 add or subtract one of the last two: four vectors of entries i, i + 4, ...
// (Negation commutes with rounding, so that this is the definition's order of additions.)
HWY_INLINE hn::Vec<hn::Repartition<uint8_t, F> > EntriesOfBlocks(F d, FloatVec16 v) {
  const hn::Repartition<uint8_t, F> d8;
  HWY_ALIGN static constexpr float kFirst[16] = {-1, 1, -1, 1, -1, 1, -1, 1,
                                                 -1, 1, -1, 1, -1, 1, -1, 1};
  const auto both = hn::MulAdd(v, hn::Load(d, kLaneSigns[0]), hn::Shuffle2301(v));
  // Lanes: v0 + v1, v0 - v1, v2 + v3, v2 - v3 (each x + y as v_even + v_odd).
  const auto first = hn::Mul(hn::Load(d, kFirst), PerBlock<0, 1, 1, 0>(both));
  const auto sum = PerBlock<2, 2, 2, 2>(both), difference = PerBlock<3, 3, 3, 3>(both);
  const auto bytes = PackBlocks(hn::Sub(first, sum).raw, hn::Add(first, difference).raw,
                                hn::Sub(first, difference).raw, hn::Add(first, sum).raw);
  return hn::Xor(hn::Vec<decltype(d8)>{bytes}, hn::Set(d8, uint8_t{128}));
}

void NibbleTables(const float* u, float inverse, size_t groups, uint8_t* tables) {
  const F d;
  const hn::Repartition<uint8_t, F> d8;
  const auto factor = hn::Set(d, inverse);
  for (size_t g = 0; g < groups; ++g, u += kNibbleGroupSamples, tables += kNibbleGroupBytes) {
#if HWY_TARGET == HWY_AVX3
    const auto a = EntriesOfBlocks(d, hn::Mul(hn::LoadU(d, u), factor));
    const auto b = EntriesOfBlocks(d, hn::Mul(hn::LoadU(d, u + 16), factor));
    _mm512_storeu_si512(tables, _mm512_shuffle_i32x4(a.raw, b.raw, _MM_SHUFFLE(2, 0, 2, 0)));
    _mm512_storeu_si512(tables + 64, _mm512_shuffle_i32x4(a.raw, b.raw, _MM_SHUFFLE(3, 1, 3, 1)));
#else
    HWY_ALIGN uint8_t blocks[kNibbleGroupBytes];
    for (size_t i = 0; i < kNibbleGroupSamples; i += hn::Lanes(d)) {
      hn::Store(EntriesOfBlocks(d, hn::Mul(hn::LoadU(d, u + i), factor)), d8, blocks + 4 * i);
    }
    for (size_t j = 0; j < 8; ++j) {
      std::memcpy(tables + j % 2 * 64 + j / 2 * 16, blocks + 16 * j, 16);
    }
#endif
  }
}

// Five trits have one sample each in every block of four lanes: number i of those that begin at u,
// u + 5, ...
HWY_INLINE hn::Vec<F> SpreadFives(const float* u, size_t i) {
#if HWY_TARGET == HWY_AVX3
  const __m512i index = _mm512_set_epi32(15, 15, 15, 15, 10, 10, 10, 10, 5, 5, 5, 5, 0, 0, 0, 0);
  return hn::Vec<F>{_mm512_permutexvar_ps(index, _mm512_loadu_ps(u + i))};
#elif HWY_TARGET == HWY_AVX2
  const __m256 first = _mm256_broadcast_ss(u + i), second = _mm256_broadcast_ss(u + 5 + i);
  return hn::Vec<F>{_mm256_blend_ps(first, second, 0xf0)};
#else
  return hn::Set(F(), u[i]);
#endif
}

uint32_t LargestOfFives(const float* u, size_t fives) {
  const F d;
  const hn::RebindToUnsigned<F> du;
  const size_t blocks = hn::Lanes(d) / 4;
  auto largest = hn::Zero(du);
  const auto add = [&](hn::Vec<F> sum)
                       HWY_ATTR { largest = hn::Max(largest, hn::BitCast(du, sum)); };
  size_t i = 0;
  for (; i + blocks <= fives; i += blocks, u += 5 * blocks) {
    const auto magnitude = [&](size_t k) HWY_ATTR { return hn::Abs(SpreadFives(u, k)); };
    add(hn::Add(hn::Add(magnitude(0), magnitude(1)), magnitude(2)));
    add(hn::Add(magnitude(3), magnitude(4)));
  }
  HWY_ALIGN uint32_t each[16];
  hn::Store(largest, du, each);
  uint32_t bits = ReferenceTransformKernels().largest_of_fives(u, fives - i);
  for (size_t lane = 0; lane < hn::Lanes(d); ++lane) bits = std::max(bits, each[lane]);
  return bits;
}

// Of the 27 and 9 entries of five trits, those behind the middle one are those before it, negated
// and in reverse (negation commutes with rounding), and the middle one is 0: 13 and 4 sums, of
// which each block of four lanes computes four at a time.
HWY_INLINE void TritEntries(F d, const float* u, FloatVec16 factor, uint8_t* tables) {
  const hn::Repartition<uint8_t, F> d8;
  const hn::Repartition<int8_t, F> di8;
  const auto sample = [&](size_t i) HWY_ATTR { return hn::Mul(SpreadFives(u, i), factor); };
  const auto digits = [&](float a, float b, float c, float e) HWY_ATTR {
    HWY_ALIGN const float four[4] = {a, b, c, e};
    return hn::LoadDup128(d, four);
  };
  const auto v0 = sample(0), v1 = sample(1), v2 = sample(2);
  // Digits are -1, 0, 1 of the first sample, then of the second and so on.
  const auto down = digits(-1, -1, -1, 0), turn = digits(-1, 0, 1, -1);
  const auto sum0 = hn::Sub(hn::MulAdd(v1, down, hn::Mul(v0, turn)), v2);
  const auto sum4 =
      hn::Sub(hn::MulAdd(v1, digits(0, 0, 1, 1), hn::Mul(v0, digits(0, 1, -1, 0))), v2);
  const auto sum8 =
      hn::MulAdd(v2, digits(-1, 0, 0, 0),
                 hn::MulAdd(v1, digits(1, -1, -1, -1), hn::Mul(v0, digits(1, -1, 0, 1))));
  const auto sum12 = hn::Mul(v0, digits(-1, 0, 0, 0));
  const auto high = hn::MulAdd(sample(4), down, hn::Mul(sample(3), turn));

  const auto bytes = [&](auto a, auto b, auto c, auto e) HWY_ATTR {
    return hn::BitCast(d8, hn::Vec<decltype(d8)>{PackBlocks(a.raw, b.raw, c.raw, e.raw)});
  };
  const auto negated = [&](auto v)
                           HWY_ATTR { return hn::BitCast(d8, hn::Neg(hn::BitCast(di8, v))); };
  // Bytes of each block: lanes of v from `index`, 0 where that is 128.
  const auto lanes = [&](auto v, const uint8_t* index)
                         HWY_ATTR { return hn::TableLookupBytesOr0(v, hn::LoadDup128(d8, index)); };
  constexpr uint8_t k0 = 128;
  HWY_ALIGN static constexpr uint8_t kEnd[16] = {k0, k0, k0, k0, k0, k0, k0, k0,
                                                 k0, k0, k0, k0, k0, k0, 12, 11};
  HWY_ALIGN static constexpr uint8_t kRest[16] = {10, 9, 8, 7,  6,  5,  4,  3,
                                                  2,  1, 0, k0, k0, k0, k0, k0};
  HWY_ALIGN static constexpr uint8_t kHigh[16] = {0,  1,  2,  3,  k0, k0, k0, k0,
                                                  k0, k0, k0, k0, k0, k0, k0, k0};
  HWY_ALIGN static constexpr uint8_t kHighRest[16] = {k0, k0, k0, k0, k0, 3,  2,  1,
                                                      0,  k0, k0, k0, k0, k0, k0, k0};
  const auto low = bytes(sum0, sum4, sum8, sum12), low_negated = negated(low);
  const auto four = bytes(high, high, high, high), four_negated = negated(four);
  const auto bias = hn::Set(d8, k0);
  hn::StoreU(hn::Xor(hn::Or(low, lanes(low_negated, kEnd)), bias), d8, tables);
  hn::StoreU(hn::Xor(lanes(low_negated, kRest), bias), d8, tables + 64);
  hn::StoreU(hn::Xor(hn::Or(lanes(four, kHigh), lanes(four_negated, kHighRest)), bias), d8,
             tables + 128);
}

void TritTables(const float* u, float inverse, size_t groups, uint8_t* tables) {
  const F d;
  const size_t blocks = hn::Lanes(d) / 4;
  const auto factor = hn::Set(d, inverse);
  for (size_t g = 0; g < groups; ++g, tables += kTritGroupBytes) {
    for (size_t j = 0; j < 4; j += blocks, u += 5 * blocks) {
      TritEntries(d, u, factor, tables + 16 * j);
    }
  }
}

#else

// digit[i][e]: factor of sample i in entry e of a table.
struct Digits {
  HWY_ALIGN float nibble[4][16];
  HWY_ALIGN float low[3][32];
  HWY_ALIGN float high[2][16];
  constexpr Digits() : nibble{}, low{}, high{} {
    const unsigned power[3] = {1, 3, 9};
    for (unsigned e = 0; e < 16; ++e) {
      for (unsigned i = 0; i < 4; ++i) nibble[i][e] = (e >> i & 1) != 0 ? 1.0f : -1.0f;
    }
    for (unsigned e = 0; e < 27; ++e) {
      for (unsigned i = 0; i < 3; ++i) low[i][e] = float(int(e / power[i] % 3) - 1);
    }
    for (unsigned e = 0; e < 9; ++e) {
      for (unsigned i = 0; i < 2; ++i) high[i][e] = float(int(e / power[i] % 3) - 1);
    }
  }
};
inline constexpr Digits kDigits;

HWY_INLINE void StoreEntries(F d, hn::Vec<F> sums, uint8_t* table) {
  const hn::RebindToUnsigned<F> du;
  const hn::Rebind<uint8_t, F> d8;
  const auto rounded = hn::Add(sums, hn::Set(d, kRoundAndBias));
  hn::StoreU(hn::TruncateTo(d8, hn::BitCast(du, rounded)), d8, table);
}

void NibbleTables(const float* u, float inverse, size_t groups, uint8_t* tables) {
  const F d;
  const size_t lanes = hn::Lanes(d);
  for (size_t e = 0; e < 16; e += lanes) {
    const auto digit0 = hn::Load(d, kDigits.nibble[0] + e);
    const auto digit1 = hn::Load(d, kDigits.nibble[1] + e);
    const auto digit2 = hn::Load(d, kDigits.nibble[2] + e);
    const auto digit3 = hn::Load(d, kDigits.nibble[3] + e);
    for (size_t j = 0; j < 8 * groups; ++j, u += 4) {
      const auto first = hn::Add(hn::Mul(hn::Set(d, u[0] * inverse), digit0),
                                 hn::Mul(hn::Set(d, u[1] * inverse), digit1));
      const auto second = hn::Add(hn::Mul(hn::Set(d, u[2] * inverse), digit2),
                                  hn::Mul(hn::Set(d, u[3] * inverse), digit3));
      uint8_t* table = tables + j / 8 * kNibbleGroupBytes + j % 2 * 64 + j % 8 / 2 * 16;
      StoreEntries(d, hn::Add(first, second), table + e);
    }
    u -= kNibbleGroupSamples * groups;
  }
}

uint32_t LargestOfFives(const float* u, size_t fives) {
  return ReferenceTransformKernels().largest_of_fives(u, fives);
}

void TritTables(const float* u, float inverse, size_t groups, uint8_t* tables) {
  const F d;
  const size_t lanes = hn::Lanes(d);
  for (size_t j = 0; j < 4 * groups; ++j, u += 5) {
    float v[5];
    for (size_t i = 0; i < 5; ++i) v[i] = u[i] * inverse;
    uint8_t* table = tables + j / 4 * kTritGroupBytes + j % 4 * 16;
    for (size_t e = 0; e < 32; e += lanes) {
      const auto first = hn::Add(hn::Mul(hn::Set(d, v[0]), hn::Load(d, kDigits.low[0] + e)),
                                 hn::Mul(hn::Set(d, v[1]), hn::Load(d, kDigits.low[1] + e)));
      const auto last = hn::Mul(hn::Set(d, v[2]), hn::Load(d, kDigits.low[2] + e));
      StoreEntries(d, hn::Add(first, last), table + e / 16 * 64 + e % 16);
    }
    for (size_t e = 0; e < 16; e += lanes) {
      const auto sum = hn::Add(hn::Mul(hn::Set(d, v[3]), hn::Load(d, kDigits.high[0] + e)),
                               hn::Mul(hn::Set(d, v[4]), hn::Load(d, kDigits.high[1] + e)));
      StoreEntries(d, sum, table + 128 + e);
    }
  }
}

#endif

const TransformKernels* TransformTable() {
  static constexpr TransformKernels kernels = {FlipSigns,    Hadamard,       WeightedRows,
                                               Polyphase,    LargestOfFours, LargestOfFives,
                                               NibbleTables, TritTables};
  return &kernels;
}

#endif  // HWY_TARGET == HWY_SCALAR
}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_TRANSFORM_KERNELS_INL_H_
