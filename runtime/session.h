// The public facade: one sequence being evaluated by one model.
#ifndef SDQ_RUNTIME_SESSION_H_
#define SDQ_RUNTIME_SESSION_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include "kernels/vector_math.h"
#include "runtime/model.h"
#include "runtime/tokenizer.h"

namespace sdq {

struct SessionOptions {
  size_t context = 0;     // positions of KV cache; 0 = the model's max_positions
  size_t batch = 64;      // tokens per prefill step
  kernels::KvType kv = kernels::KvType::kF16;
};

struct MemoryPlan {
  size_t file_bytes = 0;       // mapped, shared with the page cache
  size_t kv_bytes = 0;
  size_t workspace_bytes = 0;  // everything else that the session allocates
};

// Not thread safe; several sessions may share one Model. The Model must outlive the session.
class Session {
 public:
  static Result<std::unique_ptr<Session>> Create(const Model& model, SessionOptions options);
  ~Session();

  // Appends tokens. Ids outside the vocabulary and tokens beyond the context are errors
  // (kOutOfRange) and leave the sequence as it was. Logits of the last token are kept.
  Status Append(std::span<const TokenId> tokens);
  // The same, giving every position's logits: on_logits(index in `tokens`, logits[vocab]).
  Status AppendAll(std::span<const TokenId> tokens,
                   const std::function<void(size_t, std::span<const float>)>& on_logits);
  std::span<const float> logits() const;  // of the last appended token; vocab_size floats

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
