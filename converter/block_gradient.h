// Reverse-mode differentiation of one transformer block over one window of tokens.
//
// The converter needs gradients twice: of the float model, to know which outputs and tokens matter
// (sensitivity, weighted Hessians), and of the quantized model, to tune what stays in float (row
// gains, biases, norms) towards the float model's predictions. Weights themselves are constants.
#ifndef SDQ_CONVERTER_BLOCK_GRADIENT_H_
#define SDQ_CONVERTER_BLOCK_GRADIENT_H_

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "runtime/config.h"
#include "runtime/model.h"

namespace sdq::converter {

enum LinearSlot : size_t { kQ, kK, kV, kO, kGate, kUp, kDown, kLinearSlots };
const Linear& LinearAt(const LayerWeights& layer, LinearSlot slot);  // rows = 0 if absent

// The float parameters of a block: y = gain o (W x) + bias per linear, and the norms.
// Also the shape of their gradients. An empty gain means 1, an empty bias none.
struct BlockParameters {
  struct LinearParameters {
    std::vector<float> gain, bias;  // [rows]
  };
  std::array<LinearParameters, kLinearSlots> linears;
  std::vector<float> attn_norm_weight, attn_norm_bias, ffn_norm_weight, ffn_norm_bias;

  // Calls fn on every vector of the block, in a fixed order.
  void ForEach(const std::function<void(std::vector<float>&)>& fn);
  // Gains of one, and the layer's own biases and norms.
  static BlockParameters FromLayer(const LayerWeights& layer, size_t hidden);
  BlockParameters ZerosLike() const;
};

// For every linear, during Backward(): its input rows x[tokens][columns] and the gradient of the
// loss with respect to its output rows dy[tokens][rows].
using OutputGradientTap = std::function<void(LinearSlot slot, const float* x, const float* dy)>;

class BlockDifferentiator {
 public:
  // Windows of `tokens` positions starting at position 0.
  BlockDifferentiator(const ModelConfig& config, size_t tokens);
  ~BlockDifferentiator();

  // x[tokens][hidden] -> in place, the block's output. Keeps what Backward needs.
  void Forward(const LayerWeights& layer, const BlockParameters& parameters, float* x);

  // gradient[tokens][hidden]: of the loss with respect to the output of the last Forward; becomes
  // that with respect to its input. `sums` (may be null) is added to.
  void Backward(const LayerWeights& layer, const BlockParameters& parameters, float* gradient,
                BlockParameters* sums, const OutputGradientTap& tap);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Norm of rows, forward and backward, as the blocks and the final norm use it: LayerNorm for OPT,
// RMSNorm for LLaMA. gradient: in dL/dy, out dL/dx. Sums may be null.
void NormForward(const ModelConfig& config, std::span<const float> weight,
                 std::span<const float> bias, const float* x, size_t tokens, float* y);
void NormBackward(const ModelConfig& config, std::span<const float> weight, const float* x,
                  size_t tokens, float* gradient, std::vector<float>* weight_sum,
                  std::vector<float>* bias_sum);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_BLOCK_GRADIENT_H_
