// The file of exceptions to an allocation, and how rates are written.
#include <fmt/format.h>

#include <charconv>
#include <numeric>

#include "converter/allocate.h"
#include "format/layout.h"

namespace sdq::converter {
namespace {

constexpr size_t kMaxDecimals = 4;  // ratios are finer than any use of them
constexpr std::string_view kBlanks = " \t\r\v\f";

std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

// All of `text` as an unsigned decimal number.
bool ParseUnsigned(std::string_view text, uint32_t* value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, *value);
  return error == std::errc() && stop == end && !text.empty();
}

bool ParseFraction(std::string_view text, uint64_t* num, uint64_t* den) {
  const size_t slash = text.find('/');
  uint32_t whole = 0;
  if (slash != std::string_view::npos) {
    uint32_t below = 0;
    if (!ParseUnsigned(text.substr(0, slash), &whole)) return false;
    if (!ParseUnsigned(text.substr(slash + 1), &below)) return false;
    *num = whole;
    *den = below;
    return true;
  }
  const size_t point = text.find('.');
  if (!ParseUnsigned(text.substr(0, point), &whole)) return false;
  *num = whole;
  *den = 1;
  if (point == std::string_view::npos) return true;
  const std::string_view decimals = text.substr(point + 1);
  uint32_t digits = 0;
  if (decimals.size() > kMaxDecimals || !ParseUnsigned(decimals, &digits)) return false;
  for (size_t i = 0; i < decimals.size(); ++i) *den *= 10;
  *num = *num * *den + digits;
  return true;
}

// `*` stands for any run of characters. Only the last star needs to be tried again.
bool Matches(std::string_view pattern, std::string_view name) {
  size_t p = 0;
  size_t n = 0;
  size_t star = std::string_view::npos;
  size_t resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

Result<RateOverride> ParseLine(std::string_view line, size_t number) {
  const size_t gap = line.find_first_of(kBlanks);
  if (gap == std::string_view::npos) {
    return Status::InvalidArgument(
        fmt::format("line {}: expected 'pattern osr', found '{}'", number, line));
  }
  Result<Rate> rate = ParseRate(Trim(line.substr(gap)));
  if (!rate.ok()) return std::move(rate).status().Annotate(fmt::format("line {}", number));
  return RateOverride{std::string(line.substr(0, gap)), *rate, number};
}

}  // namespace

Result<Rate> ParseRate(std::string_view text) {
  uint64_t num = 0;
  uint64_t den = 0;
  if (!ParseFraction(text, &num, &den)) {
    return Status::InvalidArgument(
        fmt::format("'{}' is not an over-sampling ratio such as 2, 2.25 or 9/4", text));
  }
  if (den == 0 || num < den || num > den * format::kMaxOsr) {
    return Status::OutOfRange(
        fmt::format("over-sampling ratio {}: must be from 1 to {}", text, format::kMaxOsr));
  }
  const uint64_t divisor = std::gcd(num, den);
  if (den / divisor > format::kMaxRateDenominator) {
    return Status::OutOfRange(fmt::format("over-sampling ratio {}: denominator above {}", text,
                                          format::kMaxRateDenominator));
  }
  return Rate{uint32_t(num / divisor), uint32_t(den / divisor)};
}

Result<std::vector<RateOverride>> ParseRateOverrides(std::string_view text) {
  std::vector<RateOverride> overrides;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    line = Trim(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    SDQ_ASSIGN_OR_RETURN(RateOverride parsed, ParseLine(line, number));
    overrides.push_back(std::move(parsed));
  }
  return overrides;
}

Status ApplyRateOverrides(const std::vector<RateOverride>& overrides,
                          std::vector<NamedRate>* rates) {
  for (const RateOverride& rule : overrides) {
    bool used = false;
    for (NamedRate& entry : *rates) {
      if (!Matches(rule.pattern, entry.name)) continue;
      entry.rate = rule.rate;
      used = true;
    }
    if (!used) {
      return Status::InvalidArgument(
          fmt::format("line {}: no linear is called '{}'", rule.line, rule.pattern));
    }
  }
  return Status::Ok();
}

}  // namespace sdq::converter
