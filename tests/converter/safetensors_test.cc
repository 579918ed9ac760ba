#include "converter/safetensors.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "tests/converter/safetensors_builder.h"
#include "tests/support/files.h"

namespace sdq::converter {
namespace {

using Catch::Matchers::Contains;
using test::SafetensorsBuilder;
using test::SafetensorsBytes;

const std::vector<uint8_t> kSixteen(16, 0);

// The one refusal that a header with 16 bytes of data gets.
void RequireCorrupt(std::string_view header, const std::string& why) {
  INFO(header);
  const std::vector<uint8_t> bytes = SafetensorsBytes(header, kSixteen);
  const auto parsed = ParseSafetensors(bytes, "t.safetensors");
  REQUIRE_FALSE(parsed.ok());
  CHECK(parsed.status().code() == StatusCode::kCorrupt);
  CHECK_THAT(parsed.status().message(), Contains("t.safetensors") && Contains(why));
}

TEST_CASE("safetensors: all three float types widen exactly") {
  const std::vector<float> values = {0.0f, -1.0f, 0.5f, 1.0f / 1024, -65504.0f, 3.0f};
  SafetensorsBuilder builder;
  builder.Add("half", {2, 3}, values, "F16");
  builder.Add("brain", {5}, {0.0f, -1.0f, 0.5f, 1.0f / 1024, 3.0f}, "BF16");
  builder.Add("single", {3, 1, 2}, values, "F32");
  builder.Add("scalar", {}, {42.0f}, "F32");
  builder.Add("empty", {0, 7}, {}, "F16");
  const std::vector<uint8_t> bytes = builder.Bytes();
  const auto parsed = ParseSafetensors(bytes, "t");
  REQUIRE(parsed.ok());
  REQUIRE(parsed->size() == 5);
  for (const SafetensorsEntry& entry : *parsed) {
    std::vector<float> out;
    REQUIRE(ReadFloats(entry, &out).ok());
    INFO(entry.name);
    if (entry.name == "half" || entry.name == "single") CHECK(out == values);
    if (entry.name == "brain") CHECK(out == std::vector<float>{0, -1, 0.5f, 1.0f / 1024, 3});
    if (entry.name == "scalar") CHECK(out == std::vector<float>{42});
    if (entry.name == "empty") CHECK(out.empty());
    if (entry.name == "half") CHECK(entry.shape == std::vector<int64_t>{2, 3});
  }
}

TEST_CASE("safetensors: a range of a tensor, and no more than the tensor") {
  SafetensorsBuilder builder;
  builder.Add("t", {4}, {1, 2, 3, 4}, "F16");
  const std::vector<uint8_t> bytes = builder.Bytes();
  const auto parsed = ParseSafetensors(bytes, "t");
  REQUIRE(parsed.ok());
  std::vector<float> out(2);
  REQUIRE(ReadFloatRange(parsed->front(), 2, out).ok());
  CHECK(out == std::vector<float>{3, 4});
  CHECK(ReadFloatRange(parsed->front(), 3, out).code() == StatusCode::kOutOfRange);
  CHECK(ReadFloatRange(parsed->front(), ~uint64_t{0}, out).code() == StatusCode::kOutOfRange);
}

TEST_CASE("safetensors: a weight that is not finite is refused with its name and place") {
  const float bad = GENERATE(std::numeric_limits<float>::infinity(),
                             -std::numeric_limits<float>::infinity(), std::nanf(""));
  const std::string dtype = GENERATE("F32", "F16", "BF16");
  SafetensorsBuilder builder;
  builder.Add("layer.7.w", {3}, {1.0f, 2.0f, bad}, dtype);
  const std::vector<uint8_t> bytes = builder.Bytes();
  const auto parsed = ParseSafetensors(bytes, "t");
  REQUIRE(parsed.ok());
  std::vector<float> out;
  const Status status = ReadFloats(parsed->front(), &out);
  CHECK(status.code() == StatusCode::kCorrupt);
  CHECK_THAT(status.message(), Contains("layer.7.w") && Contains("element 2"));
}

TEST_CASE("safetensors: header lengths beyond the limits") {
  std::vector<uint8_t> bytes = SafetensorsBytes("{}", {});
  REQUIRE(ParseSafetensors(bytes, "t").ok());
  const auto message = [&bytes] {
    const auto parsed = ParseSafetensors(bytes, "t");
    CHECK(parsed.status().code() == StatusCode::kCorrupt);
    return parsed.status().message();
  };
  bytes[0] = 3;
  CHECK_THAT(message(), Contains("only 2 more"));
  bytes[7] = 0x80;  // 2^63 + 3
  CHECK_THAT(message(), Contains("at most 100000000"));
  for (int i = 0; i < 8; ++i) bytes[size_t(i)] = 0xff;
  CHECK_THAT(message(), Contains("at most 100000000"));
  bytes.resize(7);
  CHECK_THAT(message(), Contains("too few"));
  bytes.clear();
  CHECK_THAT(message(), Contains("too few"));
}

TEST_CASE("safetensors: headers that are not the JSON they should be") {
  RequireCorrupt("", "not a JSON object");
  RequireCorrupt(" {}", "not a JSON object");
  RequireCorrupt("[]", "not a JSON object");
  RequireCorrupt("{", "not valid JSON");
  RequireCorrupt("{}x", "not valid JSON");
  RequireCorrupt("{\"\xff\":1}", "not valid JSON");
  RequireCorrupt(R"({"a":1e999})", "not valid JSON");
  RequireCorrupt(R"({"a":7})", "not a JSON object");
  RequireCorrupt(R"({"":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", "empty name");
  RequireCorrupt(R"({"__metadata__":[]})", "__metadata__");
  RequireCorrupt(R"({"__metadata__":{"a":1}})", "__metadata__");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},)"
                 R"("a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
                 "duplicate key 'a'");
  RequireCorrupt(R"({"a":{"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
                 "duplicate key 'dtype'");
  std::string deep(100'000, '[');
  RequireCorrupt("{\"a\":" + deep, "nested deeper");
}

TEST_CASE("safetensors: entries with fields that make no sense") {
  RequireCorrupt(R"({"a":{"shape":[4],"data_offsets":[0,16]}})", "dtype");
  RequireCorrupt(R"({"a":{"dtype":4,"shape":[4],"data_offsets":[0,16]}})", "dtype");
  RequireCorrupt(R"({"a":{"dtype":"F32","data_offsets":[0,16]}})", "shape");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":4,"data_offsets":[0,16]}})", "shape");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[4.0],"data_offsets":[0,16]}})", "shape");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}})", "shape");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,16]}})",
                 "shape");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[4]}})", "data_offsets");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16]}})", "data_offsets");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16,16]}})", "data_offsets");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[-1,15]}})", "data_offsets");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}})", "do not lie within");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"x":1}})",
                 "unknown field 'x'");
}

