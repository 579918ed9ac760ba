// Norms, activations, softmax and dot product.
#include "kernels/vector_math.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/vector_math.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/exp-inl.h"
#include "kernels/reduce-inl.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {

// y[i] = f(x[i]).
template <class Function>
HWY_INLINE void Map(const float* x, size_t n, float* y, const Function& f) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(f(hn::LoadU(d, x + i)), d, y + i);
  if (i < n) StorePart(d, f(LoadPart(d, x + i, n - i)), y + i, n - i);
}

// z[i] = f(x[i], y[i]).
template <class Function>
HWY_INLINE void Map2(const float* x, const float* y, size_t n, float* z, const Function& f) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(f(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, z + i);
  }
  if (i < n) {
    StorePart(d, f(LoadPart(d, x + i, n - i), LoadPart(d, y + i, n - i)), z + i, n - i);
  }
}

void RmsNormTarget(const float* x, const float* weight, float eps, size_t n, float* y) {
  const FloatTag d;
  const double squares = SumTerms(x, n, [](FloatVec v) HWY_ATTR { return hn::Mul(v, v); });
  const double mean = squares / static_cast<double>(n);
  const auto factor = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps)));
  const FloatVec scale = hn::Set(d, factor);
  Map2(x, weight, n, y,
       [&](FloatVec v, FloatVec w) HWY_ATTR { return hn::Mul(hn::Mul(v, scale), w); });
}

void LayerNormTarget(const float* x, const float* weight, const float* bias, float eps, size_t n,
                     float* y) {
  const FloatTag d;
  const auto count = static_cast<double>(n);
  const double sum = SumTerms(x, n, [](FloatVec v) HWY_ATTR { return v; });
  const FloatVec mean = hn::Set(d, static_cast<float>(sum / count));
  const double squares = SumTerms(x, n, [&](FloatVec v) HWY_ATTR {
    const FloatVec centred = hn::Sub(v, mean);
    return hn::Mul(centred, centred);
  });
  const double variance = squares / count + static_cast<double>(eps);
  const FloatVec scale = hn::Set(d, static_cast<float>(1.0 / std::sqrt(variance)));
  Map(x, n, y, [&](FloatVec v) HWY_ATTR { return hn::Mul(hn::Sub(v, mean), scale); });
  if (weight != nullptr) {
    Map2(y, weight, n, y, [](FloatVec v, FloatVec w) HWY_ATTR { return hn::Mul(v, w); });
  }
  if (bias != nullptr) {
    Map2(y, bias, n, y, [](FloatVec v, FloatVec b) HWY_ATTR { return hn::Add(v, b); });
  }
}

void AddInPlaceTarget(float* x, const float* y, size_t n) {
  Map2(x, y, n, x, [](FloatVec a, FloatVec b) HWY_ATTR { return hn::Add(a, b); });
}

void ReluInPlaceTarget(float* x, size_t n) {
  const FloatTag d;
  const FloatVec zero = hn::Zero(d);
  // NaN stays NaN.
  Map(x, n, x, [&](FloatVec v) HWY_ATTR { return hn::IfThenElse(hn::Lt(v, zero), zero, v); });
}

void SiluMulTarget(float* gate, const float* up, size_t n) {
  const FloatTag d;
  const FloatVec one = hn::Set(d, 1.0f);
  Map2(gate, up, n, gate, [&](FloatVec g, FloatVec u) HWY_ATTR {
    return hn::Mul(hn::Div(g, hn::Add(one, Exp(d, hn::Neg(g)))), u);
  });
}

// log(sum exp) from the greatest value and the sum of e^(x - greatest).
HWY_INLINE float LogSum(float greatest, double sum) {
  return static_cast<float>(static_cast<double>(greatest) + std::log(sum));
}

