// The pre-tokenizer: cuts text into the pieces that BPE works on, by executing the spec's steps.
#ifndef SDQ_RUNTIME_TOKENIZER_PIECES_H_
#define SDQ_RUNTIME_TOKENIZER_PIECES_H_

#include <functional>
#include <string_view>
#include <vector>

#include "format/status.h"
#include "runtime/tokenizer.h"
#include "runtime/tokenizer_regex.h"

namespace sdq::tokenizer {

using PieceSink = std::function<Status(std::string_view piece)>;

// Immutable; safe to share between threads.
class PreTokenizer {
 public:
  using Step = TokenizerSpec::PreTokenizerStep;

  // kUnsupported names the step whose pattern does not compile.
  static Result<PreTokenizer> Create(const std::vector<Step>& steps);
  bool empty() const { return steps_.empty(); }

  // One thread's state for one text. The PreTokenizer must outlive it.
  class Run {
   public:
    Run(const PreTokenizer& owner, size_t text_bytes);
    // Gives the pieces of `text` (valid UTF-8) to `sink` in order, none of them empty.
    Status Split(std::string_view text, const PieceSink& sink) { return Apply(0, text, sink); }

   private:
    Status Apply(size_t step, std::string_view text, const PieceSink& sink);
    const PreTokenizer& owner_;
    std::vector<RegexMatcher> matchers_;
    RegexBudget budget_;
  };

 private:
  struct Compiled {
    Step::Kind behaviour;
    bool invert;
    Regex regex;
  };
  std::vector<Compiled> steps_;
};

}  // namespace sdq::tokenizer

#endif  // SDQ_RUNTIME_TOKENIZER_PIECES_H_
