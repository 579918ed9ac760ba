// Tokenizers in GGUF metadata, made from the bundled ones: the same reference vectors hold.
#include "converter/gguf_tokenizer.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "converter/gguf_file.h"
#include "tests/converter/gguf_builder.h"
#include "tests/support/files.h"
#include "tests/tokenizer/tokenizer_test_util.h"

namespace sdq {
namespace {

using Catch::Matchers::Contains;
using converter::GgufTokenizer;
using converter::GgufValueType;
using nlohmann::json;
using test::BundledModel;
using test::GgufBuilder;
using Type = TokenizerSpec::TokenType;

constexpr int64_t kVocabulary = 4096;

std::string ReadText(const std::string& path) {
  const auto bytes = test::ReadBytes(path);
  return {bytes.begin(), bytes.end()};
}

Result<TokenizerSpec> Load(const GgufBuilder& b, int64_t vocabulary = kVocabulary) {
  const std::vector<uint8_t> bytes = b.Bytes();
  const auto contents = converter::ParseGguf(bytes, "test.gguf");
  INFO(contents.status().message());
  REQUIRE(contents.ok());
  return GgufTokenizer(contents->metadata, vocabulary);
}

Tokenizer LoadGood(const GgufBuilder& b) {
  auto spec = Load(b);
  INFO(spec.status().message());
  REQUIRE(spec.ok());
  return Make(*std::move(spec));
}

GgufBuilder SentencePiece() {
  const Tokenizer original = Import(BundledModel("stories-llama-5m"), kVocabulary);
  const TokenizerSpec& spec = original.spec();
  GgufBuilder b;
  b.SetText("tokenizer.ggml.model", "llama");
  b.SetTexts("tokenizer.ggml.tokens", spec.tokens);
  b.SetReals("tokenizer.ggml.scores", spec.scores);
  b.SetArray("tokenizer.ggml.token_type", GgufValueType::kInt32, spec.types);
  b.SetBool("tokenizer.ggml.remove_extra_whitespaces", spec.remove_extra_whitespace);
  return b;
}

// The visible alphabet, as vocab.json has it.
std::vector<std::string> VisibleTokens(std::vector<uint32_t>* types) {
  std::vector<std::string> tokens(kVocabulary);
  types->assign(kVocabulary, uint32_t(Type::kUnused));
  const json vocab = json::parse(ReadText(BundledModel("stories-opt-6m/vocab.json")));
  for (const auto& [token, id] : vocab.items()) {
    tokens[id.get<size_t>()] = token;
    (*types)[id.get<size_t>()] = uint32_t(Type::kNormal);
  }
  const Tokenizer original = Import(BundledModel("stories-opt-6m"), kVocabulary);
  for (const auto& added : original.spec().added) {
    tokens[added.id] = added.pattern;
    (*types)[added.id] = uint32_t(Type::kControl);
  }
  return tokens;
}

std::vector<std::string> Merges() {
  std::istringstream lines(ReadText(BundledModel("stories-opt-6m/merges.txt")));
  std::vector<std::string> merges;
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && !line.starts_with("#version")) merges.push_back(line);
  }
  return merges;
}

GgufBuilder ByteLevel(const std::string& pre) {
  std::vector<uint32_t> types;
  GgufBuilder b;
  b.SetText("tokenizer.ggml.model", "gpt2");
  b.SetText("tokenizer.ggml.pre", pre);
  b.SetTexts("tokenizer.ggml.tokens", VisibleTokens(&types));
  b.SetArray("tokenizer.ggml.token_type", GgufValueType::kInt32, types);
  b.SetTexts("tokenizer.ggml.merges", Merges());
  b.SetInt("tokenizer.ggml.bos_token_id", 2);
  b.SetInt("tokenizer.ggml.eos_token_id", 2);
  b.SetBool("tokenizer.ggml.add_bos_token", true);
  b.SetText("tokenizer.chat_template", "{{ x }}");
  return b;
}

