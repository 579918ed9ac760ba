// Randomized Hadamard rotation, generalized to any length.
//
// T(x) = K (s o x) on each block of `block` values (the last block of a row may be shorter). s are
// +-1 signs; for a block of len = m 2^k (m odd) K = C_m (x) H_{2^k} with H the Sylvester Hadamard
// matrix over the fastest index scaled by 2^(-k/2), and C_m the discrete Hartley matrix (hartley.h)
// over the slowest. K is symmetric and orthogonal, hence T^-1(y) = s o K y, and (T w) . (T x) = w .
// x for weights w, activations x.
#ifndef SDQ_KERNELS_ROTATION_H_
#define SDQ_KERNELS_ROTATION_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/hartley.h"

namespace sdq::kernels {

// Sign of column i: -1 if the top bit of splitmix64(seed + (i + 1) * 0x9E3779B97F4A7C15) is set
// (the finalizer of Steele, Lea & Flood 2014 applied to that counter), else +1.
float RotationSign(uint64_t seed, uint64_t i);

// Immutable after construction, safe to share between threads.
class Rotation {
 public:
  // block = 0: no rotation (Apply and Inverse leave the values as they are).
  Rotation(size_t columns, size_t block, uint64_t sign_seed);

  size_t columns() const { return columns_; }
  // On one row of `columns` floats, in place or to another.
  void Apply(float* x) const { Apply(x, x); }
  void Apply(const float* x, float* rotated) const;
  void Inverse(float* x) const;
  // In place on `rows` rows at `stride` floats, in parallel.
  void ApplyRows(float* x, size_t rows, size_t stride) const;
  void InverseRows(float* x, size_t rows, size_t stride) const;

 private:
  // y = K x, or K (s o x), every block.
  void Orthogonal(const float* x, const uint8_t* signs, float* y) const;
  size_t columns_;
  size_t block_;
  std::vector<uint8_t> signs_;  // 0x80: minus, else 0. Bytes, since decode finds them in no cache
  Hartley hartley_;             // C_m of the full blocks
  Hartley hartley_tail_;        // of the last, shorter block
};

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_ROTATION_H_
