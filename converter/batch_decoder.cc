#include "converter/batch_decoder.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "format/tensor.h"
#include "kernels/parallel.h"
#include "kernels/vector_math.h"

namespace sdq::converter {
namespace {

constexpr float kLargestHalf = 65504.0f;
constexpr size_t kGrain = 1 << 16;  // elements per thread, at least

bool FitsHalf(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(),
                     [](float x) { return std::fabs(x) <= kLargestHalf; });
}

std::vector<uint16_t> ToHalf(const std::vector<float>& values) {
  std::vector<uint16_t> half(values.size());
  kernels::ParallelFor(values.size(), kGrain, [&](size_t begin, size_t end, size_t) {
    for (size_t i = begin; i < end; ++i) half[i] = format::F32ToF16(values[i]);
  });
  return half;
}

Status ReadIfPresent(const Checkpoint& checkpoint, const char* name, std::vector<float>* out) {
  return checkpoint.Has(name) ? checkpoint.Read(name, out) : Status::Ok();
}

}  // namespace

size_t BatchDecoder::CacheBytes(const ModelConfig& config, size_t context) {
  return size_t(config.layers) * kernels::KvPositions(context) *
         size_t(config.kv_heads * config.head_dim) * 2 * sizeof(uint16_t);
}

Result<std::unique_ptr<BatchDecoder>> BatchDecoder::Create(const Checkpoint& checkpoint,
                                                           size_t sequences, size_t context,
                                                           kernels::Precision precision) try {
  std::unique_ptr<BatchDecoder> decoder(new BatchDecoder());
  const ModelConfig& config = checkpoint.config();
  decoder->config_ = config;
  decoder->sequences_ = sequences;
  decoder->precision_ = precision;
  SDQ_RETURN_IF_ERROR(decoder->Load(checkpoint));
  decoder->AllocateCaches(context);
  decoder->rotary_ = RotaryTable(config, context);
  decoder->workspace_ = std::make_unique<BlockWorkspace>(
      config, sequences, context, std::vector<std::unique_ptr<kernels::ActivationMap>>());
  decoder->embedded_.resize(sequences * size_t(config.embed_size));
  decoder->hidden_.resize(sequences * size_t(config.hidden_size));
  decoder->logits_.resize(sequences * size_t(config.vocab_size));
  return decoder;
} catch (const std::bad_alloc&) {
  return Status::ResourceExhausted(
      "no memory to hold the model in f16 while it writes its calibration text: give a text, or "
      "none");
}

// Two bytes per weight instead of four; the f32 values go.
void BatchDecoder::Shrink(std::vector<float>* values, Linear* linear) {
  if (!FitsHalf(*values)) {
    keep_.push_back(std::exchange(*values, {}));
    linear->dense.data = keep_.back().data();
    return;
  }
  halves_.push_back(ToHalf(*values));
  *values = {};
  linear->dense.data = halves_.back().data();
  linear->dense.type = kernels::ElementType::kF16;
}

Status BatchDecoder::LoadTable(const Checkpoint& checkpoint, const char* name, Linear* linear) {
  if (!checkpoint.Has(name)) return Status::Ok();
  for (const TensorShape& shape : ExpectedTensors(config_)) {
    if (shape.name != name) continue;
    std::vector<float> values;
    SDQ_RETURN_IF_ERROR(checkpoint.Read(name, &values));
    *linear = MakeFloatLinear(name, size_t(shape.rows), size_t(shape.columns), values, {});
    linear->dense.precision = precision_;
    Shrink(&values, linear);
  }
  return Status::Ok();
}

