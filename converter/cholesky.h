// Upper triangular R with M = R R^T: Cholesky factorization from the last column to the first.
#ifndef SDQ_CONVERTER_CHOLESKY_H_
#define SDQ_CONVERTER_CHOLESKY_H_

#include <cstddef>
#include <vector>

#include "format/status.h"

namespace sdq::converter {

// In place in the upper triangle of m[n][n] (what lies below the diagonal is lost). Blocked, in
// parallel; every element is reduced in the same order, whatever the number of threads.
// InvalidArgument if M is not positive definite.
Status FactorFromTheEnd(std::vector<double>* m, size_t n);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_CHOLESKY_H_
