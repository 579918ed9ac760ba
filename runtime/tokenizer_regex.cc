#include "runtime/tokenizer_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <utility>

namespace sdq::tokenizer {
namespace {

// Steps that every attempt has for free; each further attempt has 16 times more, from the budget.
constexpr uint32_t kFreeSteps = 256;
constexpr uint32_t kGrowth = 16;
constexpr uint32_t kMaxSteps = 1u << 28;
constexpr uint32_t kMaxDepth = 1u << 20;
constexpr uint32_t kMaxHeapKib = 256 * 1024;
constexpr size_t kMaxPatternBytes = 8192;

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[128] = {};
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

Result<Regex> Regex::Compile(const std::string& pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return Status::Unsupported(
        fmt::format("pattern of {} bytes, at most {}", pattern.size(), kMaxPatternBytes));
  }
  // MULTILINE: in the syntax these patterns come from, ^ and $ always mean lines.
  // NEVER_BACKSLASH_C: \C could cut a character in two.
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C |
                                PCRE2_DOLLAR_ENDONLY | PCRE2_NO_AUTO_POSSESS;
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  if (context == nullptr) return Status::ResourceExhausted("no memory for a pattern");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   kOptions, &error, &offset, context.get());
  if (code == nullptr) {
    return Status::Unsupported(
        fmt::format("pattern '{}': {} (at byte {})", pattern, ErrorText(error), offset));
  }
  return Regex(
      std::shared_ptr<void>(code, [](void* p) { pcre2_code_free(static_cast<pcre2_code*>(p)); }));
}

RegexMatcher::RegexMatcher(const Regex& regex)
    : regex_(regex),
      data_(pcre2_match_data_create(1, nullptr),
            [](void* p) { pcre2_match_data_free(static_cast<pcre2_match_data*>(p)); }),
      context_(pcre2_match_context_create(nullptr),
               [](void* p) { pcre2_match_context_free(static_cast<pcre2_match_context*>(p)); }) {
  if (data_ == nullptr || context_ == nullptr) {
    status_ = Status::ResourceExhausted("no memory to match a pattern");
    return;
  }
  auto* context = static_cast<pcre2_match_context*>(context_.get());
  pcre2_set_depth_limit(context, kMaxDepth);
  pcre2_set_heap_limit(context, kMaxHeapKib);
}

RegexMatcher::Outcome RegexMatcher::MatchAt(std::string_view subject, size_t at,
                                            RegexBudget* budget, size_t* end) {
  if (!status_.ok()) return Outcome::kError;
  auto* context = static_cast<pcre2_match_context*>(context_.get());
  auto* data = static_cast<pcre2_match_data*>(data_.get());
  int rc = PCRE2_ERROR_MATCHLIMIT;
  for (uint32_t steps = kFreeSteps; rc == PCRE2_ERROR_MATCHLIMIT; steps *= kGrowth) {
    if (steps > kMaxSteps || (steps != kFreeSteps && !budget->Take(steps))) break;
    pcre2_set_match_limit(context, steps);
    rc = pcre2_match(static_cast<const pcre2_code*>(regex_.code()),
                     reinterpret_cast<PCRE2_SPTR>(subject.data()), subject.size(), at,
                     PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK, data, context);
  }
  if (rc == PCRE2_ERROR_NOMATCH) return Outcome::kNoMatch;
  if (rc < 0) {
    status_ = Status::OutOfRange(
        fmt::format("the pre-tokenizer's pattern gave up at byte {} of a piece of {}: {}", at,
                    subject.size(), ErrorText(rc)));
    return Outcome::kError;
  }
  const PCRE2_SIZE* match = pcre2_get_ovector_pointer(data);
  if (match[0] != at || match[1] < at) {  // \K moved the start
    status_ = Status::Unsupported("the pre-tokenizer's pattern moves the start of its match");
    return Outcome::kError;
  }
  *end = match[1];
  return Outcome::kMatch;
}

}  // namespace sdq::tokenizer
