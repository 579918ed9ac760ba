// UTF-8, character by character: the scanner under the tokenizers.
#ifndef SDQ_RUNTIME_TOKENIZER_UTF8_H_
#define SDQ_RUNTIME_TOKENIZER_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sdq::utf8 {

inline constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

enum class Scan {
  kValid,       // `bytes` is a whole character
  kInvalid,     // `bytes` is a maximal subpart (Unicode 3.9, table 3-7) that nothing can complete
  kIncomplete,  // the text ends inside a character
};

struct Character {
  Scan scan = Scan::kValid;
  size_t bytes = 0;  // at least 1
  uint32_t code_point = 0;
};

// The character at text[0]. `text` is not empty.
Character ScanOne(std::string_view text);

// Length of the first character of valid, non-empty UTF-8.
inline size_t LengthOfValid(char lead) {
  const auto byte = static_cast<uint8_t>(lead);
  return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

inline bool IsContinuation(char c) { return (static_cast<uint8_t>(c) & 0xc0) == 0x80; }

void Append(uint32_t code_point, std::string* out);

// `text` with every maximal invalid subpart replaced by U+FFFD.
std::string Repair(std::string_view text);

// Unicode property White_Space.
bool IsWhiteSpace(uint32_t code_point);
// Bytes of white space at the start / at the end of valid UTF-8.
size_t LeadingWhiteSpace(std::string_view text);
size_t TrailingWhiteSpace(std::string_view text);

// Start of the last character of valid, non-empty UTF-8.
size_t LastCharacter(std::string_view text);

}  // namespace sdq::utf8

#endif  // SDQ_RUNTIME_TOKENIZER_UTF8_H_
