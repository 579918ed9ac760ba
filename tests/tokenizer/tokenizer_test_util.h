// Small tokenizers and shorthands for the tests of this folder.
#ifndef SDQ_TESTS_TOKENIZER_TOKENIZER_TEST_UTIL_H_
#define SDQ_TESTS_TOKENIZER_TOKENIZER_TEST_UTIL_H_

#include <catch2/catch.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "converter/tokenizer_import.h"
#include "runtime/tokenizer.h"

namespace sdq {

inline Tokenizer Make(TokenizerSpec spec) {
  auto tokenizer = Tokenizer::Create(std::move(spec));
  INFO(tokenizer.status().message());
  REQUIRE(tokenizer.ok());
  return *std::move(tokenizer);
}

inline Tokenizer Import(const std::string& folder, int64_t vocab_size) {
  auto spec = converter::ImportTokenizer(folder, vocab_size);
  INFO(spec.status().message());
  REQUIRE(spec.ok());
  return Make(*std::move(spec));
}

// What a program shows that prints token by token.
inline std::string Streamed(const Tokenizer& tokenizer, std::span<const TokenId> ids,
                            bool strip_prefix) {
  Utf8Stream stream;
  std::string out;
  for (const TokenId id : ids) out += stream.Push(tokenizer.TokenBytes(id, true));
  out += stream.Flush();
  const bool prefixed = strip_prefix && !ids.empty() && out.starts_with(' ');
  return prefixed ? out.substr(1) : out;
}

inline std::vector<TokenId> Ids(const Tokenizer& tokenizer, std::string_view text,
                                bool add_special = false, bool parse_special = false) {
  auto ids = tokenizer.Encode(text, add_special, parse_special);
  INFO(ids.status().message());
  REQUIRE(ids.ok());
  return *std::move(ids);
}

}  // namespace sdq

#endif  // SDQ_TESTS_TOKENIZER_TOKENIZER_TEST_UTIL_H_
