// The float and rounding steps of the activation transform that are worth vectors.
//
// Each is defined operation by operation (plain multiplications and additions in a stated order, no
// fused ones), so that every target gives the same bits.
#ifndef SDQ_KERNELS_TRANSFORM_KERNELS_H_
#define SDQ_KERNELS_TRANSFORM_KERNELS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/stream_layout.h"

namespace sdq::kernels {

// The transposed polyphase decimator (an interpolator) as a gather: sample k = lead + P g + s of a
// block is the sum over j of coefficient x[Q (g + ahead) + phase] of terms[j], j in
// [begin[s], begin[s + 1]), columns ascending; x counts as zero outside the block.
struct PolyphasePlan {
  PolyphasePlan() = default;
  explicit PolyphasePlan(const MapSpec& spec);  // P >= Q, L <= 16 (the format's caps)
  size_t p = 1, q = 1, lead = 0;
  std::vector<size_t> begin;
  struct Term {
    uint32_t ahead, phase;
    float coefficient;
  };
  std::vector<Term> terms;

  // The same for runs of kRun samples. The terms of a sample are consecutive columns and the first
  // ones of consecutive samples differ by at most one, so that a run's terms number t lie within
  // kRun columns: for a run whose first sample is s of its group, sample i of it begins at
  // column Q g + first_column[s] + columns[s * kRun + i], and its term t has
  // coefficients[(s * most_terms + t) * kRun + i], NaN where the sample has no such term. Empty for
  // plans so large that they would fill caches.
  static constexpr size_t kRun = 16;
  size_t fewest_terms = 0, most_terms = 0;  // of a sample
  std::vector<int32_t> first_column;
  AlignedVector<int32_t> columns;
  AlignedVector<float> coefficients;

 private:
  void PlanRuns();
};

// Rounding to int8 plus bias 128 by adding this to a float: the low byte of the sum's bits.
// Exactly round-half-even for |value| < 2^21.
inline constexpr float kRoundAndBias = 12582912.0f + 128.0f;

inline constexpr size_t kNibbleGroupBytes = 128;  // tables of 4 bitstream bytes, 8 samples each
inline constexpr size_t kTritGroupBytes = 192;    // tables of 4 bitstream bytes, 5 trits each
inline constexpr size_t kNibbleGroupSamples = 32;
inline constexpr size_t kTritGroupSamples = 20;

struct TransformKernels {
  // out[i] = x[i] with its sign changed where signs[i] is 0x80, not 0. out may be x.
  void (*flip_signs)(const float* x, const uint8_t* signs, size_t n, float* out);
  // Walsh-Hadamard transform of n = 2^k values, with signs flipped before if `signs` is not null,
  // then times `scale`. Stages with distance 1, 2, 4, ...; each is (a, b) -> (a + b, a - b). out
  // may be x.
  void (*hadamard)(const float* x, const uint8_t* signs, size_t n, float scale, float* out);
  // out[j] = sum_i v[i * v_stride] a[i * lda + j], j < n, in the order i = 0 .. rows - 1.
  void (*weighted_rows)(const float* a, size_t lda, const float* v, size_t v_stride, size_t rows,
                        size_t n, float* out);
  // u[i] = sample first + i of a block, i < count, from the block's x[0 .. columns).
  void (*polyphase)(const PolyphasePlan& plan, const float* x, size_t columns, size_t first,
                    size_t count, float* u);
  // The bits of the largest (|u0| + |u1|) + (|u2| + |u3|) over `fours` groups of four.
  uint32_t (*largest_of_fours)(const float* u, size_t fours);
  // The bits of the largest (|u0| + |u1|) + |u2| and |u3| + |u4| over `fives` groups of five.
  uint32_t (*largest_of_fives)(const float* u, size_t fives);
  // Tables (kernels/README.md) of v_i = u_i inverse.
  void (*nibble_tables)(const float* u, float inverse, size_t groups, uint8_t* tables);
  void (*trit_tables)(const float* u, float inverse, size_t groups, uint8_t* tables);
};

// Of the target in use.
const TransformKernels& ActiveTransformKernels();

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_TRANSFORM_KERNELS_H_
