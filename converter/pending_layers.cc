#include "converter/pending_layers.h"

#include <algorithm>
#include <utility>

#include "converter/dense_tensor.h"

namespace sdq::converter {
namespace {

// Multiplies row r of [rows][per_row] f16 values with a common base by gain[r].
void ScaleRows(const std::vector<float>& gain, std::vector<uint16_t>* f16, float* base) {
  if (f16->empty()) return;
  const size_t per_row = f16->size() / gain.size();
  std::vector<float> values(f16->size());
  for (size_t i = 0; i < values.size(); ++i) {
    // A scale is a magnitude; a gain that crossed zero says that the row is best left out.
    values[i] = *base * format::F16ToF32((*f16)[i]) * std::max(gain[i / per_row], 0.0f);
  }
  PackScales(values, f16, base);
}

}  // namespace

void PendingLayers::Add(std::unique_ptr<FloatLayer> layer, std::vector<EncodedLinear> encoded) {
  layers_.push_back({std::move(layer), std::move(encoded)});
}

void PendingLayers::Apply(const BlockParameters& parameters, Layer* layer) {
  for (size_t i = 0; i < layer->encoded.size(); ++i) {
    const FloatLayer::NamedLinear& linear = layer->weights->linears()[i];
    for (size_t s = 0; s < kLinearSlots; ++s) {
      if (&LinearAt(layer->weights->weights(), LinearSlot(s)) != linear.linear) continue;
      const BlockParameters::LinearParameters& tuned = parameters.linears[s];
      ScaleRows(tuned.gain, &layer->encoded[i].scales_f16, &layer->encoded[i].scale_base);
      if (!tuned.bias.empty()) *linear.bias = tuned.bias;
    }
  }
  for (const FloatLayer::NamedVector& vector : layer->weights->vectors()) {
    const auto take = [&](const char* part, const std::vector<float>& values) {
      if (vector.name.ends_with(part)) *vector.values = values;
    };
    take("attn_norm.weight", parameters.attn_norm_weight);
    take("attn_norm.bias", parameters.attn_norm_bias);
    take("ffn_norm.weight", parameters.ffn_norm_weight);
    take("ffn_norm.bias", parameters.ffn_norm_bias);
  }
}

Status PendingLayers::Tune(const ModelConfig& config, OuterWeights* outer,
                           const OuterWeights& teacher_outer, std::span<const TokenId> tokens,
                           std::span<const float> teacher_hidden, const TuningOptions& options,
                           const std::function<bool(const TuningProgress&)>& progress) {
  std::vector<const LayerWeights*> student;
  for (const Layer& layer : layers_) student.push_back(&layer.weights->weights());
  SDQ_ASSIGN_OR_RETURN(const ModelParameters tuned,
                       TuneParameters(config, student, *outer, teacher_outer, tokens,
                                      teacher_hidden, options, progress));
  for (size_t l = 0; l < layers_.size(); ++l) Apply(tuned.layers[l], &layers_[l]);
  outer->final_norm_weight = tuned.final_norm_weight;
  outer->final_norm_bias = tuned.final_norm_bias;
  return Status::Ok();
}

Status PendingLayers::Write(format::SdqWriter& writer) const {
  for (const Layer& layer : layers_) {
    for (const FloatLayer::NamedVector& vector : layer.weights->vectors()) {
      SDQ_RETURN_IF_ERROR(WriteDense(writer, vector.name, 1, uint32_t(vector.values->size()),
                                     *vector.values, format::DenseType::kF32, {}));
    }
    for (size_t i = 0; i < layer.encoded.size(); ++i) {
      const FloatLayer::NamedLinear& linear = layer.weights->linears()[i];
      format::StreamView view = layer.encoded[i].View(linear.name);
      view.bias = *linear.bias;
      SDQ_RETURN_IF_ERROR(writer.Add(view));
    }
  }
  return Status::Ok();
}

}  // namespace sdq::converter
