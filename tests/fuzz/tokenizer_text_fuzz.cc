// Any bytes as text, through a small tokenizer of each kind. Decoding must give the text back,
// with invalid UTF-8 replaced; so must streaming.
#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "runtime/tokenizer.h"

namespace {

using sdq::Tokenizer;
using sdq::TokenizerSpec;
using Type = TokenizerSpec::TokenType;

void AddControl(const char* text, TokenizerSpec* spec) {
  TokenizerSpec::AddedToken added;
  added.id = uint32_t(spec->tokens.size());
  added.pattern = text;
  spec->tokens.emplace_back(text);
  spec->types.push_back(uint32_t(Type::kControl));
  spec->added.push_back(added);
}

Tokenizer ByteLevel() {
  TokenizerSpec spec;
  spec.kind = TokenizerSpec::Kind::kByteLevelBpe;
  for (int b = 0; b < 256; ++b) spec.tokens.emplace_back(1, char(uint8_t(b)));
  spec.tokens.insert(spec.tokens.end(), {"ab", "aba", "  ", "\xc3\xa9"});
  spec.types.assign(spec.tokens.size(), uint32_t(Type::kNormal));
  spec.merges = {'a', 'b', 256, 'a', ' ', ' ', 0xc3, 0xa9};
  AddControl("<s>", &spec);
  spec.pre_tokenizer.push_back({TokenizerSpec::PreTokenizerStep::Kind::kRegexIsolated,
                                " ?\\p{L}+| ?\\p{N}{1,3}|\\s+(?!\\S)|\\s+", false, false});
  return *Tokenizer::Create(std::move(spec));
}

Tokenizer SentencePiece() {
  TokenizerSpec spec;
  spec.kind = TokenizerSpec::Kind::kSentencePieceBpe;
  const auto add = [&spec](std::string text, Type type) {
    spec.tokens.push_back(std::move(text));
    spec.types.push_back(uint32_t(type));
  };
  for (int b = 0; b < 256; ++b) add(fmt::format("<0x{:02X}>", b), Type::kByte);
  for (const char* token : {"\xe2\x96\x81", "a", "b",
                            "\xe2\x96\x81"
                            "a",
                            "ab", "\xc3\xa9"}) {
    add(token, Type::kNormal);
  }
  AddControl("<s>", &spec);
  for (size_t i = 0; i < spec.tokens.size(); ++i) spec.scores.push_back(-float(i));
  spec.add_dummy_prefix = true;
  spec.strip_prefix_space = true;
  return *Tokenizer::Create(std::move(spec));
}

std::string Repaired(std::string_view text) {
  sdq::Utf8Stream stream;
  std::string out = stream.Push(text);
  return out + stream.Flush();
}

// The space sign itself comes back as a space.
std::string WithoutSpaceSigns(std::string_view text) {
  constexpr std::string_view kSign = "\xe2\x96\x81";
  std::string result;
  while (!text.empty()) {
    const bool sign = text.starts_with(kSign);
    result += sign ? ' ' : text.front();
    text.remove_prefix(sign ? kSign.size() : 1);
  }
  return result;
}

void Require(bool condition) {
  if (!condition) std::abort();
}

void RoundTrip(const Tokenizer& tokenizer, std::string_view text, const std::string& expected) {
  const auto ids = tokenizer.Encode(text, false, false);
  Require(ids.ok());
  Require(tokenizer.Decode(*ids, false) == expected);
  sdq::Utf8Stream stream;
  std::string streamed;
  for (const sdq::TokenId id : *ids) streamed += stream.Push(tokenizer.TokenBytes(id, true));
  streamed += stream.Flush();
  const bool prefixed = tokenizer.spec().strip_prefix_space && !text.empty();
  Require(streamed == (prefixed ? " " : "") + expected);
  (void)tokenizer.Encode(text, true, true);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Tokenizer byte_level = ByteLevel();
  static const Tokenizer sentence_piece = SentencePiece();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string repaired = Repaired(text);
  RoundTrip(byte_level, text, repaired);
  RoundTrip(sentence_piece, text, WithoutSpaceSigns(repaired));
  return 0;
}
