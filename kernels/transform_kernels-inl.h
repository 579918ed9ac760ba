// Activation transform, per target: see transform_kernels.h for what each function computes.
#if defined(SDQ_KERNELS_TRANSFORM_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_TRANSFORM_KERNELS_INL_H_
#undef SDQ_KERNELS_TRANSFORM_KERNELS_INL_H_
#else
#define SDQ_KERNELS_TRANSFORM_KERNELS_INL_H_
#endif

#include <algorithm>

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

// Distances 1 and 2: inside vectors of four.
HWY_INLINE void HadamardFours(float* x, size_t n) {
  const hn::CappedTag<float, 4> d;
  HWY_ALIGN static constexpr float kNegativeOdd[4] = {0.0f, -0.0f, 0.0f, -0.0f};
  HWY_ALIGN static constexpr float kNegativeHigh[4] = {0.0f, 0.0f, -0.0f, -0.0f};
  const auto negative_odd = hn::Load(d, kNegativeOdd);
  const auto negative_high = hn::Load(d, kNegativeHigh);
  for (size_t i = 0; i < n; i += 4) {
    auto v = hn::LoadU(d, x + i);
    v = hn::Add(hn::Shuffle2301(v), hn::Xor(v, negative_odd));
    v = hn::Add(hn::Shuffle1032(v), hn::Xor(v, negative_high));
    hn::StoreU(v, d, x + i);
  }
}

// One stage of distance >= Lanes(d).
template <class D>
HWY_INLINE void HadamardStage(D d, float* x, size_t n, size_t distance) {
  const size_t lanes = hn::Lanes(d);
  for (size_t base = 0; base < n; base += 2 * distance) {
    for (size_t i = base; i < base + distance; i += lanes) {
      const auto a = hn::LoadU(d, x + i);
      const auto b = hn::LoadU(d, x + i + distance);
      hn::StoreU(hn::Add(a, b), d, x + i);
      hn::StoreU(hn::Sub(a, b), d, x + i + distance);
    }
  }
}

void Hadamard(float* x, size_t n, float scale) {
  if (n < 4) return ReferenceTransformKernels().hadamard(x, n, scale);
  HadamardFours(x, n);
  const F d;
  const size_t lanes = hn::Lanes(d);
  for (size_t distance = 4; distance < n; distance *= 2) {
    if (distance >= lanes) {
      HadamardStage(d, x, n, distance);
    } else if (distance >= 8) {
      HadamardStage(hn::CappedTag<float, 8>(), x, n, distance);
    } else {
      HadamardStage(hn::CappedTag<float, 4>(), x, n, distance);
    }
  }
  const auto factor = hn::Set(d, scale);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, x + i), factor), d, x + i);
  for (; i < n; ++i) x[i] *= scale;
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

// Groups of Q columns handled at once, and the most that a sample may look ahead.
inline constexpr size_t kGroups = 32;
inline constexpr size_t kMaxSpan = 32;
inline constexpr size_t kMaxPhases = 64;

// phases[p][h] = x[Q (g0 + h) + p], zero outside [0, columns).
HWY_INLINE void SplitPhases(const PolyphasePlan& plan, const float* x, ptrdiff_t columns,
                            ptrdiff_t g0, float (*phases)[kGroups + kMaxSpan]) {
  const ptrdiff_t q = static_cast<ptrdiff_t>(plan.q);
  const ptrdiff_t count = static_cast<ptrdiff_t>(kGroups + plan.span);
  for (ptrdiff_t p = 0; p < q; ++p) {
    float* phase = phases[p];
    for (ptrdiff_t h = 0; h < count; ++h) {
      const ptrdiff_t column = q * (g0 + h) + p;
      phase[h] = column >= 0 && column < columns ? x[column] : 0.0f;
    }
  }
}

