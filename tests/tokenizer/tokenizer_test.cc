// The runtime's half: the spec as metadata, hostile specs and texts, streaming.
#include "runtime/tokenizer.h"

#include <catch2/catch.hpp>
#include <string>

#include "format/metadata.h"
#include "tests/support/files.h"
#include "tests/tokenizer/tokenizer_test_util.h"

namespace sdq {
namespace {

using Type = TokenizerSpec::TokenType;
using Step = TokenizerSpec::PreTokenizerStep;

// 256 bytes, then "ab" and "abc", then a control token.
TokenizerSpec ByteSpec() {
  TokenizerSpec spec;
  spec.kind = TokenizerSpec::Kind::kByteLevelBpe;
  for (int b = 0; b < 256; ++b) spec.tokens.emplace_back(1, char(uint8_t(b)));
  spec.tokens.insert(spec.tokens.end(), {"ab", "abc", "<s>"});
  spec.types.assign(spec.tokens.size(), uint32_t(Type::kNormal));
  spec.types.back() = uint32_t(Type::kControl);
  spec.merges = {'a', 'b', 256, 'c'};
  spec.bos_token = 258;
  spec.add_bos = true;
  TokenizerSpec::AddedToken added;
  added.id = 258;
  added.pattern = "<s>";
  spec.added.push_back(added);
  return spec;
}

TEST_CASE("The spec survives the file's metadata") {
  const std::string name = GENERATE("stories-llama-5m", "stories-opt-6m");
  auto imported = converter::ImportTokenizer(test::BundledModel(name), 4096);
  REQUIRE(imported.ok());
  imported->chat_template = "{{ messages }}";
  format::Metadata metadata;
  imported->Store(&metadata);
  const auto bytes = metadata.Encode();
  const auto decoded = format::Metadata::Decode(bytes);
  REQUIRE(decoded.ok());
  const auto loaded = TokenizerSpec::Load(*decoded);
  INFO(loaded.status().message());
  REQUIRE(loaded.ok());
  CHECK(loaded->tokens == imported->tokens);
  CHECK(loaded->scores == imported->scores);
  CHECK(loaded->types == imported->types);
  CHECK(loaded->merges == imported->merges);
  CHECK(loaded->chat_template == imported->chat_template);
  CHECK(loaded->added.size() == imported->added.size());
  const std::string text = "  Once upon a time,\nthere was 1 naïve <s> dog  ";
  CHECK(Ids(Make(*loaded), text, true, true) == Ids(Make(*imported), text, true, true));
}

TEST_CASE("Merges, control tokens and BOS") {
  const Tokenizer tokenizer = Make(ByteSpec());
  CHECK(Ids(tokenizer, "abcab<s>") == std::vector<TokenId>{257, 256, '<', 's', '>'});
  CHECK(Ids(tokenizer, "abcab<s>", true, true) == std::vector<TokenId>{258, 257, 256, 258});
  CHECK(Ids(tokenizer, "").empty());
  CHECK(Ids(tokenizer, std::string("a\0b", 3)) == std::vector<TokenId>{'a', 0, 'b'});
  CHECK(Ids(tokenizer, "\xff\xe2\x82") == std::vector<TokenId>{0xef, 0xbf, 0xbd, 0xef, 0xbf, 0xbd});
}

TEST_CASE("Ids out of range decode to nothing") {
  const Tokenizer tokenizer = Make(ByteSpec());
  const std::vector<TokenId> ids = {-1, 'a', 259, 2147483647, 258};
  CHECK(tokenizer.Decode(ids, true) == "a");
  CHECK(tokenizer.Decode(ids, false) == "a<s>");
  CHECK(tokenizer.TokenBytes(-2147483647 - 1).empty());
}

TEST_CASE("Broken specs are refused") {
  TokenizerSpec spec = ByteSpec();
  const auto refused = [&](StatusCode code) {
    const auto tokenizer = Tokenizer::Create(spec);
    CHECK(tokenizer.status().code() == code);
    CHECK_FALSE(tokenizer.status().message().empty());
  };
  SECTION("no tokens") {
    spec = TokenizerSpec();
    refused(StatusCode::kOutOfRange);
  }
  SECTION("types missing") {
    spec.types.pop_back();
    refused(StatusCode::kCorrupt);
  }
  SECTION("unknown type") {
    spec.types[3] = 7;
    refused(StatusCode::kCorrupt);
  }
  SECTION("a byte token that is none") {
    spec.types[3] = uint32_t(Type::kByte);
    refused(StatusCode::kCorrupt);
  }
  SECTION("merge beyond the vocabulary") {
    spec.merges[1] = 259;
    refused(StatusCode::kCorrupt);
  }
  SECTION("half a merge") {
    spec.merges.pop_back();
    refused(StatusCode::kCorrupt);
  }
  SECTION("merge without a result") {
    spec.merges = {'x', 'y'};
    refused(StatusCode::kCorrupt);
  }
  SECTION("duplicate surface") {
    spec.tokens[257] = "ab";
    refused(StatusCode::kCorrupt);
  }
  SECTION("special ids") {
    spec.eos_token = 259;
    refused(StatusCode::kCorrupt);
  }
  SECTION("BOS wanted, none there") {
    spec.bos_token = -1;
    refused(StatusCode::kCorrupt);
  }
  SECTION("scores where merges rule") {
    spec.scores.assign(spec.tokens.size(), 0.0f);
    refused(StatusCode::kCorrupt);
  }
  SECTION("scores that are no numbers") {
    spec.kind = TokenizerSpec::Kind::kSentencePieceBpe;
    spec.merges.clear();
    spec.scores.assign(spec.tokens.size(), std::numeric_limits<float>::quiet_NaN());
    refused(StatusCode::kCorrupt);
  }
  SECTION("added token out of range") {
    spec.added[0].id = 1000;
    refused(StatusCode::kCorrupt);
  }
  SECTION("empty added token") {
    spec.added[0].pattern.clear();
    refused(StatusCode::kCorrupt);
  }
  SECTION("unknown step") {
    spec.pre_tokenizer.push_back({Step::Kind(99), "x", false, false});
    refused(StatusCode::kCorrupt);
  }
  SECTION("pattern that does not compile") {
    spec.pre_tokenizer.push_back({Step::Kind::kRegexIsolated, "a(", false, false});
    refused(StatusCode::kUnsupported);
  }
}

TEST_CASE("Metadata of the wrong shape is refused") {
  format::Metadata metadata;
  CHECK(TokenizerSpec::Load(metadata).status().code() == StatusCode::kNotFound);
  ByteSpec().Store(&metadata);
  REQUIRE(TokenizerSpec::Load(metadata).ok());
  const std::string key = GENERATE("tokenizer.added.flags", "tokenizer.types", "tokenizer.merges");
  metadata.Set(key, std::vector<uint32_t>{0xffffffffu});
  CHECK(TokenizerSpec::Load(metadata).status().code() == StatusCode::kCorrupt);
  metadata.Set("tokenizer.add_bos", int64_t(1));
  CHECK_FALSE(TokenizerSpec::Load(metadata).ok());
}

TEST_CASE("A pattern that backtracks without end gives an error, not an hour") {
  TokenizerSpec spec = ByteSpec();
  // Exponential at one place, and quadratic over many.
  const std::string pattern = GENERATE("(?:a|aa)*b|.", "a*b|.");
  spec.pre_tokenizer.push_back({Step::Kind::kRegexIsolated, pattern, false, false});
  const Tokenizer tokenizer = Make(spec);
  const auto ids = tokenizer.Encode(std::string(200000, 'a'), false, false);
  CHECK(ids.status().code() == StatusCode::kOutOfRange);
  CHECK(tokenizer.Encode("aaaab", false, false).ok());
}

TEST_CASE("Long unbroken text is not quadratic") {
  TokenizerSpec spec = ByteSpec();  // no pre-tokenizer: one piece of 3 million symbols
  std::string text;
  for (int i = 0; i < 1000000; ++i) text += "abc";
  const auto ids = Ids(Make(spec), text);
  CHECK(ids == std::vector<TokenId>(1000000, 257));
}

TEST_CASE("Splitting behaviours") {
  TokenizerSpec spec = ByteSpec();
  const auto pieces = [&](Step::Kind kind, bool invert, const std::string& text) {
    spec.pre_tokenizer = {{kind, "b", invert, false}};
    return Ids(Make(spec), text).size();
  };
  // "ab" and "abc" are tokens only where the split leaves them whole.
  CHECK(pieces(Step::Kind::kRegexIsolated, false, "abcab") == 5);
  CHECK(pieces(Step::Kind::kRegexRemoved, false, "abcab") == 3);
  CHECK(pieces(Step::Kind::kRegexRemoved, true, "abcab") == 2);
  CHECK(pieces(Step::Kind::kRegexMergedWithPrevious, false, "abcab") == 3);
  CHECK(pieces(Step::Kind::kRegexMergedWithNext, false, "abcab") == 5);
}

TEST_CASE("Streaming shows whole characters only") {
  Utf8Stream stream;
  CHECK(stream.Push("a\xf0\x9f").compare("a") == 0);
  CHECK(stream.Push("\x98").empty());
  CHECK(stream.Push("\x80z") == "\xf0\x9f\x98\x80z");
  CHECK(stream.Flush().empty());
  CHECK(stream.Push("\xe2\x82") == "");
  CHECK(stream.Push("x") == "\xef\xbf\xbdx");
  CHECK(stream.Push("\xc3") == "");
  CHECK(stream.Flush() == "\xef\xbf\xbd");
  CHECK(stream.Push("\xed\xa0\x80") == "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");  // a surrogate
}

}  // namespace
}  // namespace sdq
