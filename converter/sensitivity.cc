#include "converter/sensitivity.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <numeric>
#include <span>

#include "converter/calibration.h"
#include "converter/hessian.h"
#include "converter/model_gradient.h"
#include "converter/random_bits.h"
#include "kernels/parallel.h"
#include "kernels/rotation.h"
#include "kernels/vector_math.h"

namespace sdq::converter {
namespace {

// Shares of the work, for the progress estimate only.
constexpr double kForwardShare = 0.5;

// At most `windows` whole windows, evenly spaced.
std::vector<TokenId> SpreadWindows(const std::vector<TokenId>& tokens, size_t window,
                                   size_t windows) {
  const size_t whole = tokens.size() / window;
  if (whole <= windows) return tokens;
  std::vector<TokenId> chosen;
  for (size_t w = 0; w < windows; ++w) {
    const auto begin = tokens.begin() + std::ptrdiff_t(w * whole / windows * window);
    chosen.insert(chosen.end(), begin, begin + std::ptrdiff_t(window));
  }
  return chosen;
}

// Logits -> gradient of -log p(label), label drawn from p by inverting its distribution at a number
// that depends on seed and position only.
void SampledLoss(uint64_t seed, size_t first, size_t count, size_t vocab, float* logits) {
  kernels::ParallelFor(count, 1, [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      float* p = logits + t * vocab;
      kernels::Softmax(p, vocab);
      double left = double(SplitMix64(seed, first + t).Next() >> 11) * 0x1p-53;
      size_t label = 0;
      for (; label + 1 < vocab && left >= double(p[label]); ++label) left -= double(p[label]);
      p[label] -= 1.0f;
    }
  });
}

// sums[r] += sum over tokens of dy[t][r]^2, every row in the order of tokens.
void AddSquares(const float* dy, size_t tokens, std::vector<double>* sums) {
  const size_t rows = sums->size();
  kernels::ParallelFor(rows, 64, [&](size_t begin, size_t end, size_t) {
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t r = begin; r < end; ++r) {
        const double g = double(dy[t * rows + r]);
        (*sums)[r] += g * g;
      }
    }
  });
}

// sum_j D_j of the factored, rotated Hessian: what error feedback leaves of tr(H).
Result<double> FeedbackPower(std::vector<double> hessian, size_t n,
                             const SensitivityOptions& options) {
  RotateHessian(kernels::Rotation(n, n, options.seed), &hessian);
  SDQ_ASSIGN_OR_RETURN(const Feedback feedback, FactorHessian(hessian, n, options.damping));
  return std::accumulate(feedback.d.begin(), feedback.d.end(), 0.0);
}

class Measurement {
 public:
  Measurement(const Checkpoint& checkpoint, const SensitivityOptions& options,
              const std::function<bool(double)>& progress)
      : checkpoint_(checkpoint), options_(options), progress_(progress) {}

