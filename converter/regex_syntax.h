// Regular expressions of tokenizer.json (Oniguruma, Ruby syntax) as PCRE2 writes them.
#ifndef SDQ_CONVERTER_REGEX_SYNTAX_H_
#define SDQ_CONVERTER_REGEX_SYNTAX_H_

#include <string>
#include <string_view>

#include "format/status.h"

namespace sdq::converter {

// The pattern with the same meaning under PCRE2 with UTF and Unicode properties: \s is White_Space,
// \w letters, marks, numbers and connectors. kUnsupported for what means something else there
// (nested classes, class intersection, {n,m}+, \h, inline (?m), verbs).
Result<std::string> PcreFromOniguruma(std::string_view pattern);

// A pattern that matches exactly `text`.
std::string PcreLiteral(std::string_view text);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_REGEX_SYNTAX_H_
