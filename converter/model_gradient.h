// A whole model in f32 as a differentiable function of tokens: embedding, blocks, final norm, head.
//
// Weights are constants held by the caller; the float parameters (converter/block_gradient.h) are
// arguments. Used twice: on the float model, and on the model as it will be quantized.
#ifndef SDQ_CONVERTER_MODEL_GRADIENT_H_
#define SDQ_CONVERTER_MODEL_GRADIENT_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "converter/block_gradient.h"
#include "converter/checkpoint.h"
#include "converter/float_layer.h"
#include "format/status.h"
#include "runtime/tokenizer.h"

namespace sdq::converter {

// Everything outside the blocks, in f32.
struct OuterWeights {
  std::vector<float> tokens, positions, project_in, project_out, head;  // head empty: tied
  std::vector<float> final_norm_weight, final_norm_bias;
  static Result<OuterWeights> Load(const Checkpoint& checkpoint);
  const std::vector<float>& HeadMatrix() const { return head.empty() ? tokens : head; }
};

// The tunable float parameters of a model, and the shape of their gradients.
struct ModelParameters {
  std::vector<BlockParameters> layers;
  std::vector<float> final_norm_weight, final_norm_bias;
  void ForEach(const std::function<void(std::vector<float>&)>& fn);
  ModelParameters ZerosLike() const;
  static ModelParameters FromModel(const std::vector<const LayerWeights*>& layers,
                                   const OuterWeights& outer, size_t hidden);
};

// dL/d logits in place of logits: rows of `vocab` for `count` consecutive positions from `first`.
using LogitsLoss = std::function<void(size_t first, size_t count, float* logits)>;
// As OutputGradientTap, with the layer.
using ModelTap =
    std::function<void(size_t layer, LinearSlot slot, const float* x, const float* dy)>;

// What comes after the blocks: final norm, projection, head.
class HeadDifferentiator {
 public:
  // Windows of `tokens`. The outer weights must outlive it.
  HeadDifferentiator(const ModelConfig& config, const OuterWeights& outer, size_t tokens,
                     kernels::Precision precision = kernels::Precision::kSingle)
      : config_(config), outer_(outer), tokens_(tokens), precision_(precision) {}

  // last[tokens][hidden]: outputs of the last block.
  void Forward(std::vector<float> last, const std::vector<float>& norm_weight,
               const std::vector<float>& norm_bias);
  // logits[count][vocab] of positions first .. first+count-1.
  void Logits(size_t first, size_t count, float* logits) const;
  // The gradient of the loss with respect to `last`. Sums of the norm's gradients may be null.
  std::vector<float> Backward(const LogitsLoss& loss, const std::vector<float>& norm_weight,
                              std::vector<float>* weight_sum, std::vector<float>* bias_sum) const;
  // Rows that the head multiplies, [tokens][embed_size].
  const std::vector<float>& input() const { return head_input_; }

 private:
  ModelConfig config_;
  const OuterWeights& outer_;
  size_t tokens_;
  kernels::Precision precision_;
  std::vector<float> last_;
  std::vector<float> head_input_;  // after final norm and project_out
};

class ModelDifferentiator {
 public:
  // Windows of `tokens`. Layers and outer weights must outlive it.
  ModelDifferentiator(const ModelConfig& config, std::vector<const LayerWeights*> layers,
                      const OuterWeights& outer, size_t tokens);

  // Runs a window. Afterwards Logits() gives rows, or Backward() differentiates.
  void Forward(std::span<const TokenId> window, const ModelParameters& parameters);
  // logits[count][vocab] of positions first .. first+count-1.
  void Logits(size_t first, size_t count, float* logits) const {
    head_.Logits(first, count, logits);
  }
  // `loss` turns logits into their gradients, chunk by chunk; sums and tap may be null / empty.
  void Backward(const ModelParameters& parameters, const LogitsLoss& loss, ModelParameters* sums,
                const ModelTap& tap);

  size_t vocab() const { return size_t(config_.vocab_size); }

 private:
  ModelConfig config_;
  std::vector<const LayerWeights*> layers_;
  const OuterWeights& outer_;
  size_t tokens_;
  std::vector<std::unique_ptr<BlockDifferentiator>> blocks_;
  HeadDifferentiator head_;
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_MODEL_GRADIENT_H_
