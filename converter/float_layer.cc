#include "converter/float_layer.h"

namespace sdq::converter {
namespace {

const float* DataOrNull(const std::vector<float>& v) { return v.empty() ? nullptr : v.data(); }

// The member of LayerWeights that a canonical part name ("attn.q") stands for; null if none.
Linear* LinearSlot(LayerWeights& weights, const std::string& part) {
  if (part == "attn.q") return &weights.q;
  if (part == "attn.k") return &weights.k;
  if (part == "attn.v") return &weights.v;
  if (part == "attn.o") return &weights.o;
  if (part == "ffn.gate") return &weights.gate;
  if (part == "ffn.up") return &weights.up;
  if (part == "ffn.down") return &weights.down;
  return nullptr;
}

const float** NormSlot(LayerWeights& weights, const std::string& part) {
  if (part == "attn_norm.weight") return &weights.attn_norm.weight;
  if (part == "attn_norm.bias") return &weights.attn_norm.bias;
  if (part == "ffn_norm.weight") return &weights.ffn_norm.weight;
  if (part == "ffn_norm.bias") return &weights.ffn_norm.bias;
  return nullptr;
}

}  // namespace

Linear MakeFloatLinear(const std::string& name, size_t rows, size_t columns,
                       const std::vector<float>& values, const std::vector<float>& bias) {
  Linear linear;
  linear.name = name;
  linear.rows = rows;
  linear.columns = columns;
  linear.dense.data = values.data();
  linear.dense.type = kernels::ElementType::kF32;
  linear.dense.rows = rows;
  linear.dense.columns = columns;
  linear.dense.bias = DataOrNull(bias);
  return linear;
}

Result<std::unique_ptr<FloatLayer>> FloatLayer::Load(const Checkpoint& checkpoint, int64_t layer,
                                                     kernels::Precision precision) {
  std::unique_ptr<FloatLayer> result(new FloatLayer());
  const std::string prefix = LayerTensorName(layer, "");
  for (const TensorShape& shape : ExpectedTensors(checkpoint.config())) {
    if (!shape.name.starts_with(prefix)) continue;
    if (shape.optional && !checkpoint.Has(shape.name)) continue;
    std::vector<float>& values = result->storage_[shape.name];
    SDQ_RETURN_IF_ERROR(checkpoint.Read(shape.name, &values));
    const std::string part = shape.name.substr(prefix.size());
    if (!shape.is_linear) {
      if (const float** slot = NormSlot(result->weights_, part)) *slot = values.data();
      result->vectors_.push_back({shape.name, &values});
      continue;
    }
    std::vector<float>& bias = result->storage_[shape.name + ".bias"];
    if (checkpoint.Has(shape.name + ".bias")) {
      SDQ_RETURN_IF_ERROR(checkpoint.Read(shape.name + ".bias", &bias));
    }
    Linear* slot = LinearSlot(result->weights_, part);
    if (slot == nullptr) {
      return Status::Unsupported(shape.name + ": a linear that the block does not know");
    }
    *slot = MakeFloatLinear(shape.name, size_t(shape.rows), size_t(shape.columns), values, bias);
    slot->dense.precision = precision;
    result->linears_.push_back({shape.name, slot, &values, &bias});
  }
  return result;
}

}  // namespace sdq::converter