void CheckVectors(const Tokenizer& tokenizer, const std::string& name) {
  const json all =
      json::parse(ReadText(BundledModel("../../tests/tokenizer/data/bundled_vectors.json")));
  REQUIRE(all[name].size() >= 10);
  for (const auto& vector : all[name]) {
    const auto text = vector["text"].get<std::string>();
    CAPTURE(text);
    CHECK(Ids(tokenizer, text) == vector["ids"].get<std::vector<TokenId>>());
    if (!vector.contains("ids_with_special")) continue;
    CHECK(Ids(tokenizer, text, true) == vector["ids_with_special"].get<std::vector<TokenId>>());
  }
}

TEST_CASE("GGUF: a SentencePiece vocabulary gives the reference's ids") {
  const Tokenizer tokenizer = LoadGood(SentencePiece());
  CheckVectors(tokenizer, "demo-llama-sentencepiece");
  CHECK(tokenizer.spec().bos_token == 1);
  CHECK(tokenizer.spec().eos_token == 2);
  CHECK(tokenizer.spec().add_bos);
  CHECK_FALSE(tokenizer.spec().add_eos);
}

TEST_CASE("GGUF: the space in front of a text can be switched off") {
  GgufBuilder b = SentencePiece();
  b.SetBool("tokenizer.ggml.remove_extra_whitespaces", false);
  const Tokenizer with = LoadGood(b);
  b.SetBool("tokenizer.ggml.add_space_prefix", false);
  const Tokenizer without = LoadGood(b);
  CHECK(Ids(without, " once") == Ids(with, "once"));
  CHECK(Ids(without, "once") != Ids(with, "once"));
}

TEST_CASE("GGUF: a byte-level vocabulary gives the reference's ids") {
  const Tokenizer tokenizer = LoadGood(ByteLevel("gpt-2"));
  CheckVectors(tokenizer, "demo-opt-bytelevel");
  CHECK(tokenizer.spec().chat_template == "{{ x }}");
  CHECK(Ids(tokenizer, "</s>", false, true) == std::vector<TokenId>{2});
}

