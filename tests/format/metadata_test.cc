// Metadata: round trips, typed access, hostile encodings.
#include <catch2/catch.hpp>
#include <limits>

#include "format/byte_codec.h"
#include "tests/format/sample_file.h"

namespace sdq::test {
namespace {

using Catch::Contains;
using format::ByteSink;
using format::Metadata;

// An encoded entry without its value.
void AppendKey(ByteSink* sink, std::string_view key, uint32_t type) {
  sink->Append(uint32_t(key.size()));
  sink->AppendText(key);
  sink->Append(type);
}

std::string Refusal(const ByteSink& sink) {
  const auto decoded = Metadata::Decode(sink.bytes());
  return std::string(StatusCodeName(decoded.status().code())) + ": " + decoded.status().message();
}

TEST_CASE("metadata of every type survives a round trip") {
  const Metadata metadata = SampleMetadata();
  REQUIRE(metadata.Validate().ok());
  const auto decoded = Metadata::Decode(metadata.Encode());
  REQUIRE(decoded.ok());
  CHECK(decoded->values() == metadata.values());
  CHECK(decoded->Encode() == metadata.Encode());
}

TEST_CASE("metadata extremes survive a round trip") {
  Metadata metadata;
  metadata.Set("ints", std::vector<int64_t>{std::numeric_limits<int64_t>::min(),
                                            std::numeric_limits<int64_t>::max()});
  metadata.Set("doubles", std::vector<double>{-0.0, 5e-324, 1.7976931348623157e308});
  metadata.Set("empty", std::vector<std::string>());
  metadata.Set("nul", std::string("a\0b", 3));
  metadata.Set(std::string(255, 'k'), false);
  const auto decoded = Metadata::Decode(metadata.Encode());
  REQUIRE(decoded.ok());
  CHECK(decoded->values() == metadata.values());
  CHECK(Metadata::Decode(Metadata().Encode())->values().empty());
}

TEST_CASE("the encoding is the documented one") {
  Metadata metadata;
  metadata.Set("b", std::vector<std::string>{"xy"});
  metadata.Set("a", true);
  const std::vector<uint8_t> expected = {2, 0, 0, 0,                      // entries
                                         1, 0, 0, 0, 'a', 1, 0, 0, 0, 1,  // a: bool
                                         1, 0, 0, 0, 'b', 7, 0, 0, 0,     // b: strings
                                         1, 0, 0, 0, 0,   0, 0, 0, 2, 0, 0, 0, 'x', 'y'};
  CHECK(metadata.Encode() == expected);
}

TEST_CASE("typed access says what is missing and what is wrong") {
  const Metadata metadata = SampleMetadata();
  CHECK(*metadata.GetString("model.architecture") == "llama");
  CHECK(*metadata.GetInt("model.layers") == -3);
  CHECK(*metadata.GetDouble("model.norm_eps") == 1e-5);
  CHECK(*metadata.GetBool("model.tied_embeddings"));
  CHECK((*metadata.GetInts("model.eos_tokens"))->size() == 2);
  CHECK((**metadata.GetDoubles("quantization.linear_osr"))[0] == 1.5);
  CHECK((**metadata.GetStrings("tokenizer.tokens"))[2] == "\xff\x80");
  CHECK((**metadata.GetFloats("tokenizer.scores"))[1] == -1.5f);
  CHECK((**metadata.GetUints("tokenizer.types"))[1] == 4000000000u);
  CHECK(metadata.GetInt("no").status().code() == StatusCode::kNotFound);
  CHECK(metadata.GetInt("model.norm_eps").status().code() == StatusCode::kCorrupt);
  CHECK_THAT(metadata.GetInt("model.norm_eps").status().message(),
             Contains("is of type double, expected int"));
  CHECK(*metadata.GetIntOr("no", 7) == 7);
  CHECK(*metadata.GetIntOr("model.layers", 7) == -3);
  CHECK(*metadata.GetStringOr("no", "x") == "x");
  CHECK(*metadata.GetDoubleOr("no", 0.5) == 0.5);
  CHECK(*metadata.GetBoolOr("no", true));
  CHECK(metadata.GetBoolOr("model.layers", true).status().code() == StatusCode::kCorrupt);
}

TEST_CASE("every truncated length of metadata is refused") {
  const std::vector<uint8_t> whole = SampleMetadata().Encode();
  for (size_t length = 0; length < whole.size(); ++length) {
    INFO("length " << length);
    CHECK_FALSE(Metadata::Decode(std::span(whole).first(length)).ok());
  }
  std::vector<uint8_t> longer = whole;
  longer.push_back(0);
  CHECK_THAT(Metadata::Decode(longer).status().message(), Contains("1 bytes after"));
}

TEST_CASE("metadata keys must be unique, ascending, UTF-8 and of legal length") {
  for (const auto& [first, second] : {std::pair{"a", "a"}, std::pair{"b", "a"}}) {
    ByteSink sink;
    sink.Append(2u);
    for (const char* key : {first, second}) {
      AppendKey(&sink, key, 1);
      sink.Append(uint8_t{0});
    }
    CHECK_THAT(Refusal(sink), Contains("duplicate or out of order"));
  }
  for (const std::string& key : {std::string(), std::string(256, 'k'), std::string("\xc3"),
                                 std::string("a\0b", 3), std::string("\xed\xa0\x80")}) {
    ByteSink sink;
    sink.Append(1u);
    AppendKey(&sink, key, 1);
    sink.Append(uint8_t{0});
    CHECK_THAT(Refusal(sink), Contains("a metadata key"));
    Metadata metadata;
    metadata.Set(key, true);
    CHECK(metadata.Validate().code() == StatusCode::kInvalidArgument);
  }
}

TEST_CASE("metadata counts are checked before anything is allocated") {
  for (const uint32_t type : {4u, 5u, 6u, 7u, 8u, 9u}) {
    for (const uint64_t count :
         {uint64_t{100}, uint64_t{1} << 61, uint64_t{1} << 62, ~uint64_t{0}}) {
      ByteSink sink;
      sink.Append(1u);
      AppendKey(&sink, "key", type);
      sink.Append(count);
      sink.Append(uint64_t{0});
      sink.Append(uint64_t{0});
      CHECK_THAT(Refusal(sink), Contains("longer than the"));
    }
  }
  ByteSink entries;
  entries.Append(0xffffffffu);
  CHECK_THAT(Refusal(entries), Contains("entry 0 of 4294967295"));
  ByteSink key;
  key.Append(1u);
  key.Append(0xffffffffu);
  CHECK_THAT(Refusal(key), Contains("corrupt"));
}

TEST_CASE("a string in a list may not be longer than the rest") {
  ByteSink sink;
  sink.Append(1u);
  AppendKey(&sink, "key", 7);
  sink.Append(uint64_t{2});
  sink.Append(0u);
  sink.Append(0xffffffffu);
  CHECK_THAT(Refusal(sink), Contains("corrupt"));
}

TEST_CASE("unknown metadata types and bools that are neither are refused") {
  for (const uint32_t type : {0u, 10u, 0xffffffffu}) {
    ByteSink sink;
    sink.Append(1u);
    AppendKey(&sink, "key", type);
    sink.Append(uint64_t{0});
    sink.Append(uint64_t{0});
    CHECK_THAT(Refusal(sink), Catch::StartsWith("unsupported"));
  }
  ByteSink sink;
  sink.Append(1u);
  AppendKey(&sink, "key", 1);
  sink.Append(uint8_t{2});
  CHECK_THAT(Refusal(sink), Contains("corrupt"));
}

}  // namespace
}  // namespace sdq::test
