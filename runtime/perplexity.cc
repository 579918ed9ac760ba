#include "runtime/perplexity.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "fmt/format.h"
#include "kernels/parallel.h"
#include "kernels/vector_math.h"
#include "runtime/session.h"

namespace sdq {
namespace {

// Scores of one position, kept apart so that sums run in position order on one thread.
struct PositionScore {
  double nll = 0;
  double reference_nll = 0;
  double kl = 0;
  bool same_top = false;
};

size_t ArgMax(std::span<const float> x) {
  return size_t(std::max_element(x.begin(), x.end()) - x.begin());
}

// KL(p || q) = sum p (log p - log q) = p . (a - b) + lse(b) - lse(a) for logits a (reference), b.
PositionScore Score(std::span<const float> logits, std::span<const float> reference, TokenId target,
                    std::vector<float>& p, std::vector<float>& difference) {
  PositionScore score;
  const size_t n = logits.size();
  const double lse = double(kernels::LogSumExp(logits.data(), n));
  score.nll = lse - double(logits[size_t(target)]);
  if (reference.empty()) return score;
  p.assign(reference.begin(), reference.end());
  const double reference_lse = double(kernels::Softmax(p.data(), n));
  difference.resize(n);
  for (size_t i = 0; i < n; ++i) difference[i] = reference[i] - logits[i];
  score.reference_nll = reference_lse - double(reference[size_t(target)]);
  score.kl = double(kernels::Dot(p.data(), difference.data(), n)) + lse - reference_lse;
  score.same_top = ArgMax(logits) == ArgMax(reference);
  return score;
}

// Logits of up to `batch` consecutive positions of one session.
class LogitsChunk {
 public:
  LogitsChunk(size_t batch, size_t vocab) : vocab_(vocab), data_(batch * vocab) {}
  Status Fill(Session& session, std::span<const TokenId> tokens) {
    return session.AppendAll(tokens, [&](size_t i, std::span<const float> logits) {
      std::copy(logits.begin(), logits.end(), data_.begin() + std::ptrdiff_t(i * vocab_));
    });
  }
  std::span<const float> operator[](size_t i) const {
    return std::span(data_).subspan(i * vocab_, vocab_);
  }

 private:
  size_t vocab_;
  std::vector<float> data_;
};

class Evaluator {
 public:
  static Result<std::unique_ptr<Evaluator>> Create(const Model& model, const Model* reference,
                                                   const PerplexityOptions& options) {
    SessionOptions session_options;
    session_options.context = options.window;
    session_options.batch = options.batch;
    session_options.kv = options.kv;
    session_options.prefill = options.prefill;
    SDQ_ASSIGN_OR_RETURN(auto session, Session::Create(model, session_options));
    std::unique_ptr<Session> reference_session;
    if (reference != nullptr) {
      session_options.kv = kernels::KvType::kF16;
      session_options.prefill = Prefill::kExact;
      SDQ_ASSIGN_OR_RETURN(reference_session, Session::Create(*reference, session_options));
    }
    return std::unique_ptr<Evaluator>(new Evaluator(std::move(session),
                                                    std::move(reference_session), options.batch,
                                                    size_t(model.config().vocab_size)));
  }

  Status RunWindow(std::span<const TokenId> window) {
    session_->Truncate(0);
    if (reference_) reference_->Truncate(0);
    // The last token is a target only; it is never an input.
    for (size_t begin = 0; begin + 1 < window.size(); begin += batch_) {
      const size_t count = std::min(batch_, window.size() - 1 - begin);
      SDQ_RETURN_IF_ERROR(logits_.Fill(*session_, window.subspan(begin, count)));
      if (reference_) {
        SDQ_RETURN_IF_ERROR(reference_logits_.Fill(*reference_, window.subspan(begin, count)));
      }
      ScoreChunk(window.subspan(begin + 1, count));
    }
    ++result_.windows;
    Finish();
    return Status::Ok();
  }

  const PerplexityResult& result() const { return result_; }

 private:
  Evaluator(std::unique_ptr<Session> session, std::unique_ptr<Session> reference, size_t batch,
            size_t vocab)
      : session_(std::move(session)),
        reference_(std::move(reference)),
        batch_(batch),
        logits_(batch, vocab),
        reference_logits_(reference_ ? batch : 0, vocab),
        scores_(batch) {
    result_.has_reference = reference_ != nullptr;
  }

  void ScoreChunk(std::span<const TokenId> targets) {
    kernels::ParallelFor(targets.size(), 1, [&](size_t begin, size_t end, size_t) {
      std::vector<float> p, difference;
      for (size_t i = begin; i < end; ++i) {
        scores_[i] = Score(logits_[i], reference_ ? reference_logits_[i] : std::span<const float>(),
                           targets[i], p, difference);
      }
    });
    for (size_t i = 0; i < targets.size(); ++i) {
      nll_ += scores_[i].nll;
      reference_nll_ += scores_[i].reference_nll;
      kl_ += scores_[i].kl;
      same_top_ += scores_[i].same_top ? 1 : 0;
    }
    result_.tokens += targets.size();
  }

  void Finish() {
    const double n = double(result_.tokens);
    result_.nll = nll_ / n;
    result_.perplexity = std::exp(result_.nll);
    if (!result_.has_reference) return;
    result_.kl = kl_ / n;
    result_.top1 = double(same_top_) / n;
    result_.reference_nll = reference_nll_ / n;
    result_.reference_perplexity = std::exp(result_.reference_nll);
  }

  std::unique_ptr<Session> session_;
  std::unique_ptr<Session> reference_;
  size_t batch_;
  LogitsChunk logits_;
  LogitsChunk reference_logits_;
  std::vector<PositionScore> scores_;
  double nll_ = 0, reference_nll_ = 0, kl_ = 0;
  size_t same_top_ = 0;
  PerplexityResult result_;
};

}  // namespace

Result<PerplexityResult> EvaluatePerplexity(
    const Model& model, const Model* reference, std::span<const TokenId> tokens,
    const PerplexityOptions& options,
    const std::function<bool(const PerplexityResult&, size_t total_windows)>& progress) {
  if (options.window < 2) return Status::InvalidArgument("window: at least 2 tokens are needed");
  if (reference != nullptr && reference->config().vocab_size != model.config().vocab_size) {
    return Status::InvalidArgument(
        fmt::format("the reference has {} tokens in its vocabulary, the model {}: not comparable",
                    reference->config().vocab_size, model.config().vocab_size));
  }
  size_t total = tokens.size() / options.window;
  if (options.max_windows > 0) total = std::min(total, options.max_windows);
  if (total == 0) {
    return Status::InvalidArgument(fmt::format("the text has {} tokens, less than one window of {}",
                                               tokens.size(), options.window));
  }
  SDQ_ASSIGN_OR_RETURN(auto evaluator, Evaluator::Create(model, reference, options));
  for (size_t w = 0; w < total; ++w) {
    SDQ_RETURN_IF_ERROR(evaluator->RunWindow(tokens.subspan(w * options.window, options.window)));
    if (progress && !progress(evaluator->result(), total)) {
      return Status::Cancelled("interrupted");
    }
  }
  return evaluator->result();
}

}  // namespace sdq
