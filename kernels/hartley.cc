#include "kernels/hartley.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/transform_kernels.h"

namespace sdq::kernels {
namespace {

// Below this length of a run, vectors run along the matrices' rows.
constexpr size_t kShortRun = 8;

}  // namespace

Hartley::Hartley(size_t order) : order_(order), half_((order - 1) / 2) {
  if (order == 1) return;
  const size_t even = half_ + 1;
  cosines_.resize(even * even);
  sines_.resize(half_ * half_);
  const double norm = std::sqrt(double(order));
  for (size_t i = 0; i <= half_; ++i) {
    for (size_t k = 0; k <= half_; ++k) {
      const double angle = 2 * std::numbers::pi * double(i * k % order) / double(order);
      cosines_[i * even + k] = static_cast<float>(std::cos(angle) / norm);
      if (i == 0 || k == 0) continue;
      sines_[(i - 1) * half_ + k - 1] = static_cast<float>(std::sin(angle) / norm);
    }
  }
}

void Hartley::Apply(float* x, size_t run) const {
  if (order_ == 1) return;
  const auto weighted_rows = ActiveTransformKernels().weighted_rows;
  const size_t even = half_ + 1;
  thread_local std::vector<float> scratch;  // grows to the longest block once
  scratch.resize(order_ * run + std::max(2 * run, order_));
  float* const sums = scratch.data();
  float* const differences = sums + even * run;
  float* const e = differences + half_ * run;

  std::copy(x, x + run, sums);
  for (size_t k = 1; k <= half_; ++k) {
    const float *a = x + k * run, *b = x + (order_ - k) * run;
    float *s = sums + k * run, *d = differences + (k - 1) * run;
    for (size_t j = 0; j < run; ++j) s[j] = a[j] + b[j];
    for (size_t j = 0; j < run; ++j) d[j] = a[j] - b[j];
  }
  if (run >= kShortRun) {
    weighted_rows(sums, run, cosines_.data(), 1, even, run, x);
    float* const o = e + run;
    for (size_t i = 1; i <= half_; ++i) {
      weighted_rows(sums, run, cosines_.data() + i * even, 1, even, run, e);
      weighted_rows(differences, run, sines_.data() + (i - 1) * half_, 1, half_, run, o);
      float *y = x + i * run, *mirror = x + (order_ - i) * run;
      for (size_t j = 0; j < run; ++j) y[j] = e[j] + o[j];
      for (size_t j = 0; j < run; ++j) mirror[j] = e[j] - o[j];
    }
    return;
  }
  // The same sums in the same order, by the matrices' symmetry.
  float* const o = e + even;
  for (size_t j = 0; j < run; ++j) {
    weighted_rows(cosines_.data(), even, sums + j, run, even, even, e);
    weighted_rows(sines_.data(), half_, differences + j, run, half_, half_, o);
    x[j] = e[0];
    for (size_t i = 1; i <= half_; ++i) {
      x[i * run + j] = e[i] + o[i - 1];
      x[(order_ - i) * run + j] = e[i] - o[i - 1];
    }
  }
}

}  // namespace sdq::kernels
