// The modulator of the second method: a Viterbi search over the last L samples of the bitstream.
//
// A state is the content of the decimator's window, the newest L samples, as a number in base A
// (A = 2 or 3 letters), newest sample least significant. Weight i brings b_i new samples, so that
// state c follows from the A^b_i states c / A^b_i + t A^(L - b_i). The weight's value is a function
// of the state alone, hence the sequence of least weighted squared error is a shortest path
// (trellis source coding; Viterbi 1967, Forney 1973).
//
// With error feedback (converter/hessian.h) a column's target depends on all earlier errors, that
// is on the path: every survivor carries its own targets and errors (per-survivor processing,
// Raheli et al. 1995), which makes the search a good approximation instead of exact. Errors older
// than the feedback window are decided: they become those of the best survivor, survivors with
// another past are dropped, and the decided errors move the targets of all later columns. What is
// fed back is therefore always what the final stream does, over the whole row.
//
// Float operations have one fixed order and no fused multiply-add: the same samples come out for
// any thread count and any instruction set.
#ifndef SDQ_CONVERTER_TRELLIS_H_
#define SDQ_CONVERTER_TRELLIS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "converter/hessian.h"
#include "format/status.h"
#include "format/tensor.h"

namespace sdq::converter {

// What the search needs to know of one phase of the decimator.
struct TrellisPhase {
  uint32_t new_samples = 0;     // b
  uint32_t radix = 1;           // A^b: ways into a state, and children of a survivor
  uint32_t parents = 0;         // states / radix: survivors that live on after this step
  std::vector<float> values;    // [padded_states] weight that a state stands for
  std::vector<int32_t> parent;  // [padded_states] state / radix
};

// A decimator's trellis. Immutable; shared by all rows and threads.
class Trellis {
 public:
  // `decimator` must be polyphase and valid, with A^L <= 65536 and A^b <= 256 for every phase.
  // InvalidArgument otherwise.
  static Result<Trellis> Create(const format::DecimatorSpec& decimator, uint32_t letters);

  uint32_t letters() const { return letters_; }
  uint32_t states() const { return states_; }
  uint32_t padded_states() const { return padded_states_; }
  uint32_t max_parents() const { return max_parents_; }
  const TrellisPhase& Phase(size_t column) const {
    return phases_.size() == 1 ? phases_[0] : phases_[column % phases_.size()];
  }
  // Values of a column's states; the first columns may see the stream's start, where samples that
  // do not exist count as zero.
  const float* Values(size_t column) const { return Values(column, Phase(column)); }
  const float* Values(size_t column, const TrellisPhase& phase) const {
    return column < head_values_.size() ? head_values_[column].data() : phase.values.data();
  }
  // Samples per row of n columns.
  size_t RowSamples(size_t n) const;
  // Writes the samples of the path whose state at column j is states[j].
  void Samples(const std::vector<uint32_t>& path, int8_t* samples) const;

 private:
  Trellis() = default;
  uint64_t End(size_t column) const;  // e_i of format/tensor.h

  format::DecimatorSpec decimator_;
  uint32_t letters_ = 2;
  uint32_t states_ = 0;
  uint32_t padded_states_ = 0;
  uint32_t max_parents_ = 0;
  std::vector<TrellisPhase> phases_;
  std::vector<std::vector<float>> head_values_;  // of the columns with e_i < L
};

struct TrellisStatistics {
  uint64_t forced = 0;  // decisions at which survivors still disagreed
};

// Encodes rows of n weights of about unit variance. `feedback` may be null (plain squared error).
// samples: [rows][trellis.RowSamples(n)], values: [rows][n], what the samples decode to. In
// parallel over rows. `feedback_window` (columns) is rounded up to a multiple of 16.
TrellisStatistics EncodeRows(const Trellis& trellis, const float* weights, size_t rows, size_t n,
                             const Feedback* feedback, size_t feedback_window, int8_t* samples,
                             float* values);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_TRELLIS_H_
