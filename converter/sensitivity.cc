#include "converter/sensitivity.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "converter/calibration.h"
#include "converter/linear_sensitivity.h"
#include "converter/model_gradient.h"
#include "converter/random_bits.h"
#include "kernels/dense.h"
#include "kernels/parallel.h"
#include "kernels/vector_math.h"

namespace sdq::converter {
namespace {

constexpr double kForwardShare = 0.2;  // of the time, for the progress estimate only

// sum_r m_r p_r (1 - p_r)
double Spread(const std::vector<double>& powers, const float* p) {
  double sum = 0;
  for (size_t r = 0; r < powers.size(); ++r) sum += powers[r] * double(p[r]) * (1 - double(p[r]));
  return sum;
}

// Logits -> gradient of -log p(label), label drawn from p by inverting its distribution at a number
// that depends on seed and position only. spreads[t]: Spread() of the head's rows.
void SampledLoss(uint64_t seed, size_t first, size_t count, const std::vector<double>& powers,
                 float* logits, double* spreads) {
  const size_t vocab = powers.size();
  kernels::ParallelFor(count, 1, [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      float* p = logits + t * vocab;
      kernels::Softmax(p, vocab);
      spreads[t] = Spread(powers, p);
      double left = double(SplitMix64(seed, first + t).Next() >> 11) * 0x1p-53;
      size_t label = 0;
      for (; label + 1 < vocab && left >= double(p[label]); ++label) left -= double(p[label]);
      p[label] -= 1.0f;
    }
  });
}

class Measurement {
 public:
  Measurement(const Checkpoint& checkpoint, const std::vector<double>& errors,
              const SensitivityOptions& options, const std::function<bool(double)>& progress)
      : checkpoint_(checkpoint), errors_(errors), options_(options), progress_(progress) {}

  Result<Sensitivities> Run(const std::vector<TokenId>& tokens) {
    const ModelConfig& config = checkpoint_.config();
    const size_t window = std::min(options_.window, size_t(config.max_positions));
    tokens_ = SpreadWindows(tokens, window, options_.windows);
    SDQ_ASSIGN_OR_RETURN(calibration_, Calibration::Create(checkpoint_, tokens_, window));
    SDQ_RETURN_IF_ERROR(Forward());
    SDQ_RETURN_IF_ERROR(Loss());
    for (size_t l = size_t(config.layers); l-- > 0;) SDQ_RETURN_IF_ERROR(Backward(l));
    SDQ_RETURN_IF_ERROR(AddEmbeddingGradients());
    Sensitivities result;
    for (const TensorShape& shape : ExpectedTensors(config)) {
      if (!shape.is_linear) continue;
      SlotLosses& losses = losses_.at(shape.name);
      result.linears.push_back({shape.name, std::move(losses.losses), std::move(losses.row_costs)});
    }
    for (std::optional<TableMetric>* table : {&embeddings_, &head_}) {
      if (!*table) continue;
      SDQ_ASSIGN_OR_RETURN(
          TableSensitivity sensitivity,
          (*table)->Finish(calibration_->tokens(), errors_, options_.damping, options_.seed));
      result.tables.push_back(std::move(sensitivity));
    }
    return result;
  }

 private:
  size_t window() const { return calibration_->window(); }
  size_t windows() const { return calibration_->tokens() / window(); }
  size_t hidden() const { return size_t(checkpoint_.config().hidden_size); }
  // The part of [windows][window][hidden] that belongs to window w.
  std::span<float> Part(std::vector<float>& states, size_t w) const {
    return std::span(states).subspan(w * window() * hidden(), window() * hidden());
  }

  Status Tick(double share) {
    if (progress_ && !progress_(share)) return Status::Cancelled("interrupted");
    return Status::Ok();
  }

  // Keeps the inputs of every layer.
  Status Forward() {
    const int64_t layers = checkpoint_.config().layers;
    for (int64_t l = 0; l < layers; ++l) {
      SDQ_RETURN_IF_ERROR(Tick(kForwardShare * double(l) / double(layers)));
      SDQ_ASSIGN_OR_RETURN(const auto layer, FloatLayer::Load(checkpoint_, l, options_.precision));
      inputs_.emplace_back(calibration_->states().begin(), calibration_->states().end());
      SDQ_RETURN_IF_ERROR(calibration_->Advance(layer->weights(), Calibration::Tick()));
    }
    return Status::Ok();
  }

