// The activation side of a sigma-delta product: rotate, interpolate, build look-up tables.
//
// For four consecutive samples (a nibble of the bitstream) a table holds the 16 sums of +-u; for
// five packed trits two tables hold the 27 and 9 sums of the first three and last two. Sums are
// rounded to 8 bits with one scale per segment: entry = round_half_even(sum / scale) in [-127,
// 127], scale = max |sum| of the segment / 127. This rounding is the definition of the product:
// integer sums of entries are exact, so that all targets, thread counts and batch sizes give the
// same bits. The exact order of operations and the place of every byte: kernels/README.md.
#ifndef SDQ_KERNELS_ACTIVATION_H_
#define SDQ_KERNELS_ACTIVATION_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/int8_plan.h"
#include "kernels/rotation.h"
#include "kernels/stream_kernels.h"
#include "kernels/stream_layout.h"
#include "kernels/transform_kernels.h"

namespace sdq::kernels {

// Immutable; shared by all linears with equal MapSpec (wherever they are in the model).
class ActivationMap {
 public:
  explicit ActivationMap(MapSpec spec);

  const MapSpec& spec() const { return spec_; }
  const StreamLayout& layout() const { return layout_; }

  // u = D^T T(x): x has `columns`, u has u_samples floats. `scratch` has columns floats.
  // Reference for tests and the popcount kernel; PrepareTables does it internally.
  // Every target gives the same bits.
  void Interpolate(const float* x, float* u, float* scratch) const;

  // T(x): the first step of the above. x and rotated have `columns` floats.
  void Rotate(const float* x, float* rotated) const { rotation_.Apply(x, rotated); }

  // The 8-bit weights that D makes of samples, for int8_product.h.
  const Int8Plan& int8_plan() const { return int8_plan_; }

  // w = T^-1(D samples): u_samples floats to columns floats, sums in double precision.
  void Decimate(const float* samples, float* w) const;

  // Bytes of one token's tables: multiple of 64. Contents: see kernels/README.md; a form and a
  // target may arrange them in another way.
  size_t table_bytes() const { return table_bytes_; }
  // Bytes of scratch per thread for PrepareTables and PreparePlanes; a multiple of 64.
  size_t scratch_bytes() const;

  // Tables of `tokens` activations x (rows of `columns` floats at x_stride), in parallel over
  // tokens, or over their segments where there are fewer tokens than threads. `tables`: tokens *
  // table_bytes(), 64-byte aligned. `scratch`: Threads() * scratch_bytes(), 64-byte aligned.
  void PrepareTables(const float* x, size_t tokens, size_t x_stride, TableForm form,
                     uint8_t* tables, uint8_t* scratch) const;

  // The same for the popcount kernel: 8-bit u in bit-planes instead of tables.
  size_t plane_bytes() const { return plane_bytes_; }
  void PreparePlanes(const float* x, size_t tokens, size_t x_stride, uint8_t* planes,
                     uint8_t* scratch) const;

  // Of the derived samples; null if there are none.
  const DerivedMaps* derived_maps() const { return spec_.derived != 0 ? &derived_maps_ : nullptr; }

  // Where each segment's tables and planes begin in a token's prepared bytes.
  const std::vector<size_t>& table_offsets() const { return table_offsets_; }
  const std::vector<size_t>& plane_offsets() const { return plane_offsets_; }

 private:
  void InterpolateSegment(size_t s, const float* rotated, float* u) const;
  void PrepareSegment(size_t s, const float* u, bool planes, TableArrangement arrange,
                      uint8_t* token) const;
  void Prepare(const float* x, size_t tokens, size_t x_stride, bool planes, TableForm form,
               uint8_t* out, uint8_t* scratch) const;

  MapSpec spec_;
  StreamLayout layout_;
  Rotation rotation_;
  Int8Plan int8_plan_;
  PolyphasePlan polyphase_;           // polyphase only
  PolyphasePlan derived_polyphase_;   // of the derived stream, if there is one
  DerivedMaps derived_maps_;          // likewise
  std::vector<float> low_pass_;       // D [columns][samples] of full blocks, ideal low-pass only
  std::vector<float> low_pass_tail_;  // of the last, shorter block
  std::vector<size_t> table_offsets_;
  std::vector<size_t> plane_offsets_;
  size_t table_bytes_ = 0;
  size_t plane_bytes_ = 0;
};

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_ACTIVATION_H_
