#include "kernels/rotation.h"

#include <algorithm>
#include <cmath>

#include "kernels/parallel.h"
#include "kernels/transform_kernels.h"

namespace sdq::kernels {
namespace {

size_t PowerOfTwoPart(size_t n) { return n & (~n + 1); }

// y = (C_m (x) H_run) x for `size` = m * run values; of s o x if there are signs.
void OrthogonalBlock(const TransformKernels& kernels, const Hartley& hartley, const float* x,
                     const uint8_t* signs, size_t size, float* y) {
  const size_t run = PowerOfTwoPart(size);
  const float scale = static_cast<float>(1.0 / std::sqrt(double(run)));
  for (size_t at = 0; at < size; at += run) {
    kernels.hadamard(x + at, signs == nullptr ? nullptr : signs + at, run, scale, y + at);
  }
  hartley.Apply(y, run);
}

}  // namespace

float RotationSign(uint64_t seed, uint64_t i) {
  uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return (z >> 63) != 0 ? -1.0f : 1.0f;
}

Rotation::Rotation(size_t columns, size_t block, uint64_t sign_seed)
    : columns_(columns), block_(block) {
  if (block_ == 0 || columns_ == 0) return;
  block_ = std::min(block_, columns_);
  signs_.resize(columns_);
  for (size_t i = 0; i < columns_; ++i) signs_[i] = RotationSign(sign_seed, i) < 0 ? 0x80 : 0;
  const size_t tail = columns_ % block_;
  hartley_ = Hartley(block_ / PowerOfTwoPart(block_));
  if (tail != 0) hartley_tail_ = Hartley(tail / PowerOfTwoPart(tail));
}

void Rotation::Orthogonal(const float* x, const uint8_t* signs, float* y) const {
  const TransformKernels& kernels = ActiveTransformKernels();
  for (size_t at = 0; at < columns_; at += block_) {
    const size_t size = std::min(block_, columns_ - at);
    OrthogonalBlock(kernels, size == block_ ? hartley_ : hartley_tail_, x + at,
                    signs == nullptr ? nullptr : signs + at, size, y + at);
  }
}

void Rotation::Apply(const float* x, float* rotated) const {
  if (signs_.empty()) {
    if (rotated != x) std::copy(x, x + columns_, rotated);
    return;
  }
  Orthogonal(x, signs_.data(), rotated);
}

void Rotation::Inverse(float* x) const {
  if (signs_.empty()) return;
  Orthogonal(x, nullptr, x);
  ActiveTransformKernels().flip_signs(x, signs_.data(), columns_, x);
}

void Rotation::ApplyRows(float* x, size_t rows, size_t stride) const {
  ParallelFor(rows, 1, [&](size_t begin, size_t end, size_t) {
    for (size_t r = begin; r < end; ++r) Apply(x + r * stride);
  });
}

void Rotation::InverseRows(float* x, size_t rows, size_t stride) const {
  ParallelFor(rows, 1, [&](size_t begin, size_t end, size_t) {
    for (size_t r = begin; r < end; ++r) Inverse(x + r * stride);
  });
}

}  // namespace sdq::kernels
