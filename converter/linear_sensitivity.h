// One layer's part of sensitivity.h: from the inputs and output gradients of its linears to losses.
#ifndef SDQ_CONVERTER_LINEAR_SENSITIVITY_H_
#define SDQ_CONVERTER_LINEAR_SENSITIVITY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "converter/block_gradient.h"
#include "converter/hessian.h"
#include "format/status.h"
#include "runtime/model.h"

namespace sdq::converter {

// sum_j V_j D_j for every white error d: what error feedback leaves of tr(E H E^T) per row of unit
// mean square, V_j = d (1 + sum_{i<j} A_ij^2 V_i).
std::vector<double> FeedbackPowers(const Feedback& feedback, const std::vector<double>& errors);

// Empty for a slot that the layer lacks.
struct SlotLosses {
  std::vector<double> losses;     // nats per token for every error
  std::vector<double> row_costs;  // nats per token for each unit of e_r H e_r^T, [rows]
};
using LayerLosses = std::array<SlotLosses, kLinearSlots>;

class LayerSensitivity {
 public:
  // The weights (dense, f32) must outlive it. Windows of `tokens`.
  LayerSensitivity(const LayerWeights& weights, size_t tokens);

  // x[tokens][columns], dy[tokens][rows] of one window.
  void Add(LinearSlot slot, const float* x, const float* dy);

  // To be called once, after the last window.
  Result<LayerLosses> Losses(const std::vector<double>& errors, double damping, uint64_t seed);

 private:
  struct Sums {
    std::vector<double> squares;  // [rows]: sum over tokens of dy^2
    std::vector<size_t> sampled;  // rows
    // G of the sampled rows, [windows][sampled][columns].
    std::vector<float> gradients;
  };
  double RowPower(LinearSlot slot, size_t row) const;
  double Coherence(LinearSlot slot, const Feedback& feedback, uint64_t seed) const;

  const LayerWeights& weights_;
  size_t tokens_;
  size_t windows_ = 0;
  std::array<Sums, kLinearSlots> sums_;
  std::array<std::vector<double>, kLinearSlots> hessians_;  // of the first slot of each input
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_LINEAR_SENSITIVITY_H_
