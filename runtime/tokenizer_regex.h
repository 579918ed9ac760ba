// Regular expressions of pre-tokenizers: PCRE2 with UTF and Unicode properties, work bounded.
//
// Matching is anchored at the position asked for and interpreted, not compiled to machine code:
// only the interpreter counts every step of backtracking, so only there do the limits hold.
#ifndef SDQ_RUNTIME_TOKENIZER_REGEX_H_
#define SDQ_RUNTIME_TOKENIZER_REGEX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "format/status.h"

namespace sdq::tokenizer {

// What one Encode may spend on backtracking beyond the ordinary. A linear pattern never touches it;
// a quadratic one ends with an error instead of hours.
class RegexBudget {
 public:
  explicit RegexBudget(size_t text_bytes) : steps_(uint64_t(text_bytes) * 64 + 10'000'000) {}
  bool Take(uint64_t steps) {
    if (steps > steps_) return false;
    steps_ -= steps;
    return true;
  }

 private:
  uint64_t steps_;
};

// Immutable; safe to share between threads.
class Regex {
 public:
  // kUnsupported, with PCRE2's message and the offset, for what does not compile.
  static Result<Regex> Compile(const std::string& pattern);
  const void* code() const { return code_.get(); }

 private:
  explicit Regex(std::shared_ptr<void> code) : code_(std::move(code)) {}
  std::shared_ptr<void> code_;
};

// The scratch memory of one thread's matching with one Regex, which must outlive it.
class RegexMatcher {
 public:
  enum class Outcome { kMatch, kNoMatch, kError };

  explicit RegexMatcher(const Regex& regex);
  // Does a match begin at `at`? `subject` is valid UTF-8 and `at` a character's start; *end is the
  // match's end, >= at. kError: a limit was hit, see status().
  Outcome MatchAt(std::string_view subject, size_t at, RegexBudget* budget, size_t* end);
  const Status& status() const { return status_; }

 private:
  const Regex& regex_;
  std::shared_ptr<void> data_;
  std::shared_ptr<void> context_;
  Status status_;
};

}  // namespace sdq::tokenizer

#endif  // SDQ_RUNTIME_TOKENIZER_REGEX_H_
