// tokenizer.model from anybody: import, and use it if it passes.
#include <cstddef>
#include <cstdint>

#include "converter/tokenizer_import.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto spec = sdq::converter::ImportSentencePieceModel({data, size}, "fuzz");
  if (!spec.ok()) return 0;
  const auto tokenizer = sdq::Tokenizer::Create(*std::move(spec));
  if (!tokenizer.ok()) return 0;
  const auto ids = tokenizer->Encode(" ab  abc<s>\xe2\x96\x81 z\xff", true, true);
  if (ids.ok()) (void)tokenizer->Decode(*ids, false);
  return 0;
}