TEST_CASE("GGUF: named pre-tokenizers cut as the tokenizer.json files of their families do") {
  json source;
  std::vector<uint32_t> types;
  const std::vector<std::string> tokens = VisibleTokens(&types);
  source["model"] = {{"type", "BPE"}, {"merges", Merges()}};
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (types[i] == uint32_t(Type::kNormal)) source["model"]["vocab"][tokens[i]] = i;
  }
  const json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  const json bytes_only = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  const json digits = {{"type", "Digits"}, {"individual_digits", true}};
  // Meta-Llama-3's tokenizer.json.
  const json llama3 = {
      {"type", "Split"},
      {"behavior", "Isolated"},
      {"pattern",
       {{"Regex",
         R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}}};
  std::string pre;
  SECTION("gpt-2") {
    pre = "gpt-2";
    source["pre_tokenizer"] = byte_level;
  }
  SECTION("smollm") {
    pre = "smollm";
    source["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {digits, byte_level}}};
  }
  SECTION("llama-bpe") {
    pre = "llama-bpe";
    source["model"]["ignore_merges"] = true;
    source["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {llama3, bytes_only}}};
  }
  auto expected = converter::ImportTokenizerJson(source.dump(), "tokenizer.json");
  INFO(expected.status().message());
  REQUIRE(expected.ok());
  const Tokenizer reference = Make(*std::move(expected));
  const Tokenizer tokenizer = LoadGood(ByteLevel(pre));
  for (const char* text :
       {"In 1234567 years, we'LL see  two   spaces\n\n\tand\r\nlines.",
        "x'S 12 \xc2\xbd 3.14e5!!\n", "\xe2\x85\xa7 \xd9\xa3\xd9\xa4 \xe6\x97\xa5\xe6\x9c\xac  ",
        "It's    done\n \n  . "}) {
    CAPTURE(text);
    CHECK(Ids(tokenizer, text) == Ids(reference, text));
    CHECK(tokenizer.Decode(Ids(tokenizer, text), false) == text);
  }
}

void RequireRefused(const GgufBuilder& b, StatusCode code, const std::string& why) {
  const auto spec = Load(b);
  INFO(spec.status().message());
  REQUIRE_FALSE(spec.ok());
  CHECK(spec.status().code() == code);
  CHECK_THAT(spec.status().message(), Contains(why));
}

TEST_CASE("GGUF: tokenizers that are not known are refused, none is none") {
  RequireRefused(GgufBuilder(), StatusCode::kNotFound, "'none'");
  GgufBuilder other;
  other.SetText("tokenizer.ggml.model", "bert");
  RequireRefused(other, StatusCode::kUnsupported, "(supported: llama, gpt2)");
  RequireRefused(ByteLevel("default"), StatusCode::kUnsupported, "pre-tokenizer 'default'");
  GgufBuilder unnamed = ByteLevel("gpt-2");
  unnamed.Remove("tokenizer.ggml.pre");
  RequireRefused(unnamed, StatusCode::kUnsupported, "supported: gpt-2");
}

TEST_CASE("GGUF: broken tokenizers are refused") {
  GgufBuilder b = GENERATE(0, 1) == 0 ? SentencePiece() : ByteLevel("smollm");
  const auto corrupt = [&b](const std::string& why) {
    RequireRefused(b, StatusCode::kCorrupt, why);
  };
  SECTION("types for another number of tokens") {
    b.SetArray<int32_t>("tokenizer.ggml.token_type", GgufValueType::kInt32, {1, 1});
    corrupt("2 token types for 4096 tokens");
  }
  SECTION("unknown type of a token") {
    b.SetArray("tokenizer.ggml.token_type", GgufValueType::kInt32,
               std::vector<int32_t>(kVocabulary, 7));
    corrupt("unknown type 7");
  }
  SECTION("no tokens") {
    b.SetTexts("tokenizer.ggml.tokens", {});
    b.SetArray<int32_t>("tokenizer.ggml.token_type", GgufValueType::kInt32, {});
    CHECK_FALSE(Load(b).ok());
  }
  SECTION("tokens of another kind of value") {
    b.SetArray<int32_t>("tokenizer.ggml.tokens", GgufValueType::kInt32, {1, 2});
    corrupt("expected an array of strings");
  }
  SECTION("BOS that is no token") {
    b.SetInt("tokenizer.ggml.bos_token_id", uint32_t(kVocabulary));
    corrupt("bos_token_id is 4096");
  }
  SECTION("token that is not UTF-8") {
    b.SetTexts("tokenizer.ggml.tokens", std::vector<std::string>(kVocabulary, "\xff"));
    corrupt("token 0 is not UTF-8");
  }
}

TEST_CASE("GGUF: broken merges and scores are refused, and too many tokens") {
  GgufBuilder merges = ByteLevel("gpt-2");
  merges.SetTexts("tokenizer.ggml.merges", {"a"});
  RequireRefused(merges, StatusCode::kCorrupt, "does not name two tokens");
  merges.SetTexts("tokenizer.ggml.merges", {"a nonexistent"});
  RequireRefused(merges, StatusCode::kCorrupt, "which is no token");
  GgufBuilder scores = SentencePiece();
  scores.SetReals("tokenizer.ggml.scores", {1.0f});
  RequireRefused(scores, StatusCode::kCorrupt, "1 scores, expected 4096");
  const auto spec = Load(SentencePiece(), kVocabulary - 1);
  CHECK(spec.status().code() == StatusCode::kCorrupt);
  CHECK_THAT(spec.status().message(), Contains("only 4095 rows"));
}

}  // namespace
}  // namespace sdq
