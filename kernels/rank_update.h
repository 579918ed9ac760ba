// The symmetric update of a blocked Cholesky factorization, in f64.
#ifndef SDQ_KERNELS_RANK_UPDATE_H_
#define SDQ_KERNELS_RANK_UPDATE_H_

#include <cstddef>

namespace sdq::kernels {

// Columns of P that lie together.
inline constexpr size_t kUpdateStripe = 16;

// m[i][j] -= sum_k P[k][i] P[k][j] for i <= j < size, k ascending below `depth`; m is row-major
// with rows of n. Elements below the diagonal lose their meaning. `packed` holds P in stripes,
// [size / 16][depth][16]; `size` is a multiple of 16. In parallel; same bits for any number of
// threads.
void SubtractOwnProduct(const double* packed, size_t depth, size_t size, size_t n, double* m);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_RANK_UPDATE_H_
