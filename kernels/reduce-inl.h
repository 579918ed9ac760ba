// Sums of many float terms in a fixed order: f32 over runs of 64 vectors, f64 over runs.
#if defined(SDQ_KERNELS_REDUCE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_REDUCE_INL_H_
#undef SDQ_KERNELS_REDUCE_INL_H_
#else
#define SDQ_KERNELS_REDUCE_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <limits>

#include "kernels/exp-inl.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {

// Sum of term(v) over the values of x. term maps a vector to a vector; it must be cheap in
// registers since it is inlined twice.
template <class Term>
HWY_INLINE double SumTerms(const float* x, size_t n, const Term& term) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  const size_t run = 64 * lanes;
  double total = 0.0;
  for (size_t begin = 0; begin < n; begin += run) {
    const size_t end = std::min(n, begin + run);
    FloatVec even = hn::Zero(d);
    FloatVec odd = hn::Zero(d);
    size_t i = begin;
    for (; i + 2 * lanes <= end; i += 2 * lanes) {
      even = hn::Add(even, term(hn::LoadU(d, x + i)));
      odd = hn::Add(odd, term(hn::LoadU(d, x + i + lanes)));
    }
    if (i + lanes <= end) {
      even = hn::Add(even, term(hn::LoadU(d, x + i)));
      i += lanes;
    }
    if (i < end) {
      const FloatVec last = term(LoadPart(d, x + i, end - i));
      odd = hn::Add(odd, hn::IfThenElseZero(hn::FirstN(d, end - i), last));
    }
    total += static_cast<double>(SumLanes(d, hn::Add(even, odd)));
  }
  return total;
}

// The greatest value; minus infinity if there is none.
HWY_INLINE float MaxOf(const float* x, size_t n) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  float rest = -std::numeric_limits<float>::infinity();
  FloatVec greatest = hn::Set(d, rest);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) greatest = hn::Max(greatest, hn::LoadU(d, x + i));
  for (; i < n; ++i) rest = std::max(rest, x[i]);
  // Not MaxOfLanes: emulated, it begins at the lowest finite number.
  float each[kMaxFloats];
  hn::StoreU(greatest, d, each);
  return std::max(rest, *std::max_element(each, each + lanes));
}

// x[i] = e^(x[i] - shift); returns the sum.
HWY_INLINE double ExpInPlace(float* x, size_t n, float shift) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  const FloatVec by = hn::Set(d, shift);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(Exp(d, hn::Sub(hn::LoadU(d, x + i), by)), d, x + i);
  }
  if (i < n) StorePart(d, Exp(d, hn::Sub(LoadPart(d, x + i, n - i), by)), x + i, n - i);
  return SumTerms(x, n, [](FloatVec v) HWY_ATTR { return v; });
}

HWY_INLINE void ScaleInPlace(float* x, size_t n, float factor) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  const FloatVec by = hn::Set(d, factor);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, x + i), by), d, x + i);
  if (i < n) StorePart(d, hn::Mul(LoadPart(d, x + i, n - i), by), x + i, n - i);
}

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_REDUCE_INL_H_
