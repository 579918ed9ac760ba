// Products of matrices rounded to bfloat16 on the tile unit of recent x86 processors (AMX-BF16),
// ten times as fast there as f32. dense.h offers them as Precision::kRounded.
//
// C[i][j] = sum_k L[i][k] R[k][j]: factors rounded to nearest even, products and sums in f32, k
// ascending in pairs, 32 at a time. The order depends on the depth alone: same bits for any thread
// count and any batch. Denormal factors count as zero.
#ifndef SDQ_KERNELS_TILE_PRODUCT_H_
#define SDQ_KERNELS_TILE_PRODUCT_H_

#include <cstddef>

#include "kernels/dense.h"

namespace sdq::kernels {

// Whether the processor has them, the operating system grants them and the best target is active
// (dispatch.h): forcing another one turns them off. All below need it.
bool TileProductsAvailable();

// DenseProduct for f32, f16 and bf16 weights.
void TileDenseProduct(const DenseMatrix& w, const float* x, size_t tokens, size_t x_stride,
                      float* y, size_t y_stride);

// MatMul.
void TileMatMul(const float* a, size_t lda, const float* b, size_t ldb, float* c, size_t ldc,
                size_t m, size_t n, size_t k, bool accumulate);

// sums[m][n] += E^T X for E[tokens][m], X[tokens][n], one f32 sum over all tokens of the call.
// `upper`: only the elements on and above the diagonal.
void TileAddCross(const float* e, size_t m, size_t e_stride, const float* x, size_t n,
                  size_t x_stride, size_t tokens, bool upper, double* sums);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_TILE_PRODUCT_H_