TEST_CASE("safetensors: sizes that do not fit the bytes, or 64 bits") {
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[5],"data_offsets":[0,16]}})", "need 20 bytes");
  RequireCorrupt(R"({"a":{"dtype":"F16","shape":[4],"data_offsets":[0,16]}})", "need 8 bytes");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[5],"data_offsets":[0,20]}})", "cut short");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[9223372036854775807,)"
                 R"(9223372036854775807]}})",
                 "do not lie within");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,18446744073709551615]}})",
                 "data_offsets");
  // 2^32 * 2^32 = 0 and 2^62 * 4 = 0 modulo 2^64: both would match an empty range.
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})",
                 "overflows");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})",
                 "overflows");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,0]}})",
                 "shape");
}

TEST_CASE("safetensors: tensors cover the data without hole or overlap") {
  RequireCorrupt("{}", "tensors end at data byte 0");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}})",
                 "tensors end at data byte 12");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[4,16]}})", "a hole before it");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                 R"("b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})",
                 "a hole before it");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},)"
                 R"("b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
                 "overlap");
  RequireCorrupt(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},)"
                 R"("b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
                 "overlap");
}

TEST_CASE("safetensors: dtypes that cannot be read as float") {
  const auto unknown = ParseSafetensors(
      SafetensorsBytes(R"({"a":{"dtype":"Q4","shape":[4],"data_offsets":[0,16]}})", kSixteen), "t");
  CHECK(unknown.status().code() == StatusCode::kUnsupported);
  CHECK_THAT(unknown.status().message(), Contains("'Q4'"));
  const std::vector<uint8_t> bytes =
      SafetensorsBytes(R"({"a":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}})", kSixteen);
  const auto parsed = ParseSafetensors(bytes, "t");
  REQUIRE(parsed.ok());
  std::vector<float> out;
  const Status status = ReadFloats(parsed->front(), &out);
  CHECK(status.code() == StatusCode::kUnsupported);
  CHECK_THAT(status.message(), Contains("I64") && Contains("BF16"));
}

TEST_CASE("safetensors: every truncated length of a good file is refused, and extra bytes") {
  SafetensorsBuilder builder;
  builder.Add("a", {2, 2}, {1, 2, 3, 4}, "F16");
  builder.Add("b", {3}, {1, 2, 3}, "F32");
  std::vector<uint8_t> bytes = builder.Bytes();
  REQUIRE(ParseSafetensors(bytes, "t").ok());
  for (size_t n = 0; n < bytes.size(); ++n) {
    const std::vector<uint8_t> cut(bytes.begin(), bytes.begin() + std::ptrdiff_t(n));
    INFO(n);
    CHECK(ParseSafetensors(cut, "t").status().code() == StatusCode::kCorrupt);
  }
  bytes.push_back(0);
  CHECK(ParseSafetensors(bytes, "t").status().code() == StatusCode::kCorrupt);
}

