#include "converter/divergence.h"

#include <algorithm>
#include <memory>
#include <span>

#include "converter/calibration.h"
#include "converter/model_gradient.h"
#include "kernels/parallel.h"
#include "kernels/vector_math.h"
#include "runtime/model.h"
#include "runtime/session.h"

namespace sdq::converter {
namespace {

constexpr size_t kChunk = 64;        // positions whose logits are in memory
constexpr double kFloatShare = 0.7;  // of the time, for the progress estimate only

// KL(p || q) = p . (a - b) + lse(b) - lse(a) for logits a, b. `a` is overwritten.
double KlOf(std::span<float> a, std::span<const float> b) {
  const size_t n = a.size();
  std::vector<float> difference(n);
  for (size_t i = 0; i < n; ++i) difference[i] = a[i] - b[i];
  const double lse = double(kernels::Softmax(a.data(), n));
  return double(kernels::Dot(a.data(), difference.data(), n)) +
         double(kernels::LogSumExp(b.data(), n)) - lse;
}

class Comparison {
 public:
  Comparison(const Checkpoint& checkpoint, const std::function<bool(double)>& progress)
      : checkpoint_(checkpoint), config_(checkpoint.config()), progress_(progress) {}

  Result<Divergence> Run(const std::string& path, const std::vector<TokenId>& tokens,
                         size_t window) {
    SDQ_ASSIGN_OR_RETURN(calibration_, Calibration::Create(checkpoint_, tokens, window));
    SDQ_ASSIGN_OR_RETURN(const auto model, Model::Open(path));
    if (window < 2) return Status::InvalidArgument("windows of less than two tokens");
    if (model->config().vocab_size != config_.vocab_size) {
      return Status::InvalidArgument(path + ": not a file of this model");
    }
    SDQ_RETURN_IF_ERROR(RunFloatLayers());
    SDQ_ASSIGN_OR_RETURN(const OuterWeights outer, OuterWeights::Load(checkpoint_));
    HeadDifferentiator head(config_, outer, window);
    SessionOptions options;
    options.context = window;
    options.batch = kChunk;
    SDQ_ASSIGN_OR_RETURN(const auto session, Session::Create(*model, options));
    for (size_t w = 0; w < calibration_->windows(); ++w) {
      SDQ_RETURN_IF_ERROR(
          Tick(kFloatShare + (1 - kFloatShare) * double(w) / double(calibration_->windows())));
      const std::span<const float> last = calibration_->WindowStates(w);
      head.Forward({last.begin(), last.end()}, outer.final_norm_weight, outer.final_norm_bias);
      session->Truncate(0);
      SDQ_RETURN_IF_ERROR(
          CompareWindow(std::span(tokens).subspan(w * window, window - 1), head, *session));
    }
    Divergence divergence;
    divergence.tokens = kls_.size();
    for (const double kl : kls_) divergence.kl += kl / double(kls_.size());
    return divergence;
  }

 private:
  Status Tick(double share) {
    if (progress_ && !progress_(share)) return Status::Cancelled("interrupted");
    return Status::Ok();
  }

  Status RunFloatLayers() {
    for (int64_t l = 0; l < config_.layers; ++l) {
      SDQ_RETURN_IF_ERROR(Tick(kFloatShare * double(l) / double(config_.layers)));
      SDQ_ASSIGN_OR_RETURN(const auto layer, FloatLayer::Load(checkpoint_, l));
      SDQ_RETURN_IF_ERROR(calibration_->Advance(layer->weights(), Calibration::Tick()));
    }
    return Status::Ok();
  }

  Status CompareWindow(std::span<const TokenId> tokens, const HeadDifferentiator& head,
                       Session& session) {
    const auto vocab = size_t(config_.vocab_size);
    std::vector<float> reference(kChunk * vocab), logits(kChunk * vocab);
    for (size_t begin = 0; begin < tokens.size(); begin += kChunk) {
      const size_t count = std::min(kChunk, tokens.size() - begin);
      head.Logits(begin, count, reference.data());
      SDQ_RETURN_IF_ERROR(session.AppendAll(
          tokens.subspan(begin, count), [&](size_t i, std::span<const float> row) {
            std::copy(row.begin(), row.end(), logits.begin() + std::ptrdiff_t(i * vocab));
          }));
      const size_t before = kls_.size();
      kls_.resize(before + count);
      kernels::ParallelFor(count, 1, [&](size_t first, size_t last, size_t) {
        for (size_t i = first; i < last; ++i) {
          kls_[before + i] = KlOf(std::span(reference).subspan(i * vocab, vocab),
                                  std::span(logits).subspan(i * vocab, vocab));
        }
      });
    }
    return Status::Ok();
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const std::function<bool(double)>& progress_;
  std::unique_ptr<Calibration> calibration_;
  std::vector<double> kls_;  // by position
};

}  // namespace

Result<Divergence> MeasureDivergence(const Checkpoint& checkpoint, const std::string& path,
                                     const std::vector<TokenId>& tokens,
                                     const DivergenceOptions& options,
                                     const std::function<bool(double)>& progress) {
  const size_t window = std::min(options.window, size_t(checkpoint.config().max_positions));
  return Comparison(checkpoint, progress)
      .Run(path, SpreadWindows(tokens, window, options.windows), window);
}

}  // namespace sdq::converter