  // Gradients with respect to the outputs of the last layer, into gradients_.
  Status Loss() {
    SDQ_ASSIGN_OR_RETURN(const OuterWeights outer, OuterWeights::Load(checkpoint_));
    const size_t width = size_t(checkpoint_.config().embed_size);
    embeddings_.emplace("embed.tokens", outer.tokens, width);
    if (!outer.head.empty()) head_.emplace("head", outer.head, width);
    TableMetric& head_metric = head_ ? *head_ : *embeddings_;
    HeadDifferentiator head(checkpoint_.config(), outer, window(), options_.precision);
    std::vector<double> spreads(window());
    gradients_.assign(calibration_->states().begin(), calibration_->states().end());
    for (size_t w = 0; w < windows(); ++w) {
      const std::span<float> part = Part(gradients_, w);
      head.Forward({part.begin(), part.end()}, outer.final_norm_weight, outer.final_norm_bias);
      const LogitsLoss loss = [&](size_t first, size_t count, float* logits) {
        SampledLoss(options_.seed, w * window() + first, count, head_metric.row_powers(), logits,
                    &spreads[first]);
      };
      const std::vector<float> gradient =
          head.Backward(loss, outer.final_norm_weight, nullptr, nullptr);
      std::copy(gradient.begin(), gradient.end(), part.begin());
      head_metric.AddInputs(head.input().data(), spreads);
    }
    return Status::Ok();
  }

  // Gradients with respect to the layer's outputs become those with respect to its inputs.
  Status Backward(size_t l) {
    const double layers = double(checkpoint_.config().layers);
    SDQ_RETURN_IF_ERROR(
        Tick(kForwardShare + (1 - kForwardShare) * (layers - 1 - double(l)) / layers));
    SDQ_ASSIGN_OR_RETURN(const auto layer,
                         FloatLayer::Load(checkpoint_, int64_t(l), options_.precision));
    const LayerWeights& weights = layer->weights();
    const BlockParameters parameters = BlockParameters::FromLayer(weights, hidden());
    LayerSensitivity sensitivity(weights, window());
    {
      BlockDifferentiator block(checkpoint_.config(), window());
      const OutputGradientTap tap = [&](LinearSlot slot, const float* x, const float* dy) {
        sensitivity.Add(slot, x, dy);
      };
      for (size_t w = 0; w < windows(); ++w) {
        block.Forward(weights, parameters, Part(inputs_[l], w).data());
        block.Backward(weights, parameters, Part(gradients_, w).data(), nullptr, tap);
      }
    }
    inputs_[l] = {};
    SDQ_ASSIGN_OR_RETURN(LayerLosses losses,
                         sensitivity.Losses(errors_, options_.damping, options_.seed));
    for (const FloatLayer::NamedLinear& linear : layer->linears()) {
      for (size_t s = 0; s < kLinearSlots; ++s) {
        if (&LinearAt(weights, LinearSlot(s)) == linear.linear) {
          losses_[linear.name] = std::move(losses[s]);
        }
      }
    }
    return Status::Ok();
  }

  // After Backward(0): gradients with respect to the first layer's inputs.
  Status AddEmbeddingGradients() {
    std::vector<float> projection;
    if (checkpoint_.Has("embed.project_in")) {
      SDQ_RETURN_IF_ERROR(checkpoint_.Read("embed.project_in", &projection));
    }
    const size_t width = size_t(checkpoint_.config().embed_size);
    std::vector<float> projected(projection.empty() ? 0 : window() * width);
    for (size_t w = 0; w < windows(); ++w) {
      const float* gradients = Part(gradients_, w).data();
      if (!projection.empty()) {
        kernels::MatMul(gradients, hidden(), projection.data(), width, projected.data(), width,
                        window(), width, hidden(), false);
        gradients = projected.data();
      }
      embeddings_->AddGradients(std::span(tokens_).subspan(w * window(), window()), gradients);
    }
    return Status::Ok();
  }

  const Checkpoint& checkpoint_;
  const std::vector<double>& errors_;
  const SensitivityOptions& options_;
  const std::function<bool(double)>& progress_;
  std::vector<TokenId> tokens_;
  std::unique_ptr<Calibration> calibration_;
  std::vector<std::vector<float>> inputs_;  // per layer [windows][window][hidden]
  std::vector<float> gradients_;            // the same shape
  std::map<std::string, SlotLosses> losses_;
  std::optional<TableMetric> embeddings_, head_;  // no head: it is the embeddings
};

}  // namespace

Result<Sensitivities> MeasureSensitivity(const Checkpoint& checkpoint,
                                         const std::vector<TokenId>& tokens,
                                         const std::vector<double>& errors,
                                         const SensitivityOptions& options,
                                         const std::function<bool(double)>& progress) {
  return Measurement(checkpoint, errors, options, progress).Run(tokens);
}

}  // namespace sdq::converter