Status BatchDecoder::Load(const Checkpoint& checkpoint) {
  SDQ_RETURN_IF_ERROR(LoadTable(checkpoint, "embed.tokens", &embedding_));
  SDQ_RETURN_IF_ERROR(LoadTable(checkpoint, "embed.project_in", &project_in_));
  SDQ_RETURN_IF_ERROR(LoadTable(checkpoint, "embed.project_out", &project_out_));
  head_ = embedding_;
  if (!config_.tied_embeddings) SDQ_RETURN_IF_ERROR(LoadTable(checkpoint, "head", &head_));
  SDQ_RETURN_IF_ERROR(ReadIfPresent(checkpoint, "embed.positions", &positions_table_));
  SDQ_RETURN_IF_ERROR(ReadIfPresent(checkpoint, "final_norm.weight", &norm_weight_));
  SDQ_RETURN_IF_ERROR(ReadIfPresent(checkpoint, "final_norm.bias", &norm_bias_));
  for (int64_t n = 0; n < config_.layers; ++n) {
    SDQ_ASSIGN_OR_RETURN(std::unique_ptr<FloatLayer> layer,
                         FloatLayer::Load(checkpoint, n, precision_));
    for (const FloatLayer::NamedLinear& named : layer->linears()) {
      Shrink(named.values, named.linear);
    }
    layers_.push_back(std::move(layer));
  }
  return Status::Ok();
}

void BatchDecoder::AllocateCaches(size_t context) {
  const size_t layer_bytes = CacheBytes(config_, context) / size_t(config_.layers);
  for (int64_t n = 0; n < config_.layers; ++n) {
    cache_memory_.emplace_back(sequences_ * layer_bytes);
    uint8_t* next = cache_memory_.back().data();
    std::vector<KvLayer>& caches = caches_.emplace_back(sequences_);
    for (KvLayer& cache : caches) {
      cache.type = kernels::KvType::kF16;
      cache.positions = kernels::KvPositions(context);
      cache.keys = next;
      cache.values = next + layer_bytes / 2;
      next += layer_bytes;
    }
  }
}

void BatchDecoder::Embed(std::span<const TokenId> tokens, std::span<const size_t> positions) {
  const size_t width = size_t(config_.embed_size);
  const size_t hidden = size_t(config_.hidden_size);
  float* rows = project_in_.rows != 0 ? embedded_.data() : hidden_.data();
  for (size_t i = 0; i < sequences_; ++i) Row(embedding_, size_t(tokens[i]), rows + i * width);
  if (project_in_.rows != 0) {
    kernels::DenseProduct(project_in_.dense, rows, sequences_, width, hidden_.data(), hidden);
  }
  if (positions_table_.empty()) return;
  for (size_t i = 0; i < sequences_; ++i) {
    const size_t row = positions[i] + size_t(config_.position_offset);
    kernels::AddInPlace(&hidden_[i * hidden], &positions_table_[row * hidden], hidden);
  }
}

void BatchDecoder::Head() {
  const size_t hidden = size_t(config_.hidden_size);
  const size_t width = size_t(config_.embed_size);
  const auto eps = float(config_.norm_eps);
  for (size_t i = 0; config_.final_norm && i < sequences_; ++i) {
    float* x = &hidden_[i * hidden];
    if (config_.architecture == Architecture::kLlama) {
      kernels::RmsNorm(x, norm_weight_.data(), eps, hidden, x);
    } else {
      const float* bias = norm_bias_.empty() ? nullptr : norm_bias_.data();
      kernels::LayerNorm(x, norm_weight_.data(), bias, eps, hidden, x);
    }
  }
  const float* rows = hidden_.data();
  if (project_out_.rows != 0) {
    kernels::DenseProduct(project_out_.dense, rows, sequences_, hidden, embedded_.data(), width);
    rows = embedded_.data();
  }
  const size_t vocabulary = size_t(config_.vocab_size);
  kernels::DenseProduct(head_.dense, rows, sequences_, width, logits_.data(), vocabulary);
}

void BatchDecoder::Step(std::span<const TokenId> tokens, std::span<const size_t> positions) {
  Embed(tokens, positions);
  for (size_t n = 0; n < layers_.size(); ++n) {
    RunBlockStep(config_, layers_[n]->weights(), caches_[n], rotary_, positions, hidden_.data(),
                 *workspace_);
  }
  Head();
}

std::span<float> BatchDecoder::logits(size_t sequence) {
  const size_t vocabulary = size_t(config_.vocab_size);
  return std::span(logits_).subspan(sequence * vocabulary, vocabulary);
}

}  // namespace sdq::converter
