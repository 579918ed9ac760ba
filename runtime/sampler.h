// From logits to the next token: repetition penalty, top-k, top-p, min-p, temperature.
// Order and meaning of the parameters as llama.cpp's users know them.
#ifndef SDQ_RUNTIME_SAMPLER_H_
#define SDQ_RUNTIME_SAMPLER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "format/status.h"
#include "runtime/tokenizer.h"

namespace sdq {

struct SamplerOptions {
  uint64_t seed = 0;          // the caller draws one for "random"
  float temperature = 0.8f;   // <= 0: greedy
  int32_t top_k = 40;         // <= 0: off
  float top_p = 0.95f;        // 1: off
  float min_p = 0.05f;        // 0: off
  float repeat_penalty = 1.0f;  // 1: off
  int32_t repeat_last_n = 64;   // tokens looked back at; 0: off, -1: all
  Status Validate() const;
};

// Deterministic for a seed on every machine (own generator, no library distributions).
class Sampler {
 public:
  Sampler(const SamplerOptions& options, size_t vocab_size);
  // `history` is the sequence so far, for the repetition penalty. NaN logits are never chosen.
  TokenId Sample(std::span<const float> logits, std::span<const TokenId> history);

 private:
  SamplerOptions options_;
  uint64_t state_;
  struct Candidate {
    TokenId id;
    float logit;
  };
  std::vector<Candidate> candidates_;  // vocab_size, allocated once
};

}  // namespace sdq

#endif  // SDQ_RUNTIME_SAMPLER_H_
