#include "converter/model_gradient.h"

#include <algorithm>

#include "kernels/dense.h"
#include "kernels/vector_math.h"

namespace sdq::converter {
namespace {

constexpr size_t kLogitsChunk = 128;  // positions whose logits are in memory at once

Status ReadIf(const Checkpoint& checkpoint, const char* name, std::vector<float>* out) {
  return checkpoint.Has(name) ? checkpoint.Read(name, out) : Status::Ok();
}

kernels::DenseMatrix FloatMatrix(const std::vector<float>& values, size_t rows, size_t columns,
                                 kernels::Precision precision = kernels::Precision::kSingle) {
  kernels::DenseMatrix matrix;
  matrix.data = values.data();
  matrix.type = kernels::ElementType::kF32;
  matrix.rows = rows;
  matrix.columns = columns;
  matrix.precision = precision;
  return matrix;
}

}  // namespace

Result<OuterWeights> OuterWeights::Load(const Checkpoint& checkpoint) {
  OuterWeights outer;
  SDQ_RETURN_IF_ERROR(checkpoint.Read("embed.tokens", &outer.tokens));
  SDQ_RETURN_IF_ERROR(ReadIf(checkpoint, "embed.positions", &outer.positions));
  SDQ_RETURN_IF_ERROR(ReadIf(checkpoint, "embed.project_in", &outer.project_in));
  SDQ_RETURN_IF_ERROR(ReadIf(checkpoint, "embed.project_out", &outer.project_out));
  SDQ_RETURN_IF_ERROR(ReadIf(checkpoint, "head", &outer.head));
  SDQ_RETURN_IF_ERROR(ReadIf(checkpoint, "final_norm.weight", &outer.final_norm_weight));
  SDQ_RETURN_IF_ERROR(ReadIf(checkpoint, "final_norm.bias", &outer.final_norm_bias));
  return outer;
}

void ModelParameters::ForEach(const std::function<void(std::vector<float>&)>& fn) {
  for (BlockParameters& layer : layers) layer.ForEach(fn);
  fn(final_norm_weight);
  fn(final_norm_bias);
}

ModelParameters ModelParameters::ZerosLike() const {
  ModelParameters zeros = *this;
  zeros.ForEach([](std::vector<float>& v) { std::fill(v.begin(), v.end(), 0.0f); });
  return zeros;
}

ModelParameters ModelParameters::FromModel(const std::vector<const LayerWeights*>& layers,
                                           const OuterWeights& outer, size_t hidden) {
  ModelParameters parameters;
  for (const LayerWeights* layer : layers) {
    parameters.layers.push_back(BlockParameters::FromLayer(*layer, hidden));
  }
  parameters.final_norm_weight = outer.final_norm_weight;
  parameters.final_norm_bias = outer.final_norm_bias;
  return parameters;
}

void HeadDifferentiator::Forward(std::vector<float> last, const std::vector<float>& norm_weight,
                                 const std::vector<float>& norm_bias) {
  const size_t hidden = size_t(config_.hidden_size);
  const size_t width = size_t(config_.embed_size);
  last_ = std::move(last);
  std::vector<float> normed = last_;
  if (!norm_weight.empty()) {
    NormForward(config_, norm_weight, norm_bias, last_.data(), tokens_, normed.data());
  }
  if (outer_.project_out.empty()) {
    head_input_ = std::move(normed);
    return;
  }
  head_input_.assign(tokens_ * width, 0.0f);
  kernels::DenseProduct(FloatMatrix(outer_.project_out, width, hidden, precision_), normed.data(),
                        tokens_, hidden, head_input_.data(), width);
}

void HeadDifferentiator::Logits(size_t first, size_t count, float* logits) const {
  const size_t width = size_t(config_.embed_size);
  const size_t vocab = size_t(config_.vocab_size);
  kernels::DenseProduct(FloatMatrix(outer_.HeadMatrix(), vocab, width, precision_),
                        head_input_.data() + first * width, count, width, logits, vocab);
}

std::vector<float> HeadDifferentiator::Backward(const LogitsLoss& loss,
                                                const std::vector<float>& norm_weight,
                                                std::vector<float>* weight_sum,
                                                std::vector<float>* bias_sum) const {
  const size_t hidden = size_t(config_.hidden_size);
  const size_t width = size_t(config_.embed_size);
  const size_t vocab = size_t(config_.vocab_size);
  std::vector<float> gradient(tokens_ * width);
  std::vector<float> logits(std::min(kLogitsChunk, tokens_) * vocab);
  for (size_t first = 0; first < tokens_; first += kLogitsChunk) {
    const size_t count = std::min(kLogitsChunk, tokens_ - first);
    Logits(first, count, logits.data());
    loss(first, count, logits.data());
    kernels::MatMul(logits.data(), vocab, outer_.HeadMatrix().data(), width,
                    gradient.data() + first * width, width, count, width, vocab, false, precision_);
  }
  if (!outer_.project_out.empty()) {
    std::vector<float> inner(tokens_ * hidden);
    kernels::MatMul(gradient.data(), width, outer_.project_out.data(), hidden, inner.data(), hidden,
                    tokens_, hidden, width, false, precision_);
    gradient = std::move(inner);
  }
  if (!norm_weight.empty()) {
    NormBackward(config_, norm_weight, last_.data(), tokens_, gradient.data(), weight_sum,
                 bias_sum);
  }
  return gradient;
}

ModelDifferentiator::ModelDifferentiator(const ModelConfig& config,
                                         std::vector<const LayerWeights*> layers,
                                         const OuterWeights& outer, size_t tokens)
    : config_(config),
      layers_(std::move(layers)),
      outer_(outer),
      tokens_(tokens),
      head_(config, outer, tokens) {
  for (size_t l = 0; l < layers_.size(); ++l) {
    blocks_.push_back(std::make_unique<BlockDifferentiator>(config, tokens));
  }
}

void ModelDifferentiator::Forward(std::span<const TokenId> window,
                                  const ModelParameters& parameters) {
  const size_t hidden = size_t(config_.hidden_size);
  const size_t width = size_t(config_.embed_size);
  std::vector<float> x(tokens_ * width);
  for (size_t t = 0; t < tokens_; ++t) {
    std::copy_n(outer_.tokens.data() + size_t(window[t]) * width, width, x.data() + t * width);
  }
  if (!outer_.project_in.empty()) {
    std::vector<float> projected(tokens_ * hidden);
    kernels::DenseProduct(FloatMatrix(outer_.project_in, hidden, width), x.data(), tokens_, width,
                          projected.data(), hidden);
    x = std::move(projected);
  }
  if (!outer_.positions.empty()) {
    kernels::AddInPlace(x.data(),
                        outer_.positions.data() + size_t(config_.position_offset) * hidden,
                        tokens_ * hidden);
  }
  for (size_t l = 0; l < layers_.size(); ++l) {
    blocks_[l]->Forward(*layers_[l], parameters.layers[l], x.data());
  }
  head_.Forward(std::move(x), parameters.final_norm_weight, parameters.final_norm_bias);
}

void ModelDifferentiator::Backward(const ModelParameters& parameters, const LogitsLoss& loss,
                                   ModelParameters* sums, const ModelTap& tap) {
  std::vector<float> gradient = head_.Backward(loss, parameters.final_norm_weight,
                                               sums != nullptr ? &sums->final_norm_weight : nullptr,
                                               sums != nullptr ? &sums->final_norm_bias : nullptr);
  for (size_t l = layers_.size(); l-- > 0;) {
    OutputGradientTap layer_tap;
    if (tap) {
      layer_tap = [&, l](LinearSlot slot, const float* x, const float* dy) { tap(l, slot, x, dy); };
    }
    blocks_[l]->Backward(*layers_[l], parameters.layers[l], gradient.data(),
                         sums != nullptr ? &sums->layers[l] : nullptr, layer_tap);
  }
}

}  // namespace sdq::converter
