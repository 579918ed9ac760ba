#include "kernels/rotation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "kernels/parallel.h"
#include "kernels/transform_kernels.h"

namespace sdq::kernels {
namespace {

// Below this length of the Hadamard part the Hartley matrix is applied along its own rows.
constexpr size_t kShortRun = 8;

size_t PowerOfTwoPart(size_t n) { return n & (~n + 1); }

std::vector<float> HartleyMatrix(size_t m) {
  std::vector<float> values(m), matrix(m * m);
  for (size_t i = 0; i < m; ++i) {
    const double angle = 2 * std::numbers::pi * double(i) / double(m);
    values[i] = static_cast<float>((std::cos(angle) + std::sin(angle)) / std::sqrt(double(m)));
  }
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < m; ++j) matrix[i * m + j] = values[i * j % m];
  }
  return matrix;
}

// x = (C_m (x) H_run) x for `size` = m * run values.
void OrthogonalBlock(const TransformKernels& kernels, const std::vector<float>& hartley, float* x,
                     size_t size) {
  const size_t run = PowerOfTwoPart(size), m = size / run;
  const float scale = static_cast<float>(1.0 / std::sqrt(double(run)));
  for (size_t i = 0; i < m; ++i) kernels.hadamard(x + i * run, run, scale);
  if (m == 1) return;
  thread_local std::vector<float> scratch;  // grows to the longest block once
  scratch.resize(size + m);
  std::copy(x, x + size, scratch.data());
  if (run >= kShortRun) {
    for (size_t i = 0; i < m; ++i) {
      kernels.weighted_rows(scratch.data(), run, hartley.data() + i * m, 1, m, run, x + i * run);
    }
    return;
  }
  // The same sums in the same order, by the matrix's symmetry, with vectors along its rows.
  float* column = scratch.data() + size;
  for (size_t j = 0; j < run; ++j) {
    kernels.weighted_rows(hartley.data(), m, scratch.data() + j, run, m, m, column);
    for (size_t i = 0; i < m; ++i) x[i * run + j] = column[i];
  }
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
  for (size_t i = 0; i < columns_; ++i) signs_[i] = RotationSign(sign_seed, i);
  const size_t tail = columns_ % block_;
  hartley_ = HartleyMatrix(block_ / PowerOfTwoPart(block_));
  if (tail != 0) hartley_tail_ = HartleyMatrix(tail / PowerOfTwoPart(tail));
}

void Rotation::Orthogonal(float* x) const {
  const TransformKernels& kernels = ActiveTransformKernels();
  for (size_t at = 0; at < columns_; at += block_) {
    const size_t size = std::min(block_, columns_ - at);
    OrthogonalBlock(kernels, size == block_ ? hartley_ : hartley_tail_, x + at, size);
  }
}

void Rotation::Apply(float* x) const {
  if (signs_.empty()) return;
  for (size_t i = 0; i < columns_; ++i) x[i] *= signs_[i];
  Orthogonal(x);
}

void Rotation::Inverse(float* x) const {
  if (signs_.empty()) return;
  Orthogonal(x);
  for (size_t i = 0; i < columns_; ++i) x[i] *= signs_[i];
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