// ---- Folders ----

void WriteText(const std::string& path, std::string_view text) {
  test::WriteBytes(path, {text.begin(), text.end()});
}

void WriteShard(const std::string& path, const std::string& tensor) {
  SafetensorsBuilder builder;
  builder.Add(tensor, {2}, {1, 2});
  test::WriteBytes(path, builder.Bytes());
}

constexpr char kTwoShards[] =
    R"({"metadata":{"total_size":16},"weight_map":{"a":"s1.safetensors","b":"s2.safetensors"}})";

TEST_CASE("safetensors: shards by index") {
  test::TemporaryFolder folder;
  WriteText(folder / "model.safetensors.index.json", kTwoShards);
  WriteShard(folder / "s1.safetensors", "a");
  const auto open = [&folder] { return SafetensorsFolder::Open(folder.path()); };

  SECTION("complete") {
    WriteShard(folder / "s2.safetensors", "b");
    const auto files = open();
    REQUIRE(files.ok());
    CHECK(files->entries().size() == 2);
    CHECK(files->Find("c") == nullptr);
    std::vector<float> out;
    REQUIRE(files->Find("b") != nullptr);
    REQUIRE(ReadFloats(*files->Find("b"), &out).ok());
    CHECK(out == std::vector<float>{1, 2});
  }
  SECTION("a shard is missing") {
    CHECK(open().status().code() == StatusCode::kNotFound);
    CHECK_THAT(open().status().message(), Contains("s2.safetensors") && Contains("missing"));
  }
  SECTION("a shard is cut short") {
    WriteShard(folder / "s2.safetensors", "b");
    std::vector<uint8_t> bytes = test::ReadBytes(folder / "s2.safetensors");
    bytes.pop_back();
    test::WriteBytes(folder / "s2.safetensors", bytes);
    CHECK(open().status().code() == StatusCode::kCorrupt);
    CHECK_THAT(open().status().message(), Contains("s2.safetensors") && Contains("cut short"));
  }
  SECTION("a shard lacks what the index says") {
    WriteShard(folder / "s2.safetensors", "other");
    CHECK(open().status().code() == StatusCode::kCorrupt);
    CHECK_THAT(open().status().message(), Contains("no tensor 'b'"));
  }
  SECTION("a tensor is in two shards") {
    WriteShard(folder / "s2.safetensors", "a");
    CHECK(open().status().code() == StatusCode::kCorrupt);
    CHECK_THAT(open().status().message(), Contains("another shard"));
  }
  SECTION("a shard holds more than the index says") {
    SafetensorsBuilder builder;
    builder.Add("b", {1}, {1});
    builder.Add("c", {1}, {1});
    test::WriteBytes(folder / "s2.safetensors", builder.Bytes());
    CHECK(open().status().code() == StatusCode::kCorrupt);
    CHECK_THAT(open().status().message(), Contains("holds 2 tensors"));
  }
}

TEST_CASE("safetensors: an index may name plain files only") {
  const std::string bad =
      GENERATE(R"("../s.safetensors")", R"("/etc/s.safetensors")", R"("a/s.safetensors")",
               R"("..\\s.safetensors")", R"("..")", R"("")", R"("s.bin")", R"(".safetensors")",
               R"("a\u0000.safetensors")", "7", "null", "[\"s.safetensors\"]");
  const auto parsed = ParseSafetensorsIndex("{\"weight_map\":{\"t\":" + bad + "}}", "index");
  INFO(bad);
  CHECK(parsed.status().code() == StatusCode::kCorrupt);
  CHECK_THAT(parsed.status().message(), Contains("'t'") && Contains("plain name"));
}

TEST_CASE("safetensors: an index without a map") {
  const std::string bad = GENERATE("{}", "[]", "7", R"({"weight_map":[]})", R"({"weight_map":{}})");
  const auto parsed = ParseSafetensorsIndex(bad, "index");
  INFO(bad);
  CHECK(parsed.status().code() == StatusCode::kCorrupt);
  CHECK_THAT(parsed.status().message(), Contains("weight_map"));
}

TEST_CASE("safetensors: pickle files are refused with a way out") {
  test::TemporaryFolder folder;
  CHECK(SafetensorsFolder::Open(folder.path()).status().code() == StatusCode::kNotFound);
  WriteText(folder / "pytorch_model.bin", "\x80\x02}q");
  const auto files = SafetensorsFolder::Open(folder.path());
  CHECK(files.status().code() == StatusCode::kUnsupported);
  CHECK_THAT(files.status().message(), Contains("pytorch_model.bin") && Contains("pickle") &&
                                           Contains("save_pretrained") &&
                                           Contains("safe_serialization=True"));
}

}  // namespace
}  // namespace sdq::converter