void Polyphase(const PolyphasePlan& plan, const float* x, size_t columns, float* u,
               size_t samples) {
  const F d;
  const size_t lanes = hn::Lanes(d);
  const ptrdiff_t p = static_cast<ptrdiff_t>(plan.p), lead = static_cast<ptrdiff_t>(plan.lead);
  const ptrdiff_t end = static_cast<ptrdiff_t>(samples);
  float phases[kMaxPhases][kGroups + kMaxSpan];
  float sums[kGroups];
  for (ptrdiff_t g0 = -((lead + p - 1) / p); lead + p * g0 < end; g0 += ptrdiff_t{kGroups}) {
    SplitPhases(plan, x, static_cast<ptrdiff_t>(columns), g0, phases);
    for (size_t s = 0; s < plan.p; ++s) {
      for (size_t h = 0; h < kGroups; h += lanes) {
        auto sum = hn::Zero(d);
        for (size_t j = plan.begin[s]; j < plan.begin[s + 1]; ++j) {
          const PolyphasePlan::Term& term = plan.terms[j];
          const auto values = hn::LoadU(d, phases[term.phase] + term.ahead + h);
          sum = hn::Add(sum, hn::Mul(hn::Set(d, term.coefficient), values));
        }
        hn::StoreU(sum, d, sums + h);
      }
      const ptrdiff_t first = lead + p * g0 + static_cast<ptrdiff_t>(s);
      for (ptrdiff_t h = 0; h < ptrdiff_t{kGroups}; ++h) {
        const ptrdiff_t k = first + p * h;
        if (k >= 0 && k < end) u[k] = sums[h];
      }
    }
  }
}

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

void NibbleTables(const float* v, size_t groups, uint8_t* tables) {
  const F d;
  const size_t lanes = hn::Lanes(d);
  for (size_t e = 0; e < 16; e += lanes) {
    const auto digit0 = hn::Load(d, kDigits.nibble[0] + e);
    const auto digit1 = hn::Load(d, kDigits.nibble[1] + e);
    const auto digit2 = hn::Load(d, kDigits.nibble[2] + e);
    const auto digit3 = hn::Load(d, kDigits.nibble[3] + e);
    for (size_t j = 0; j < 8 * groups; ++j) {
      const float* u = v + 4 * j;
      const auto first =
          hn::Add(hn::Mul(hn::Set(d, u[0]), digit0), hn::Mul(hn::Set(d, u[1]), digit1));
      const auto second =
          hn::Add(hn::Mul(hn::Set(d, u[2]), digit2), hn::Mul(hn::Set(d, u[3]), digit3));
      uint8_t* table = tables + j / 8 * kNibbleGroupBytes + j % 2 * 64 + j % 8 / 2 * 16;
      StoreEntries(d, hn::Add(first, second), table + e);
    }
  }
}

void TritTables(const float* v, size_t groups, uint8_t* tables) {
  const F d;
  const size_t lanes = hn::Lanes(d);
  for (size_t j = 0; j < 4 * groups; ++j) {
    const float* u = v + 5 * j;
    uint8_t* table = tables + j / 4 * kTritGroupBytes + j % 4 * 16;
    for (size_t e = 0; e < 32; e += lanes) {
      const auto first = hn::Add(hn::Mul(hn::Set(d, u[0]), hn::Load(d, kDigits.low[0] + e)),
                                 hn::Mul(hn::Set(d, u[1]), hn::Load(d, kDigits.low[1] + e)));
      const auto last = hn::Mul(hn::Set(d, u[2]), hn::Load(d, kDigits.low[2] + e));
      StoreEntries(d, hn::Add(first, last), table + e / 16 * 64 + e % 16);
    }
    for (size_t e = 0; e < 16; e += lanes) {
      const auto sum = hn::Add(hn::Mul(hn::Set(d, u[3]), hn::Load(d, kDigits.high[0] + e)),
                               hn::Mul(hn::Set(d, u[4]), hn::Load(d, kDigits.high[1] + e)));
      StoreEntries(d, sum, table + 128 + e);
    }
  }
}

const TransformKernels* TransformTable() {
  static constexpr TransformKernels kernels = {Hadamard, WeightedRows, Polyphase, NibbleTables,
                                               TritTables};
  return &kernels;
}

#endif  // HWY_TARGET == HWY_SCALAR
}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_TRANSFORM_KERNELS_INL_H_
