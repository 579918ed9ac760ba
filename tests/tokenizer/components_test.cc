// Components of tokenizer.json, each against ids from the reference implementation: the LLaMA-3
// pattern with ignore_merges and a template, digits and punctuation, add_prefix_space, Metaspace,
// Replace with MergedWithPrevious, added tokens with lstrip, rstrip, single_word, normalized.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "converter/regex_syntax.h"
#include "converter/tokenizer_import.h"
#include "tests/support/files.h"
#include "tests/tokenizer/tokenizer_test_util.h"

namespace sdq {
namespace {

using converter::ImportTokenizerJson;

nlohmann::json Components() {
  const auto bytes =
      test::ReadBytes(test::BundledModel("../../tests/tokenizer/data/component_vectors.json"));
  return nlohmann::json::parse(bytes.begin(), bytes.end());
}

TEST_CASE("tokenizer.json is executed as it is written") {
  const auto all = Components();
  REQUIRE(all.size() == 6);
  for (const auto& [name, component] : all.items()) {
    auto spec = ImportTokenizerJson(component["tokenizer"].dump(), name);
    INFO(name << ": " << spec.status().message());
    REQUIRE(spec.ok());
    const Tokenizer tokenizer = Make(*std::move(spec));
    for (const auto& vector : component["vectors"]) {
      const auto text = vector["text"].get<std::string>();
      CAPTURE(name, text);
      const auto ids = vector["ids"].get<std::vector<TokenId>>();
      CHECK(Ids(tokenizer, text, false, true) == ids);
      CHECK(Ids(tokenizer, text, true, true) ==
            vector["ids_with_special"].get<std::vector<TokenId>>());
      CHECK(tokenizer.Decode(ids, false) == vector["decoded"].get<std::string>());
    }
  }
}

TEST_CASE("Special-token text in user input stays text") {
  const auto all = Components();
  const Tokenizer tokenizer = Make(*ImportTokenizerJson(all["llama3"]["tokenizer"].dump(), "t"));
  const auto parsed = Ids(tokenizer, "<|eot|>", false, true);
  REQUIRE(parsed.size() == 1);
  const auto plain = Ids(tokenizer, "a<|eot|>b", false, false);
  CHECK(std::find(plain.begin(), plain.end(), parsed[0]) == plain.end());
  CHECK(tokenizer.Decode(plain, true) == "a<|eot|>b");
  CHECK(tokenizer.TokenBytes(parsed[0]).empty());
  CHECK(tokenizer.TokenBytes(parsed[0], true) == "<|eot|>");
}

TEST_CASE("What cannot be executed is refused by name") {
  const auto base = Components()["llama3"]["tokenizer"];
  const auto refused = [](const nlohmann::json& root, StatusCode code, const std::string& word) {
    auto spec = ImportTokenizerJson(root.dump(), "t");
    Status status = spec.ok() ? Tokenizer::Create(*spec).status() : spec.status();
    INFO(status.message());
    CHECK(status.code() == code);
    CHECK(status.message().find(word) != std::string::npos);
  };
  auto root = base;
  root["normalizer"] = {{"type", "NFC"}};
  refused(root, StatusCode::kUnsupported, "NFC");
  root = base;
  root["model"]["type"] = "Unigram";
  refused(root, StatusCode::kUnsupported, "Unigram");
  root = base;
  root["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(unclosed";
  refused(root, StatusCode::kUnsupported, "unclosed");
  root = base;
  root["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Contiguous";
  refused(root, StatusCode::kUnsupported, "Contiguous");
  root = base;
  root["model"]["merges"].push_back({"no such", "token"});
  refused(root, StatusCode::kCorrupt, "no such");
  root = base;
  root["model"]["vocab"]["far"] = int64_t(1) << 40;
  refused(root, StatusCode::kCorrupt, "1099511627776");
  root = base;
  root["model"]["vocab"]["twice"] = 100;
  refused(root, StatusCode::kCorrupt, "100");
  root = base;
  root["added_tokens"][0]["id"] = 5;
  refused(root, StatusCode::kCorrupt, "<|begin|>");
  root = base;
  root["post_processor"]["processors"][1]["special_tokens"] = nlohmann::json::object();
  refused(root, StatusCode::kCorrupt, "<|begin|>");
  CHECK_FALSE(ImportTokenizerJson(std::string(100000, '['), "deep").ok());
  CHECK_FALSE(ImportTokenizerJson("", "empty").ok());
  CHECK_FALSE(ImportTokenizerJson("[]", "array").ok());
}

TEST_CASE("Old and new spelling of merges") {
  auto root = Components()["digits"]["tokenizer"];
  const auto expected = ImportTokenizerJson(root.dump(), "new");
  REQUIRE(expected.ok());
  for (auto& merge : root["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  const auto old = ImportTokenizerJson(root.dump(), "old");
  REQUIRE(old.ok());
  CHECK(old->merges == expected->merges);
  CHECK(old->merges.size() > 100);
}

TEST_CASE("Patterns keep their meaning under PCRE2") {
  using converter::PcreFromOniguruma;
  CHECK(*PcreFromOniguruma("\\p{L}{1,3}|(?i:'s)|[^\\r\\n]") == "\\p{L}{1,3}|(?i:'s)|[^\\r\\n]");
  CHECK(*PcreFromOniguruma("[\\w]") == "[\\p{L}\\p{M}\\p{N}\\p{Pc}]");
  CHECK(*PcreFromOniguruma("\\u0041\\v\\Qx") == "\\x{0041}\\x{0B}Qx");
  for (const char* pattern : {"[a&&b]", "[a[b]]", "x{1,2}+", "\\h", "(?m)x", "(*ACCEPT)", "\\"}) {
    CAPTURE(pattern);
    CHECK(PcreFromOniguruma(pattern).status().code() == StatusCode::kUnsupported);
  }
  CHECK(converter::PcreLiteral("a.b") == "a\\.b");
}

}  // namespace
}  // namespace sdq
