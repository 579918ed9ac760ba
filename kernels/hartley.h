// The discrete Hartley transform of odd order m, over runs of values:
//   y_i = sum_k C[i][k] x_k,  C[i][k] = (cos(2 pi i k / m) + sin(2 pi i k / m)) / sqrt(m).
// Symmetric and orthogonal, so that it is its own inverse.
//
// Cosine is even and sine is odd in k and in i, so that with s_k = x_k + x_(m-k) and
// d_k = x_k - x_(m-k), 1 <= k <= h = (m - 1) / 2, half the products are enough:
//   y_i = E_i + O_i,  y_(m-i) = E_i - O_i,
//   E_i = (x_0 + sum_k cos(2 pi i k / m) s_k) / sqrt(m),  O_i = sum_k sin(2 pi i k / m) d_k /
//   sqrt(m).
#ifndef SDQ_KERNELS_HARTLEY_H_
#define SDQ_KERNELS_HARTLEY_H_

#include <cstddef>
#include <vector>

namespace sdq::kernels {

// Immutable after construction, safe to share between threads.
class Hartley {
 public:
  explicit Hartley(size_t order = 1);  // odd

  // In place on [order][run] floats: the transform of every column.
  void Apply(float* x, size_t run) const;

 private:
  size_t order_, half_;
  std::vector<float> cosines_;  // [half + 1][half + 1], i and k from 0
  std::vector<float> sines_;    // [half][half], i and k from 1
};

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_HARTLEY_H_
