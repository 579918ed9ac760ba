// The activation side of a sigma-delta product: rotate, interpolate, build look-up tables.
//
// For four consecutive samples (a nibble of the bitstream) a table holds the 16 sums of +-u,
// rounded to 8 bits with one scale per segment: entry = clamp(round_half_even(sum / scale), +-127),
// scale = max |sum| of the segment / 127. This rounding is the definition of the product: integer
// sums of entries are exact, so that all targets, thread counts and batch sizes give the same bits.
#ifndef SDQ_KERNELS_ACTIVATION_H_
#define SDQ_KERNELS_ACTIVATION_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/rotation.h"
#include "kernels/stream_layout.h"

namespace sdq::kernels {

// Immutable; shared by all linears with equal MapSpec (wherever they are in the model).
class ActivationMap {
 public:
  explicit ActivationMap(MapSpec spec);

  const MapSpec& spec() const { return spec_; }
  const StreamLayout& layout() const { return layout_; }

  // u = D^T T(x): x has `columns`, u has row_samples floats. `scratch` has columns floats.
  // Reference for tests and the popcount kernel; PrepareTables does it internally.
  void Interpolate(const float* x, float* u, float* scratch) const;

  // Bytes of one token's tables: multiple of 64. Contents: see kernels/README.md.
  size_t table_bytes() const { return table_bytes_; }
  // Bytes of scratch per thread for PrepareTables.
  size_t scratch_bytes() const;

  // Tables of `tokens` activations x (rows of `columns` floats at x_stride), in parallel over
  // tokens. `tables`: tokens * table_bytes(), 64-byte aligned. `scratch`: Threads() *
  // scratch_bytes(), 64-byte aligned.
  void PrepareTables(const float* x, size_t tokens, size_t x_stride, uint8_t* tables,
                     uint8_t* scratch) const;

 private:
  MapSpec spec_;
  StreamLayout layout_;
  Rotation rotation_;
  std::vector<float> low_pass_;  // dense D^T of full blocks, ideal low-pass only
  std::vector<float> low_pass_tail_;
  size_t table_bytes_ = 0;
};

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_ACTIVATION_H_
