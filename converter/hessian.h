// The layer's quadratic objective: tr(E H E^T) with E = W - W_q and H = X X^T of its inputs.
//
// Factored as H = (I + A) D (I + A)^T with A strictly upper triangular, it says what a sequential
// quantizer should aim at: column j's target is
//     t_j = w_j + sum_{i<j} (w_i - q_i) A_ij
// and the cost of an error (t_j - q_j) is D_j (t_j - q_j)^2. This is GPTQ/OBQ error feedback in
// closed form (Frantar et al. 2022; LDLQ of Chee et al. 2023).
#ifndef SDQ_CONVERTER_HESSIAN_H_
#define SDQ_CONVERTER_HESSIAN_H_

#include <cstddef>
#include <vector>

#include "format/status.h"
#include "kernels/rotation.h"

namespace sdq::converter {

struct Feedback {
  size_t n = 0;
  std::vector<float> a;  // [n][n] row-major, unit upper triangular: a[i][i] = 1, a[i][j<i] = 0
  std::vector<float> d;  // [n], > 0
};

// h[n][n] symmetric positive semidefinite; `damping` times the mean diagonal is added to the
// diagonal, dead columns (zero diagonal) are set to that mean. Blocked Cholesky, multi-threaded,
// result independent of the thread count.
Result<Feedback> FactorHessian(std::vector<double> h, size_t n, double damping);

// rows[count][n] become rows (H + damping)^-1, H as factored. Multi-threaded, a row's
// result depends on nothing else.
void SolveRows(const Feedback& feedback, size_t count, float* rows);

// The first half of that: rows[count][n] become rows (I + A)^-T.
void SolveFactorRows(const Feedback& feedback, size_t count, float* rows);

// H in the rotated basis: T H T^T, in place.
void RotateHessian(const kernels::Rotation& rotation, std::vector<double>* h);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_HESSIAN_H_
