// Reference vectors: text -> ids -> text, as the reference tokenizers give them.
#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "converter/tokenizer_import.h"
#include "tests/support/files.h"
#include "tests/tokenizer/tokenizer_test_util.h"

namespace sdq {
namespace {

using test::BundledModel;
using test::TemporaryFolder;

nlohmann::json ReadJson(const std::string& path) {
  const auto bytes = test::ReadBytes(path);
  return nlohmann::json::parse(bytes.begin(), bytes.end());
}

// `special`: the vectors' own "ids" were made with control tokens parsed in the text.
void CheckVectors(const Tokenizer& tokenizer, const nlohmann::json& vectors, bool special) {
  REQUIRE(vectors.size() >= 10);
  for (const auto& vector : vectors) {
    const auto text = vector["text"].get<std::string>();
    const auto expected = vector["ids"].get<std::vector<TokenId>>();
    CAPTURE(text);
    const auto ids = tokenizer.Encode(text, false, special);
    REQUIRE(ids.ok());
    CHECK(*ids == expected);
    if (vector.contains("ids_with_special")) {
      const auto with_special = tokenizer.Encode(text, true, special);
      REQUIRE(with_special.ok());
      CHECK(*with_special == vector["ids_with_special"].get<std::vector<TokenId>>());
    }
    // Where the vector does not say otherwise, decoding gives the text back; not so behind control
    // tokens, where the prefix space of every stretch of text stays (LLaMA-2's tokenizer.json).
    std::string decoded = vector.value("decoded", text);
    if (special && text == "</s> <s> <unk> <pad>" && expected[0] == 2) {
      decoded = "</s>  <s>  <unk>  <pad>";
    }
    CHECK(tokenizer.Decode(expected, false) == decoded);
    CHECK(Streamed(tokenizer, expected, tokenizer.spec().strip_prefix_space) == decoded);
  }
}

TEST_CASE("Bundled models encode and decode as the reference does") {
  const auto vectors = ReadJson(BundledModel("../../tests/tokenizer/data/bundled_vectors.json"));
  SECTION("SentencePiece") {
    const Tokenizer tokenizer = Import(BundledModel("stories-llama-5m"), 4096);
    CheckVectors(tokenizer, vectors["demo-llama-sentencepiece"], false);
    CHECK(tokenizer.spec().bos_token == 1);
    CHECK(tokenizer.spec().eos_token == 2);
    CHECK(tokenizer.spec().add_bos);
    CHECK_FALSE(tokenizer.spec().add_eos);
  }
  SECTION("byte-level") {
    const Tokenizer tokenizer = Import(BundledModel("stories-opt-6m"), 4096);
    CheckVectors(tokenizer, vectors["demo-opt-bytelevel"], false);
    CHECK(tokenizer.spec().bos_token == 2);
    CHECK(tokenizer.spec().eos_token == 2);
    CHECK(tokenizer.spec().add_bos);
  }
}

TEST_CASE("Every reference vector, both ways") {
  SDQ_NEEDS_SHARED(shared, "golden/tokenizers");
  const auto vectors = ReadJson(shared + "/vectors.json");
  const TemporaryFolder folder;
  const auto copy = [&](const std::string& from, const std::string& to) {
    std::filesystem::copy_file(from, folder / to);
  };
  SECTION("GPT-2 vocab.json + merges.txt") {
    copy(shared + "/gpt2-vocab.json", "vocab.json");
    copy(shared + "/gpt2-merges.txt", "merges.txt");
    const Tokenizer tokenizer = Import(folder.path(), 50257);
    CheckVectors(tokenizer, vectors["gpt2-bytelevel"], false);
    CHECK_FALSE(tokenizer.spec().add_bos);
  }
  SECTION("GPT-2 tokenizer.json") {
    copy(shared + "/gpt2.tokenizer.json", "tokenizer.json");
    CheckVectors(Import(folder.path(), 50257), vectors["gpt2-tokenizer-json"], true);
  }
  SECTION("LLaMA-2 tokenizer.json") {
    copy(shared + "/llama2.tokenizer.json", "tokenizer.json");
    CheckVectors(Import(folder.path(), 32000), vectors["llama2-tokenizer-json"], true);
  }
  SECTION("LLaMA-2 tokenizer.model") {
    SDQ_NEEDS_SHARED(model, "models/stories15m");
    CheckVectors(Import(model, 32000), vectors["llama2-sentencepiece"], false);
  }
  SECTION("bundled models, all vectors") {
    CheckVectors(Import(BundledModel("stories-llama-5m"), 4096),
                 vectors["demo-llama-sentencepiece"], false);
    CheckVectors(Import(BundledModel("stories-opt-6m"), 4096), vectors["demo-opt-bytelevel"],
                 false);
  }
}

}  // namespace
}  // namespace sdq
