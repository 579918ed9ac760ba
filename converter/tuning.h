// Tunes what stays in float after quantization: row gains (folded into the row scales), biases and
// norms, by gradient descent on the KL divergence from the float model's predictions.
//
// No bit of the bitstreams changes and no byte is added; only numbers that are stored anyway move.
// Knowledge distillation (Hinton et al. 2015) restricted to scales, as in end-to-end tuning of
// quantized models (e.g. Shao et al. 2024), with Adam (Kingma & Ba 2015).
#ifndef SDQ_CONVERTER_TUNING_H_
#define SDQ_CONVERTER_TUNING_H_

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "converter/model_gradient.h"
#include "format/status.h"
#include "runtime/tokenizer.h"

namespace sdq::converter {

struct TuningOptions {
  size_t window = 512;
  size_t batch_windows = 4;  // windows per step
  size_t epochs = 2;
  double learning_rate = 3e-3;  // peak; cosine decay to zero after a short warm-up
};

struct TuningProgress {
  size_t step = 0, steps = 0;
  double kl = 0;  // mean of the last steps, nats per token
};

// tokens: whole windows. teacher_hidden[tokens][hidden]: outputs of the float model's last block.
// `student` layers hold the quantized weights in f32. Returns the tuned parameters.
// `progress` returning false cancels.
Result<ModelParameters> TuneParameters(const ModelConfig& config,
                                       const std::vector<const LayerWeights*>& student,
                                       const OuterWeights& outer, const OuterWeights& teacher_outer,
                                       std::span<const TokenId> tokens,
                                       std::span<const float> teacher_hidden,
                                       const TuningOptions& options,
                                       const std::function<bool(const TuningProgress&)>& progress);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_TUNING_H_
