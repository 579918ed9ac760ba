#include "converter/modulator.h"

#include <algorithm>

namespace sdq::converter {
namespace {

template <bool kTernary>
int Quantize(float integral, float threshold) {
  if constexpr (kTernary) {
    // Both comparisons hold only for a threshold of zero: the positive one wins.
    const int plus = integral >= threshold ? 1 : 0;
    const int minus = integral <= -threshold ? 1 : 0;
    return plus - (minus & (1 - plus));
  } else {
    return integral >= 0 ? 1 : -1;
  }
}

template <bool kTernary>
void FirstOrder(const float* x, size_t count, float threshold, int8_t* y) {
  float integral = 0;
  int last = 0;
  for (size_t j = 0; j < count; ++j) {
    integral = integral + x[j] - float(last);
    last = Quantize<kTernary>(integral, threshold);
    y[j] = int8_t(last);
  }
}

template <bool kTernary>
void SecondOrder(const float* x, size_t count, float threshold, int8_t* y) {
  float first = 0;
  float second = 0;
  int last = 0;
  for (size_t j = 0; j < count; ++j) {
    first = std::clamp(first + x[j] - float(last), -kIntegratorLimit, kIntegratorLimit);
    second = std::clamp(second + first - float(last), -kIntegratorLimit, kIntegratorLimit);
    last = Quantize<kTernary>(second, threshold);
    y[j] = int8_t(last);
  }
}

}  // namespace

void Modulator::Run(const float* x, size_t count, float threshold, int8_t* y) const {
  if (order == 1) {
    ternary ? FirstOrder<true>(x, count, threshold, y) : FirstOrder<false>(x, count, threshold, y);
  } else {
    ternary ? SecondOrder<true>(x, count, threshold, y)
            : SecondOrder<false>(x, count, threshold, y);
  }
}

}  // namespace sdq::converter