float SoftmaxTarget(float* x, size_t n) {
  const float greatest = MaxOf(x, n);
  if (std::isinf(greatest) && greatest < 0.0f) {
    // Nothing has any weight, unless a NaN hides among the values.
    for (size_t i = 0; i < n; ++i) x[i] = std::isnan(x[i]) ? x[i] : 0.0f;
    return greatest;
  }
  const double sum = ExpInPlace(x, n, greatest);
  ScaleInPlace(x, n, static_cast<float>(1.0 / sum));
  return LogSum(greatest, sum);
}

float LogSumExpTarget(const float* x, size_t n) {
  const FloatTag d;
  const float greatest = MaxOf(x, n);
  if (std::isinf(greatest)) return greatest;
  const FloatVec shift = hn::Set(d, greatest);
  const double sum = SumTerms(x, n, [&](FloatVec v) HWY_ATTR { return Exp(d, hn::Sub(v, shift)); });
  return LogSum(greatest, sum);
}

float DotTarget(const float* a, const float* b, size_t n) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  FloatVec sum0 = hn::Zero(d);
  FloatVec sum1 = hn::Zero(d);
  size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    sum0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum0);
    sum1 = hn::MulAdd(hn::LoadU(d, a + i + lanes), hn::LoadU(d, b + i + lanes), sum1);
  }
  if (i + lanes <= n) {
    sum0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum0);
    i += lanes;
  }
  if (i < n) sum1 = hn::MulAdd(LoadPart(d, a + i, n - i), LoadPart(d, b + i, n - i), sum1);
  return SumLanes(d, hn::Add(sum0, sum1));
}

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

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sdq::kernels {

HWY_EXPORT(RotaryTarget);
HWY_EXPORT(RmsNormTarget);
HWY_EXPORT(LayerNormTarget);
HWY_EXPORT(AddInPlaceTarget);
HWY_EXPORT(ReluInPlaceTarget);
HWY_EXPORT(SiluMulTarget);
HWY_EXPORT(SoftmaxTarget);
HWY_EXPORT(LogSumExpTarget);
HWY_EXPORT(DotTarget);

void RmsNorm(const float* x, const float* weight, float eps, size_t n, float* y) {
  HWY_DYNAMIC_DISPATCH(RmsNormTarget)(x, weight, eps, n, y);
}

void LayerNorm(const float* x, const float* weight, const float* bias, float eps, size_t n,
               float* y) {
  HWY_DYNAMIC_DISPATCH(LayerNormTarget)(x, weight, bias, eps, n, y);
}

void AddInPlace(float* x, const float* y, size_t n) {
  HWY_DYNAMIC_DISPATCH(AddInPlaceTarget)(x, y, n);
}

void ReluInPlace(float* x, size_t n) { HWY_DYNAMIC_DISPATCH(ReluInPlaceTarget)(x, n); }

void SiluMul(float* gate, const float* up, size_t n) {
  HWY_DYNAMIC_DISPATCH(SiluMulTarget)(gate, up, n);
}

// x Phi(x) = x erfc(-x / sqrt 2) / 2: erfc keeps the relative precision of the left tail.
void GeluInPlace(float* x, size_t n) {
  for (size_t i = 0; i < n; ++i) x[i] = 0.5f * x[i] * std::erfc(-0x1.6a09e6p-1f * x[i]);
}

float Softmax(float* x, size_t n) { return HWY_DYNAMIC_DISPATCH(SoftmaxTarget)(x, n); }

float LogSumExp(const float* x, size_t n) { return HWY_DYNAMIC_DISPATCH(LogSumExpTarget)(x, n); }

float Dot(const float* a, const float* b, size_t n) {
  return HWY_DYNAMIC_DISPATCH(DotTarget)(a, b, n);
}

void Rotary(float* x, size_t heads, size_t dim, const float* cos_sin) {
  HWY_DYNAMIC_DISPATCH(RotaryTarget)(x, heads, dim, cos_sin);
}

}  // namespace sdq::kernels
#endif  // HWY_ONCE
