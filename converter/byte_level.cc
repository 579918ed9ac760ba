#include "converter/byte_level.h"

#include <array>
#include <cstdint>

#include "runtime/tokenizer_utf8.h"

namespace sdq::converter {
namespace {

// Characters below this that stand for bytes: printable Latin-1 for itself, the 68 other bytes
// from U+0100 on, in order.
constexpr size_t kAlphabetEnd = 0x100 + 68;

constexpr bool StandsForItself(size_t byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

constexpr std::array<int16_t, kAlphabetEnd> MakeByteOfCharacter() {
  std::array<int16_t, kAlphabetEnd> table{};
  for (auto& entry : table) entry = -1;
  size_t next = 0x100;
  for (size_t byte = 0; byte < 256; ++byte) {
    table[StandsForItself(byte) ? byte : next++] = int16_t(byte);
  }
  return table;
}

constexpr std::array<int16_t, kAlphabetEnd> kByteOfCharacter = MakeByteOfCharacter();

}  // namespace

bool BytesOfVisible(std::string_view visible, std::string* bytes) {
  bytes->clear();
  while (!visible.empty()) {
    const utf8::Character c = utf8::ScanOne(visible);
    if (c.scan != utf8::Scan::kValid || c.code_point >= kAlphabetEnd ||
        kByteOfCharacter[c.code_point] < 0) {
      return false;
    }
    bytes->push_back(char(uint8_t(kByteOfCharacter[c.code_point])));
    visible.remove_prefix(c.bytes);
  }
  return true;
}

}  // namespace sdq::converter
