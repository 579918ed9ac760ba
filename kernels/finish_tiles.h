// From the sums of a bitstream's rows to products: factors, means and bias.
#ifndef SDQ_KERNELS_FINISH_TILES_H_
#define SDQ_KERNELS_FINISH_TILES_H_

#include <cstddef>

#include "kernels/stream_product.h"

namespace sdq::kernels {

// For the rows of `tiles` tiles, which begin at `row` and `row_stride` rows apart, of a matrix with
// one scale per row:
//   y[r] = scale_r acc[r], then + mean_r sum, then + bias_r, the latter two if there are any,
// each rounded for itself. acc: 16 floats for every tile, one behind the other; y: of the whole
// matrix, which ends inside the last tile if its rows do. The same bits on every target.
void FinishTiles(const StreamMatrix& w, size_t row, size_t row_stride, size_t tiles,
                 const float* acc, float sum, float* y);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_FINISH_TILES_H_
