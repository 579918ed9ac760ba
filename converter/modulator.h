// Sigma-delta modulators: a sequence of real samples in, a stream of +1, (0,) -1 out whose
// low-frequency content is the same.
//
// First order (SDQ-LLM, arXiv 2510.03275):
//     I[j] = I[j-1] + x[j] - y[j-1],  y[j] = Q(I[j])            so that Y = X + (1 - z^-1) E.
// Second order: a second integrator in cascade, fed back with the same output,
//     I1[j] = I1[j-1] + x[j] - y[j-1],
//     I2[j] = I2[j-1] + I1[j] - y[j-1],  y[j] = Q(I2[j])        so that Y = X + (1 - z^-1)^2 E.
// Both integrators of the second order saturate at +-kIntegratorLimit: samples beyond the
// quantizer's range, which the scale's quantile lets through on purpose, would otherwise set off
// growing oscillations (Gaussian weights, ternary, OSR 3: relative error 0.30 without the limit,
// 0.084 at 1.6, 0.046 at 1.25; first order 0.049). Integrators start at zero.
//
// Quantizers: ternary Q(I) = 1 if I >= t, -1 if I <= -t, else 0; binary Q(I) = I >= 0 ? 1 : -1.
#ifndef SDQ_CONVERTER_MODULATOR_H_
#define SDQ_CONVERTER_MODULATOR_H_

#include <cstddef>
#include <cstdint>

namespace sdq::converter {

inline constexpr float kIntegratorLimit = 1.25f;

struct Modulator {
  int order = 1;  // 1 or 2
  bool ternary = false;

  // y[j] for j < count. `threshold` (>= 0) is t; the binary quantizer ignores it. Thread safe.
  void Run(const float* x, size_t count, float threshold, int8_t* y) const;
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_MODULATOR_H_
