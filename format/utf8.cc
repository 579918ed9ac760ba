#include "format/utf8.h"

#include <cstddef>
#include <cstdint>

namespace sdq::format {
namespace {

// What may follow a lead byte: how many continuation bytes, and the range of the first of them.
struct Lead {
  size_t continuation = 0;
  uint8_t low = 0x80;
  uint8_t high = 0xbf;
  bool valid = true;
};

Lead Classify(uint8_t byte) {
  if (byte < 0x80) return {0};
  if (byte >= 0xc2 && byte <= 0xdf) return {1};
  if (byte == 0xe0) return {2, 0xa0, 0xbf};
  if (byte == 0xed) return {2, 0x80, 0x9f};
  if (byte >= 0xe1 && byte <= 0xef) return {2};
  if (byte == 0xf0) return {3, 0x90, 0xbf};
  if (byte >= 0xf1 && byte <= 0xf3) return {3};
  if (byte == 0xf4) return {3, 0x80, 0x8f};
  return {0, 0, 0, false};
}

}  // namespace

bool IsUtf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const Lead lead = Classify(static_cast<uint8_t>(text[i++]));
    if (!lead.valid || text.size() - i < lead.continuation) return false;
    for (size_t k = 0; k < lead.continuation; ++k, ++i) {
      const auto byte = static_cast<uint8_t>(text[i]);
      const uint8_t low = k == 0 ? lead.low : uint8_t{0x80};
      const uint8_t high = k == 0 ? lead.high : uint8_t{0xbf};
      if (byte < low || byte > high) return false;
    }
  }
  return true;
}

}  // namespace sdq::format
