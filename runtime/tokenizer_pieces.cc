#include "runtime/tokenizer_pieces.h"

#include <fmt/format.h>

#include <utility>

#include "runtime/tokenizer_utf8.h"

namespace sdq::tokenizer {
namespace {

using Kind = TokenizerSpec::PreTokenizerStep::Kind;

// ASCII punctuation (symbols included) and every character of category P.
constexpr const char* kPunctuation = "[!-/:-@\\[-`{-~\\p{P}]";

// What becomes of a stretch of text, match or gap, under one splitting behaviour. "Merged" ones
// hold a stretch back until they have seen its neighbour.
class Joiner {
 public:
  Joiner(Kind behaviour, bool invert, const PieceSink& sink)
      : behaviour_(behaviour), invert_(invert), sink_(sink) {}

  Status Add(std::string_view stretch, bool is_match) {
    if (stretch.empty()) return Status::Ok();
    is_match = is_match != invert_;
    switch (behaviour_) {
      case Kind::kRegexRemoved:
        return is_match ? Status::Ok() : sink_(stretch);
      case Kind::kRegexMergedWithPrevious:
        return AddToPrevious(stretch, is_match);
      case Kind::kRegexMergedWithNext:
        return AddToNext(stretch, is_match);
      default:
        return sink_(stretch);
    }
  }

  Status Finish() { return Emit(); }

 private:
  // A match joins the gap before it, but not another match.
  Status AddToPrevious(std::string_view stretch, bool is_match) {
    if (is_match && !held_.empty() && !held_is_match_) {
      held_ = Join(held_, stretch);
    } else {
      SDQ_RETURN_IF_ERROR(Emit());
      held_ = stretch;
    }
    held_is_match_ = is_match;
    return Status::Ok();
  }

  // A match waits for the gap after it; another match sends it off alone.
  Status AddToNext(std::string_view stretch, bool is_match) {
    if (is_match) {
      SDQ_RETURN_IF_ERROR(Emit());
      held_ = stretch;
      return Status::Ok();
    }
    held_ = held_.empty() ? stretch : Join(held_, stretch);
    return Emit();
  }

  static std::string_view Join(std::string_view a, std::string_view b) {
    return {a.data(), a.size() + b.size()};  // neighbours in one text
  }

  Status Emit() {
    if (held_.empty()) return Status::Ok();
    return sink_(std::exchange(held_, std::string_view()));
  }

  Kind behaviour_;
  bool invert_;
  const PieceSink& sink_;
  std::string_view held_;
  bool held_is_match_ = false;
};

}  // namespace

Result<PreTokenizer> PreTokenizer::Create(const std::vector<Step>& steps) {
  PreTokenizer out;
  for (size_t i = 0; i < steps.size(); ++i) {
    const Step& step = steps[i];
    std::string pattern = step.pattern;
    if (step.kind == Kind::kDigits) pattern = step.individual_digits ? "\\p{N}" : "\\p{N}+";
    if (step.kind == Kind::kPunctuation) pattern = kPunctuation;
    Result<Regex> regex = Regex::Compile(pattern);
    if (!regex.ok()) {
      return std::move(regex).status().Annotate(fmt::format("pre-tokenizer step {}", i));
    }
    out.steps_.push_back({step.kind, step.invert, *std::move(regex)});
  }
  return out;
}

PreTokenizer::Run::Run(const PreTokenizer& owner, size_t text_bytes)
    : owner_(owner), budget_(text_bytes) {
  for (const Compiled& step : owner.steps_) matchers_.emplace_back(step.regex);
}

Status PreTokenizer::Run::Apply(size_t step, std::string_view text, const PieceSink& sink) {
  if (step == owner_.steps_.size()) return text.empty() ? Status::Ok() : sink(text);
  const PieceSink next = step + 1 == owner_.steps_.size()
                             ? sink
                             : PieceSink([this, step, &sink](std::string_view piece) {
                                 return Apply(step + 1, piece, sink);
                               });
  const Compiled& compiled = owner_.steps_[step];
  RegexMatcher& matcher = matchers_[step];
  Joiner joiner(compiled.behaviour, compiled.invert, next);
  size_t done = 0;  // everything before it has been given away
  size_t at = 0;
  while (at < text.size()) {
    size_t end = at;
    const RegexMatcher::Outcome outcome = matcher.MatchAt(text, at, &budget_, &end);
    if (outcome == RegexMatcher::Outcome::kError) return matcher.status();
    if (outcome == RegexMatcher::Outcome::kNoMatch) {
      at += utf8::LengthOfValid(text[at]);
      continue;
    }
    SDQ_RETURN_IF_ERROR(joiner.Add(text.substr(done, at - done), false));
    SDQ_RETURN_IF_ERROR(joiner.Add(text.substr(at, end - at), true));
    done = end;
    at = end > at ? end : at + utf8::LengthOfValid(text[at]);  // an empty match is only a cut
  }
  SDQ_RETURN_IF_ERROR(joiner.Add(text.substr(done), false));
  return joiner.Finish();
}

}  // namespace sdq::tokenizer
