#include "runtime/tokenizer_utf8.h"

#include "runtime/tokenizer.h"

namespace sdq {
namespace utf8 {
namespace {

// What may follow a lead byte: how many continuation bytes, and the range of the first of them.
struct Lead {
  size_t continuation;
  uint8_t low;
  uint8_t high;
  uint8_t payload;  // bits of the lead byte that belong to the code point
};

// Unicode table 3-7. False: no character begins with this byte.
bool Classify(uint8_t byte, Lead* lead) {
  if (byte < 0x80) {
    *lead = {0, 0, 0, byte};
  } else if (byte >= 0xc2 && byte <= 0xdf) {
    *lead = {1, 0x80, 0xbf, uint8_t(byte & 0x1f)};
  } else if (byte >= 0xe0 && byte <= 0xef) {
    *lead = {2, uint8_t(byte == 0xe0 ? 0xa0 : 0x80), uint8_t(byte == 0xed ? 0x9f : 0xbf),
             uint8_t(byte & 0x0f)};
  } else if (byte >= 0xf0 && byte <= 0xf4) {
    *lead = {3, uint8_t(byte == 0xf0 ? 0x90 : 0x80), uint8_t(byte == 0xf4 ? 0x8f : 0xbf),
             uint8_t(byte & 0x07)};
  } else {
    return false;
  }
  return true;
}

}  // namespace

Character ScanOne(std::string_view text) {
  Lead lead{};
  if (!Classify(uint8_t(text[0]), &lead)) return {Scan::kInvalid, 1, 0};
  uint32_t code_point = lead.payload;
  for (size_t k = 1; k <= lead.continuation; ++k) {
    if (k == text.size()) return {Scan::kIncomplete, k, 0};
    const auto byte = uint8_t(text[k]);
    const uint8_t low = k == 1 ? lead.low : uint8_t(0x80);
    const uint8_t high = k == 1 ? lead.high : uint8_t(0xbf);
    if (byte < low || byte > high) return {Scan::kInvalid, k, 0};
    code_point = (code_point << 6) | (byte & 0x3fu);
  }
  return {Scan::kValid, lead.continuation + 1, code_point};
}

void Append(uint32_t code_point, std::string* out) {
  const auto put = [out](uint32_t byte) { out->push_back(char(uint8_t(byte))); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xc0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3f));
  } else if (code_point < 0x10000) {
    put(0xe0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3f));
    put(0x80 | (code_point & 0x3f));
  } else {
    put(0xf0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3f));
    put(0x80 | ((code_point >> 6) & 0x3f));
    put(0x80 | (code_point & 0x3f));
  }
}

std::string Repair(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Character c = ScanOne(text);
    out.append(c.scan == Scan::kValid ? text.substr(0, c.bytes) : kReplacement);
    text.remove_prefix(c.bytes);
  }
  return out;
}

bool IsWhiteSpace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

size_t LeadingWhiteSpace(std::string_view text) {
  size_t n = 0;
  while (n < text.size()) {
    const Character c = ScanOne(text.substr(n));
    if (!IsWhiteSpace(c.code_point)) break;
    n += c.bytes;
  }
  return n;
}

size_t TrailingWhiteSpace(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const size_t start = LastCharacter(text.substr(0, end));
    if (!IsWhiteSpace(ScanOne(text.substr(start, end - start)).code_point)) break;
    end = start;
  }
  return text.size() - end;
}

size_t LastCharacter(std::string_view text) {
  size_t start = text.size() - 1;
  while (start > 0 && IsContinuation(text[start])) --start;
  return start;
}

}  // namespace utf8

std::string Utf8Stream::Push(std::string_view bytes) {
  pending_.append(bytes);
  std::string out;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const utf8::Character c = utf8::ScanOne(rest);
    if (c.scan == utf8::Scan::kIncomplete) break;
    out.append(c.scan == utf8::Scan::kValid ? rest.substr(0, c.bytes) : utf8::kReplacement);
    rest.remove_prefix(c.bytes);
  }
  pending_ = std::string(rest);
  return out;
}

std::string Utf8Stream::Flush() {
  const bool unfinished = !pending_.empty();
  pending_.clear();
  return unfinished ? std::string(utf8::kReplacement) : std::string();
}

}  // namespace sdq
