// Quantized layers that wait in memory for tuning before they are written.
#ifndef SDQ_CONVERTER_PENDING_LAYERS_H_
#define SDQ_CONVERTER_PENDING_LAYERS_H_

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "converter/encoder.h"
#include "converter/float_layer.h"
#include "converter/model_gradient.h"
#include "converter/tuning.h"
#include "format/status.h"
#include "format/writer.h"

namespace sdq::converter {

class PendingLayers {
 public:
  // A layer whose linears hold their reconstruction; `encoded` in the order of layer->linears().
  void Add(std::unique_ptr<FloatLayer> layer, std::vector<EncodedLinear> encoded);

  // Tunes all layers and the final norm of *outer towards the teacher (tuning.h), and folds the row
  // gains into the stored scales.
  Status Tune(const ModelConfig& config, OuterWeights* outer, const OuterWeights& teacher_outer,
              std::span<const TokenId> tokens, std::span<const float> teacher_hidden,
              const TuningOptions& options,
              const std::function<bool(const TuningProgress&)>& progress);

  // Writes everything in order.
  Status Write(format::SdqWriter& writer) const;

 private:
  struct Layer {
    std::unique_ptr<FloatLayer> weights;
    std::vector<EncodedLinear> encoded;
  };
  static void Apply(const BlockParameters& parameters, Layer* layer);
  std::vector<Layer> layers_;
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_PENDING_LAYERS_H_
