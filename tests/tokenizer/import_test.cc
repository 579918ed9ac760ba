// Folders and files: precedence, what stands beside the tokenizer, hostile bytes.
#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

#include "converter/tokenizer_import.h"
#include "tests/support/files.h"
#include "tests/tokenizer/tokenizer_test_util.h"

namespace sdq {
namespace {

using converter::ImportSentencePieceModel;
using converter::ImportTokenizer;
using converter::ImportVocabAndMerges;
using test::BundledModel;
using test::TemporaryFolder;

void Write(const TemporaryFolder& folder, const std::string& name, const std::string& text) {
  test::WriteBytes(folder / name, {text.begin(), text.end()});
}

TEST_CASE("Folders without a usable tokenizer") {
  const TemporaryFolder folder;
  CHECK(ImportTokenizer(folder.path(), 10).status().code() == StatusCode::kNotFound);
  CHECK(ImportTokenizer(folder.path(), 0).status().code() == StatusCode::kInvalidArgument);
  Write(folder, "vocab.json", "{}");
  CHECK(ImportTokenizer(folder.path(), 10).status().code() == StatusCode::kNotFound);
  std::filesystem::create_directory(folder / "tokenizer.json");
  CHECK(ImportTokenizer(folder.path(), 10).status().code() == StatusCode::kIoError);
}

TEST_CASE("More tokens than the model embeds") {
  const auto spec = ImportTokenizer(BundledModel("stories-llama-5m"), 4095);
  CHECK(spec.status().code() == StatusCode::kCorrupt);
  CHECK(spec.status().message().find("4096") != std::string::npos);
  CHECK(ImportTokenizer(BundledModel("stories-llama-5m"), 4160).ok());
}

TEST_CASE("Side files") {
  const TemporaryFolder folder;
  std::filesystem::copy_file(BundledModel("stories-llama-5m/tokenizer.model"),
                             folder / "tokenizer.model");
  SECTION("added tokens, template, switches") {
    Write(folder, "tokenizer_config.json",
          R"({"added_tokens_decoder": {"4096": {"content": "<|im|>", "special": true}},
              "add_bos_token": false, "add_eos_token": true, "legacy": false,
              "eos_token": {"content": "<|im|>"},
              "chat_template": [{"name": "x", "template": "X"}, {"name": "default",
              "template": "D"}]})");
    const Tokenizer tokenizer = Import(folder.path(), 4097);
    CHECK(tokenizer.spec().chat_template == "D");
    CHECK(tokenizer.spec().eos_token == 4096);
    const auto ids = Ids(tokenizer, "a<|im|>a", true, true);
    REQUIRE(ids.size() >= 4);
    CHECK(ids.back() == 4096);
    CHECK(ids[1] == 4096);
    CHECK(ids[0] == 261);  // with the prefix space; the second "a" has none
    CHECK(ids[2] != 261);
  }
  SECTION("an added token that is another token already") {
    Write(folder, "added_tokens.json", R"({"<s>": 7})");
    CHECK(ImportTokenizer(folder.path(), 4096).status().code() == StatusCode::kCorrupt);
  }
  SECTION("an id far away") {
    Write(folder, "added_tokens.json", R"({"<x>": 4000000000})");
    CHECK(ImportTokenizer(folder.path(), 4096).status().code() == StatusCode::kCorrupt);
  }
  SECTION("not JSON") {
    Write(folder, "tokenizer_config.json", "{");
    CHECK(ImportTokenizer(folder.path(), 4096).status().code() == StatusCode::kCorrupt);
  }
  SECTION("tokenizer.json comes first") {
    Write(folder, "tokenizer.json", R"({"model": {"type": "WordPiece", "vocab": {}}})");
    CHECK(ImportTokenizer(folder.path(), 4096).status().code() == StatusCode::kUnsupported);
  }
}

TEST_CASE("Every truncation of a SentencePiece model is an error or a smaller model") {
  auto bytes = test::ReadBytes(BundledModel("stories-llama-5m/tokenizer.model"));
  REQUIRE(bytes.size() > 1000);
  for (size_t n = 0; n < bytes.size(); n = n < 600 ? n + 1 : n + 997) {
    // Without its last part the model lacks the trainer's settings: never taken for BPE.
    const auto spec = ImportSentencePieceModel({bytes.data(), n}, "cut");
    CHECK_FALSE(spec.ok());
  }
}

TEST_CASE("SentencePiece models that are refused") {
  const auto import = [](std::vector<uint8_t> bytes) {
    return ImportSentencePieceModel(bytes, "m").status().code();
  };
  const std::vector<uint8_t> piece = {0x0a, 0x03, 0x0a, 0x01, 'a'};
  const auto with = [&piece](std::initializer_list<uint8_t> more) {
    std::vector<uint8_t> bytes = piece;
    bytes.insert(bytes.end(), more);
    return bytes;
  };
  CHECK(import(with({0x12, 0x02, 0x18, 0x02})) == StatusCode::kOk);           // BPE
  CHECK(import(with({0x12, 0x02, 0x18, 0x01})) == StatusCode::kUnsupported);  // unigram
  CHECK(import(piece) == StatusCode::kUnsupported);                           // by default, too
  CHECK(import(with({0x12, 0x02, 0x18, 0x02, 0x1a, 0x03, 0x12, 0x01, 'x'})) ==
        StatusCode::kUnsupported);                                        // a character map
  CHECK(import({0x0a, 0x02, 0x0a, 0x00}) == StatusCode::kCorrupt);        // empty piece
  CHECK(import({0x0a, 0x03, 0x0a, 0x01, 0xff}) == StatusCode::kCorrupt);  // not UTF-8
  CHECK(import(with({0x0a, 0x7f})) == StatusCode::kCorrupt);              // too long
  CHECK(import(with({0x0b})) == StatusCode::kCorrupt);                    // a group
  CHECK(import({0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) ==
        StatusCode::kCorrupt);
  CHECK(import({}) == StatusCode::kCorrupt);
}

TEST_CASE("merges.txt") {
  const std::string vocab = R"({"a": 0, "b": 1, "ab": 2, "<x>": 5})";
  const auto good = ImportVocabAndMerges(vocab, "#version: 0.2\r\na b\r\n\n", "");
  REQUIRE(good.ok());
  CHECK(good->merges == std::vector<uint32_t>{0, 1});
  CHECK(good->tokens.size() == 6);  // 3 and 4 are holes
  CHECK(good->tokens[4].empty());
  for (const char* merges : {"a", "a b c", "a x", "b a"}) {
    CAPTURE(merges);
    const auto bad = ImportVocabAndMerges(vocab, merges, "");
    CHECK(bad.status().code() == StatusCode::kCorrupt);
    CHECK(bad.status().message().find("merges.txt:1") != std::string::npos);
  }
}

}  // namespace
}  // namespace sdq
