// y = W x for a sigma-delta matrix W: look-up tables (or bit-planes) times bitstream.
#ifndef SDQ_KERNELS_STREAM_PRODUCT_H_
#define SDQ_KERNELS_STREAM_PRODUCT_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/activation.h"
#include "kernels/stream_layout.h"

namespace sdq::kernels {

// Non-owning view of a packed matrix. `bits` has ceil(rows/16) * layout.tile_bytes() bytes and 64
// readable bytes behind them; no alignment is required but 64 is fast.
struct StreamMatrix {
  const uint8_t* bits = nullptr;
  size_t rows = 0;
  // Scales in f16, times scale_base; one per row, or [rows][blocks] when per_block.
  const uint16_t* scales_f16 = nullptr;
  float scale_base = 1.0f;
  bool per_block = false;
  const uint16_t* means_f16 = nullptr;  // like scales, or null; need MapSpec::block_sums
  float mean_base = 1.0f;
  const float* bias = nullptr;  // rows, or null
};

// y[t * y_stride + r] = bias_r + sum_segments scale_(r,block) * table_scale * integer_sum
//                               + sum_blocks mean_(r,block) * sum(u of the block).
// `tables` comes from map.PrepareTables for these `tokens` activations, all of them, in this form.
// In parallel over row tiles; results do not depend on threads, tokens per call, or target.
void StreamProduct(const StreamMatrix& w, const ActivationMap& map, TableForm form,
                   const uint8_t* tables, size_t tokens, float* y, size_t y_stride);

// A matrix of several with the same map, and where its products go.
struct StreamOutput {
  const StreamMatrix* matrix = nullptr;
  float* y = nullptr;
  size_t y_stride = 0;
};
// The same for several matrices, in one parallel region.
void StreamProducts(std::span<const StreamOutput> outputs, const ActivationMap& map, TableForm form,
                    const uint8_t* tables, size_t tokens);

// Says that one token's products with these matrices, whose map this is, come after those that are
// called next. Threads that have to wait in between fetch what they will read first. A hint:
// results do not depend on it, and nothing is read through `outputs` later. y: not used.
void AnnounceProducts(std::span<const StreamOutput> outputs, const ActivationMap& map);

// The same from activations u quantized to 8 bits per segment and cut into bit-planes, by counting
// bits. Rounds differently from StreamProduct (8-bit u instead of 8-bit sums of four), equally on
// every target. `planes` from PreparePlanes.
size_t PlaneBytes(const ActivationMap& map);
void PreparePlanes(const ActivationMap& map, const float* x, size_t tokens, size_t x_stride,
                   uint8_t* planes, uint8_t* scratch);
void StreamProductPopcount(const StreamMatrix& w, const ActivationMap& map, const uint8_t* planes,
                           size_t tokens, float* y, size_t y_stride);

// Float reconstruction of rows [first_row, first_row + rows) of W (rotation undone), for embedding
// look-ups, the reference and the converter: out[rows][columns]. bias not included.
void ReconstructRows(const StreamMatrix& w, const ActivationMap& map, size_t first_row, size_t rows,
                     float* out);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_STREAM_PRODUCT_H_
