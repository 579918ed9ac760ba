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
  uint64_t seed = 0;            // the caller draws one for "random"
  float temperature = 0.8f;     // <= 0: greedy
  int32_t top_k = 40;           // <= 0: off
  float top_p = 0.95f;          // 1: off
  float min_p = 0.05f;          // 0: off
  float repeat_penalty = 1.0f;  // 1: off
  int32_t repeat_last_n = 64;   // tokens looked back at; 0: off, -1: all
  Status Validate() const;
};

// Deterministic for a seed on every machine (own generator, no library distributions). The steps
// follow one another as listed above, each on what the one before left:
//   repeat penalty: logits of tokens seen in the last repeat_last_n are divided by it if positive,
//     multiplied otherwise; a token counts once;
//   top-k: the k largest logits; equal ones by lowest id;
//   top-p: the shortest prefix, likeliest first, whose probability reaches top_p;
//   min-p: tokens at least min_p times as probable as the likeliest;
//   temperature: divides the logits, and a token is drawn from their softmax.
// Greedy takes the largest logit after the penalty, the lowest id of equals.
class Sampler {
 public:
  static constexpr TokenId kNoToken = -1;

  // `options` have passed Validate().
  Sampler(const SamplerOptions& options, size_t vocab_size);
  // `history` is the sequence so far, for the repetition penalty. NaN logits are never chosen:
  // kNoToken if there is no other.
  TokenId Sample(std::span<const float> logits, std::span<const TokenId> history);

 private:
  struct Candidate {
    TokenId id;
    float logit;
  };
  void Collect(std::span<const float> logits, std::span<const TokenId> history);
  void KeepLikely();  // top-k, top-p, min-p; never empties the list
  TokenId Draw();

  SamplerOptions options_;
  uint64_t state_;
  std::vector<Candidate> candidates_;  // vocab_size, allocated once
};

}  // namespace sdq

#endif  // SDQ_RUNTIME_SAMPLER_H_