  Result<std::vector<Sensitivity>> Run(const std::vector<TokenId>& tokens) {
    const ModelConfig& config = checkpoint_.config();
    const size_t window = std::min(options_.window, size_t(config.max_positions));
    SDQ_ASSIGN_OR_RETURN(
        calibration_,
        Calibration::Create(checkpoint_, SpreadWindows(tokens, window, options_.windows), window));
    SDQ_RETURN_IF_ERROR(Forward());
    SDQ_RETURN_IF_ERROR(Loss());
    for (size_t l = size_t(config.layers); l-- > 0;) SDQ_RETURN_IF_ERROR(Backward(l));
    std::vector<Sensitivity> result;
    for (const TensorShape& shape : ExpectedTensors(config)) {
      if (shape.is_linear) result.push_back({shape.name, unit_loss_.at(shape.name)});
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

  // Layer by layer: keeps the inputs, and what error feedback can do at each linear's input.
  Status Forward() {
    const int64_t layers = checkpoint_.config().layers;
    for (int64_t l = 0; l < layers; ++l) {
      SDQ_RETURN_IF_ERROR(Tick(kForwardShare * double(l) / double(layers)));
      SDQ_ASSIGN_OR_RETURN(const auto layer, FloatLayer::Load(checkpoint_, l));
      const LayerWeights& weights = layer->weights();
      inputs_.emplace_back(calibration_->states().begin(), calibration_->states().end());
      SDQ_ASSIGN_OR_RETURN(const LayerHessians hessians,
                           calibration_->Collect(weights, Calibration::Tick()));
      std::map<const std::vector<double>*, double> powers;  // linears share inputs
      for (const FloatLayer::NamedLinear& linear : layer->linears()) {
        const std::vector<double>* h = &hessians.For(weights, linear.linear);
        if (!powers.contains(h)) {
          SDQ_ASSIGN_OR_RETURN(powers[h], FeedbackPower(*h, linear.linear->columns, options_));
        }
        unit_loss_[linear.name] = powers[h];
      }
      SDQ_RETURN_IF_ERROR(calibration_->Advance(weights, Calibration::Tick()));
    }
    return Status::Ok();
  }

  // Gradients with respect to the outputs of the last layer, into gradients_.
  Status Loss() {
    SDQ_ASSIGN_OR_RETURN(const OuterWeights outer, OuterWeights::Load(checkpoint_));
    HeadDifferentiator head(checkpoint_.config(), outer, window());
    gradients_.assign(calibration_->states().begin(), calibration_->states().end());
    for (size_t w = 0; w < windows(); ++w) {
      const std::span<float> part = Part(gradients_, w);
      head.Forward({part.begin(), part.end()}, outer.final_norm_weight, outer.final_norm_bias);
      const LogitsLoss loss = [&](size_t first, size_t count, float* logits) {
        SampledLoss(options_.seed, w * window() + first, count,
                    size_t(checkpoint_.config().vocab_size), logits);
      };
      const std::vector<float> gradient =
          head.Backward(loss, outer.final_norm_weight, nullptr, nullptr);
      std::copy(gradient.begin(), gradient.end(), part.begin());
    }
    return Status::Ok();
  }

  // Gradients with respect to the layer's outputs become those with respect to its inputs.
  Status Backward(size_t l) {
    const double layers = double(checkpoint_.config().layers);
    SDQ_RETURN_IF_ERROR(
        Tick(kForwardShare + (1 - kForwardShare) * (layers - 1 - double(l)) / layers));
    SDQ_ASSIGN_OR_RETURN(const auto layer, FloatLayer::Load(checkpoint_, int64_t(l)));
    const LayerWeights& weights = layer->weights();
    const BlockParameters parameters = BlockParameters::FromLayer(weights, hidden());
    BlockDifferentiator block(checkpoint_.config(), window());
    std::array<std::vector<double>, kLinearSlots> squares;
    for (size_t s = 0; s < kLinearSlots; ++s) {
      squares[s].assign(LinearAt(weights, LinearSlot(s)).rows, 0.0);
    }
    const OutputGradientTap tap = [&](LinearSlot slot, const float*, const float* dy) {
      AddSquares(dy, window(), &squares[slot]);
    };
    for (size_t w = 0; w < windows(); ++w) {
      block.Forward(weights, parameters, Part(inputs_[l], w).data());
      block.Backward(weights, parameters, Part(gradients_, w).data(), nullptr, tap);
    }
    inputs_[l] = {};
    for (const FloatLayer::NamedLinear& linear : layer->linears()) {
      for (size_t s = 0; s < kLinearSlots; ++s) {
        if (&LinearAt(weights, LinearSlot(s)) != linear.linear) continue;
        unit_loss_[linear.name] *= WeightedPower(linear, squares[s]);
      }
    }
    return Status::Ok();
  }

  // 1/2 sum_r E[g_r^2] mean_j(w_rj^2)
  double WeightedPower(const FloatLayer::NamedLinear& linear,
                       const std::vector<double>& squares) const {
    const size_t columns = linear.linear->columns;
    double sum = 0;
    for (size_t r = 0; r < squares.size(); ++r) {
      const float* row = linear.values->data() + r * columns;
      sum += squares[r] * double(kernels::Dot(row, row, columns));
    }
    return 0.5 * sum / (double(columns) * double(calibration_->tokens()));
  }

  const Checkpoint& checkpoint_;
  const SensitivityOptions& options_;
  const std::function<bool(double)>& progress_;
  std::unique_ptr<Calibration> calibration_;
  std::vector<std::vector<float>> inputs_;  // per layer [windows][window][hidden]
  std::vector<float> gradients_;            // the same shape
  std::map<std::string, double> unit_loss_;
};

}  // namespace

Result<std::vector<Sensitivity>> MeasureSensitivity(const Checkpoint& checkpoint,
                                                    const std::vector<TokenId>& tokens,
                                                    const SensitivityOptions& options,
                                                    const std::function<bool(double)>& progress) {
  return Measurement(checkpoint, options, progress).Run(tokens);
}

}  // namespace sdq::converter
