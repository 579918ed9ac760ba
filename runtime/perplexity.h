// Perplexity of a model on windows of tokens, and its distance from a reference model.
#ifndef SDQ_RUNTIME_PERPLEXITY_H_
#define SDQ_RUNTIME_PERPLEXITY_H_

#include <cstddef>
#include <functional>
#include <span>

#include "format/status.h"
#include "kernels/kv_cache.h"
#include "runtime/model.h"
#include "runtime/session.h"
#include "runtime/tokenizer.h"

namespace sdq {

struct PerplexityOptions {
  size_t window = 512;     // tokens; every position after a window's first is scored
  size_t max_windows = 0;  // 0 = all
  size_t batch = 64;       // positions evaluated together
  kernels::KvType kv = kernels::KvType::kF16;  // of the model; the reference's is always f16
  Prefill prefill = Prefill::kExact;           // likewise; the reference's is exact
};

struct PerplexityResult {
  size_t windows = 0;
  size_t tokens = 0;      // scored positions
  double nll = 0;         // nats per scored token
  double perplexity = 0;  // exp(nll)
  // With a reference only:
  bool has_reference = false;
  double kl = 0;    // mean KL(reference || model), nats per token
  double top1 = 0;  // share of positions where both prefer the same token
  double reference_nll = 0;
  double reference_perplexity = 0;
};

// `progress` (may be empty) is called after each window with what is known so far; returning false
// cancels (kCancelled). Windows are independent sequences from position 0. Deterministic.
Result<PerplexityResult> EvaluatePerplexity(
    const Model& model, const Model* reference, std::span<const TokenId> tokens,
    const PerplexityOptions& options,
    const std::function<bool(const PerplexityResult&, size_t total_windows)>& progress);

}  // namespace sdq

#endif  // SDQ_RUNTIME_PERPLEXITY_H_
