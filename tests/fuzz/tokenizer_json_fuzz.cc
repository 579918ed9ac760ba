// tokenizer.json from anybody: import, and use it if it passes.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "converter/tokenizer_import.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto spec = sdq::converter::ImportTokenizerJson(text, "fuzz");
  if (!spec.ok()) return 0;
  const auto tokenizer = sdq::Tokenizer::Create(*std::move(spec));
  if (!tokenizer.ok()) return 0;
  const auto ids = tokenizer->Encode("Hi, it's 42 <|eot|>\n x\xff", true, true);
  if (ids.ok()) (void)tokenizer->Decode(*ids, false);
  return 0;
}
