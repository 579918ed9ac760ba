#include "runtime/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_set>

namespace sdq {
namespace {

// SplitMix64 (Steele, Lea & Flood 2014).
uint64_t NextRandom(uint64_t* state) {
  uint64_t z = (*state += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Uniform in [0, 1), 53 bits.
double NextUniform(uint64_t* state) {
  return static_cast<double>(NextRandom(state) >> 11) * 0x1.0p-53;
}

// exp((logit - max) / temperature), also for infinite logits: equal to the maximum counts as 1.
double Weight(float logit, float max, double temperature) {
  if (logit == max) return 1.0;
  return std::exp((static_cast<double>(logit) - static_cast<double>(max)) / temperature);
}

Status BadOption(const char* name, double value, const char* expected) {
  return Status::InvalidArgument(fmt::format("{} is {}, expected {}", name, value, expected));
}

}  // namespace

Status SamplerOptions::Validate() const {
  if (!std::isfinite(temperature)) {
    return BadOption("temperature", static_cast<double>(temperature), "a finite number");
  }
  if (!(top_p >= 0.0f && top_p <= 1.0f)) {
    return BadOption("top-p", static_cast<double>(top_p), "a number from 0 to 1");
  }
  if (!(min_p >= 0.0f && min_p <= 1.0f)) {
    return BadOption("min-p", static_cast<double>(min_p), "a number from 0 to 1");
  }
  if (!(repeat_penalty > 0.0f && std::isfinite(repeat_penalty))) {
    return BadOption("repeat penalty", static_cast<double>(repeat_penalty),
                     "a finite number above 0");
  }
  if (repeat_last_n < -1) {
    return BadOption("repeat-last-n", repeat_last_n, "-1 (all), 0 (off) or more");
  }
  return Status::Ok();
}

Sampler::Sampler(const SamplerOptions& options, size_t vocab_size)
    : options_(options), state_(options.seed) {
  candidates_.reserve(vocab_size);
}

void Sampler::Collect(std::span<const float> logits, std::span<const TokenId> history) {
  candidates_.clear();
  for (size_t id = 0; id < logits.size(); ++id) {
    if (!std::isnan(logits[id])) candidates_.push_back({static_cast<TokenId>(id), logits[id]});
  }
  if (options_.repeat_penalty == 1.0f || options_.repeat_last_n == 0) return;
  if (options_.repeat_last_n > 0) {
    const size_t n = std::min(history.size(), static_cast<size_t>(options_.repeat_last_n));
    history = history.last(n);
  }
  // A token is penalized once, however often it occurred.
  const std::unordered_set<TokenId> seen(history.begin(), history.end());
  for (Candidate& c : candidates_) {
    if (!seen.contains(c.id)) continue;
    c.logit = c.logit > 0 ? c.logit / options_.repeat_penalty : c.logit * options_.repeat_penalty;
  }
}

void Sampler::KeepLikely() {
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  const bool top_k = options_.top_k > 0 && static_cast<size_t>(options_.top_k) < candidates_.size();
  const bool top_p = options_.top_p < 1.0f;
  if (top_k) {
    const auto end = candidates_.begin() + options_.top_k;
    std::nth_element(candidates_.begin(), end, candidates_.end(), likelier);
    candidates_.erase(end, candidates_.end());
  }
  if (top_k || top_p) std::sort(candidates_.begin(), candidates_.end(), likelier);
  if (top_p) {
    const float max = candidates_.front().logit;
    double total = 0;
    for (const Candidate& c : candidates_) total += Weight(c.logit, max, 1.0);
    double sum = 0;
    size_t kept = 0;
    while (kept < candidates_.size()) {
      sum += Weight(candidates_[kept++].logit, max, 1.0);
      if (sum >= static_cast<double>(options_.top_p) * total) break;
    }
    candidates_.erase(candidates_.begin() + static_cast<std::ptrdiff_t>(kept), candidates_.end());
  }
  if (options_.min_p > 0.0f) {
    const float max = std::min_element(candidates_.begin(), candidates_.end(), likelier)->logit;
    std::erase_if(candidates_, [&](const Candidate& c) {
      return Weight(c.logit, max, 1.0) < static_cast<double>(options_.min_p);
    });
  }
}

TokenId Sampler::Draw() {
  float max = candidates_.front().logit;
  for (const Candidate& c : candidates_) max = std::max(max, c.logit);
  const double temperature = static_cast<double>(options_.temperature);
  double total = 0;
  for (const Candidate& c : candidates_) total += Weight(c.logit, max, temperature);
  double left = NextUniform(&state_) * total;
  TokenId last_possible = candidates_.front().id;
  for (const Candidate& c : candidates_) {
    const double weight = Weight(c.logit, max, temperature);
    if (weight == 0) continue;
    if (left < weight) return c.id;
    left -= weight;
    last_possible = c.id;
  }
  return last_possible;  // rounding left a crumb
}

TokenId Sampler::Sample(std::span<const float> logits, std::span<const TokenId> history) {
  Collect(logits, history);
  if (candidates_.empty()) return kNoToken;
  if (options_.temperature <= 0.0f) {
    const auto greedy =
        std::max_element(candidates_.begin(), candidates_.end(),
                         [](const Candidate& a, const Candidate& b) { return a.logit < b.logit; });
    return greedy->id;  // the first of equals
  }
  KeepLikely();
  return Draw();
}

}  // namespace sdq
