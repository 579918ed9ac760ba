// The public facade: one sequence being evaluated by one model.
#ifndef SDQ_RUNTIME_SESSION_H_
#define SDQ_RUNTIME_SESSION_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include "kernels/kv_cache.h"
#include "runtime/model.h"
#include "runtime/tokenizer.h"

namespace sdq {

// Arithmetic of the layers' bitstreams in steps of many tokens: that of single tokens, or 8-bit
// weights times 8-bit activations (kernels/int8_product.h), faster and rounded differently.
enum class Prefill { kExact, kInt8 };

struct SessionOptions {
  size_t context = 0;  // positions of KV cache; 0 = the model's max_positions
  size_t batch = 64;   // tokens per prefill step
  kernels::KvType kv = kernels::KvType::kF16;
  // kInt8 changes nothing where the machine or the streams do not allow it, nor for steps of less
  // than kernels::kInt8LeastTokens, nor the head.
  Prefill prefill = Prefill::kExact;
};

struct MemoryPlan {
  size_t file_bytes = 0;  // mapped, shared with the page cache
  size_t kv_bytes = 0;
  size_t workspace_bytes = 0;  // everything else that the session allocates
};

// All memory is allocated by Create and described by memory(); only raising the thread count later
// (SetThreads) adds scratch for the new threads. Logits do not depend on the batch size, on how the
// tokens are split over calls, or on the number of threads, bit for bit. (With Prefill::kInt8 they
// depend on which steps have tokens enough, still not on the number of threads.)
// Not thread safe; several sessions may share one Model. The Model must outlive the session.
class Session {
 public:
  // kOutOfRange: context beyond the model's positions; kResourceExhausted: more than the machine's
  // memory; kInvalidArgument: a batch of 0.
  static Result<std::unique_ptr<Session>> Create(const Model& model, SessionOptions options);
  ~Session();

  // Appends tokens: at least one (kInvalidArgument). Ids outside the vocabulary and tokens beyond
  // the context are errors (kOutOfRange) and leave the sequence as it was. Logits of the last token
  // are kept.
  Status Append(std::span<const TokenId> tokens);
  // The same, giving every position's logits: on_logits(index in `tokens`, logits[vocab]), in
  // order. The span is valid during the call only.
  Status AppendAll(std::span<const TokenId> tokens,
                   const std::function<void(size_t, std::span<const float>)>& on_logits);
  // Of the last appended token: vocab_size floats; empty before the first and after Truncate.
  std::span<const float> logits() const;

  size_t position() const;  // tokens in the sequence
  size_t context() const;
  void Truncate(size_t position);  // forgets later tokens; Truncate(0) starts anew
  const MemoryPlan& memory() const;

 private:
  Session();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sdq

#endif  // SDQ_RUNTIME_SESSION_H_
