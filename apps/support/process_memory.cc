#include "apps/support/process_memory.h"

#include <charconv>
#include <fstream>
#include <iterator>
#include <string>

namespace sdq::apps {
namespace {

// Of a line "Key:   1234 kB"; 0 if there is none.
uint64_t BytesOf(std::string_view text, std::string_view key) {
  size_t at = text.find(key);
  if (at == std::string_view::npos) return 0;
  at = text.find_first_not_of(" \t", at + key.size());
  if (at == std::string_view::npos) return 0;
  uint64_t kib = 0;
  std::from_chars(text.data() + at, text.data() + text.size(), kib);
  return kib * 1024;
}

}  // namespace

ProcessMemory ParseProcessStatus(std::string_view text) {
  return {BytesOf(text, "\nRssAnon:"), BytesOf(text, "\nVmHWM:")};
}

ProcessMemory ReadProcessMemory() {
  std::ifstream stream("/proc/self/status");
  const std::string text((std::istreambuf_iterator<char>(stream)),
                         std::istreambuf_iterator<char>());
  return ParseProcessStatus(text);
}

}  // namespace sdq::apps
