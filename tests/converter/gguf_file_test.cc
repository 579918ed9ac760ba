// The container of GGUF files and the values of its tensor types.
#include "converter/gguf_file.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <limits>

#include "tests/converter/gguf_builder.h"
#include "tests/support/files.h"

namespace sdq::converter {
namespace {

using Catch::Matchers::Contains;
using test::GgufBuilder;
using test::GgufBytes;
using Type = GgufValueType;

GgufBuilder TwoTensors() {
  GgufBuilder b;
  b.SetInt("a", 7);
  b.SetTexts("b", {"x", "yz"});
  b.AddF32("first", {3}, {1, 2, 3});
  b.AddF32("second", {2, 2}, {4, 5, 6, 7});
  return b;
}

void RequireRefused(const std::vector<uint8_t>& bytes, StatusCode code, const std::string& why) {
  const auto parsed = ParseGguf(bytes, "test.gguf");
  REQUIRE_FALSE(parsed.ok());
  INFO(parsed.status().message());
  CHECK(parsed.status().code() == code);
  CHECK_THAT(parsed.status().message(), Contains(why) && Contains("test.gguf"));
}

void RequireCorrupt(const GgufBuilder& b, const std::string& why) {
  RequireRefused(b.Bytes(), StatusCode::kCorrupt, why);
}

template <typename T>
T Take(const uint8_t*& at) {
  T value{};
  std::memcpy(&value, at, sizeof(T));
  at += sizeof(T);
  return value;
}

TEST_CASE("gguf: every tensor type decodes to the bits of the reference package") {
  // data/make_gguf.py describes and made this file.
  const std::vector<uint8_t> file =
      test::ReadBytes(test::BundledModel("../../tests/converter/data/gguf/blocks.bin"));
  const uint8_t* at = file.data();
  const uint8_t* end = at + file.size();
  size_t types = 0;
  while (at < end) {
    const auto id = Take<uint32_t>(at);
    const auto blocks = Take<uint32_t>(at);
    const auto values = Take<uint32_t>(at);
    const GgufTypeInfo* type = FindGgufType(id);
    REQUIRE(type != nullptr);
    INFO(type->name);
    REQUIRE(values == blocks * type->block_elements);
    std::vector<float> decoded(values);
    DecodeGgufBlocks(*type, {at, blocks * type->block_bytes}, decoded);
    at += blocks * type->block_bytes;
    CHECK(std::memcmp(decoded.data(), at, values * sizeof(float)) == 0);
    at += values * sizeof(float);
    ++types;
  }
  CHECK(at == end);
  CHECK(types == 11);
}

TEST_CASE("gguf: keys and tensors read as written, versions 2 and 3") {
  GgufBuilder b = TwoTensors();
  b.version = GENERATE(2u, 3u);
  b.Set("small", Type::kInt8, uint8_t(0x80));
  b.Set("huge", Type::kUint64, ~uint64_t(0));
  b.SetReal("real", 0.5f);
  b.SetBool("yes", true);
  b.SetText("text", "\xc3\xa4");
  b.SetReals("reals", {1.5f, -2.0f});
  b.SetArray<uint16_t>("negative", Type::kInt16, {1, 0xffff});
  const std::vector<uint8_t> bytes = b.Bytes();
  const auto parsed = ParseGguf(bytes, "test.gguf");
  INFO(parsed.status().message());
  REQUIRE(parsed.ok());
  const GgufMetadata& m = parsed->metadata;
  int64_t integer = 0;
  double real = 0;
  bool yes = false;
  std::string text;
  std::vector<std::string_view> texts;
  std::vector<float> reals;
  std::vector<int64_t> integers;
  REQUIRE(m.Get("a", &integer).ok());
  CHECK(integer == 7);
  REQUIRE(m.Get("small", &integer).ok());
  CHECK(integer == -128);
  REQUIRE(m.Get("huge", &integer).ok());
  CHECK(integer == std::numeric_limits<int64_t>::max());
  REQUIRE(m.Get("real", &real).ok());
  CHECK(real == 0.5);
  REQUIRE(m.Get("yes", &yes).ok());
  CHECK(yes);
  REQUIRE(m.Get("text", &text).ok());
  CHECK(text == "\xc3\xa4");
  REQUIRE(m.Get("b", &texts).ok());
  CHECK(texts == std::vector<std::string_view>{"x", "yz"});
  REQUIRE(m.Get("reals", &reals).ok());
  CHECK(reals == std::vector<float>{1.5f, -2.0f});
  REQUIRE(m.Get("negative", &integers).ok());
  CHECK(integers == std::vector<int64_t>{1, -1});
  // Absent, and of another type.
  CHECK(m.Get("none", &integer).code() == StatusCode::kNotFound);
  CHECK(m.GetIfPresent("none", &integer).ok());
  CHECK(m.Get("real", &integer).code() == StatusCode::kCorrupt);
  CHECK(m.Get("a", &real).code() == StatusCode::kCorrupt);
  CHECK(m.Get("a", &yes).code() == StatusCode::kCorrupt);
  CHECK(m.Get("b", &text).code() == StatusCode::kCorrupt);
  CHECK(m.Get("a", &integers).code() == StatusCode::kCorrupt);
  CHECK(m.Get("b", &integers).code() == StatusCode::kCorrupt);
  CHECK(m.Get("b", &reals).code() == StatusCode::kCorrupt);
  CHECK(m.Get("reals", &texts).code() == StatusCode::kCorrupt);
  std::vector<float> values;
  REQUIRE(ReadGgufTensor(parsed->tensors.at("second"), &values).ok());
  CHECK(values == std::vector<float>{4, 5, 6, 7});
  CHECK(parsed->tensors.at("second").dimensions == std::vector<uint64_t>{2, 2});
}

TEST_CASE("gguf: a file cut short anywhere is refused") {
  const std::vector<uint8_t> bytes = TwoTensors().Bytes();
  REQUIRE(ParseGguf(bytes, "test.gguf").ok());
  for (size_t size = 0; size < bytes.size(); ++size) {
    INFO(size);
    const auto parsed = ParseGguf(std::span(bytes).first(size), "test.gguf");
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.status().code() == StatusCode::kCorrupt);
  }
}

TEST_CASE("gguf: other versions, big-endian files and other magics are refused") {
  GgufBuilder b = TwoTensors();
  b.version = GENERATE(0u, 1u, 4u, 0x10003u);
  RequireRefused(b.Bytes(), StatusCode::kUnsupported, "GGUF version");
  b.version = 0x03000000;
  RequireRefused(b.Bytes(), StatusCode::kUnsupported, "big-endian");
  std::vector<uint8_t> bytes = TwoTensors().Bytes();
  bytes[3] = 'L';
  RequireRefused(bytes, StatusCode::kCorrupt, "does not begin with GGUF");
}

TEST_CASE("gguf: counts that the file cannot hold are refused before anything is allocated") {
  const auto huge = GENERATE(uint64_t(1) << 32, uint64_t(1) << 60, ~uint64_t(0) - 9);
  GgufBuilder keys = TwoTensors();
  keys.extra_keys = huge;
  RequireCorrupt(keys, "cannot fit");
  GgufBuilder tensors = TwoTensors();
  tensors.extra_tensors = huge;
  RequireCorrupt(tensors, "cannot fit");
  GgufBuilder array = TwoTensors();
  array.Put("c", GgufBuilder::Array(Type::kUint64, huge));
  RequireCorrupt(array, "values of 8 bytes");
  GgufBuilder strings = TwoTensors();
  strings.Put("c", GgufBuilder::Array(Type::kString, huge));
  RequireCorrupt(strings, "strings");
  GgufBuilder text = TwoTensors();
  text.Put("c", GgufBytes().Number(uint32_t(Type::kString)).Number(huge));
  RequireCorrupt(text, "a string of");
}

TEST_CASE("gguf: wrong values of keys are refused") {
  GgufBuilder b = TwoTensors();
  SECTION("unknown type") {
    b.Set("c", Type(13), uint8_t(0));
    RequireCorrupt(b, "unknown value type 13");
  }
  SECTION("unknown element type") {
    b.Put("c", GgufBuilder::Array(Type(99), 1).Number(uint8_t(0)));
    RequireCorrupt(b, "unknown value type 99");
  }
  SECTION("array of arrays, however deep") {
    GgufBytes nested = GgufBuilder::Array(Type::kArray, 1);
    for (int depth = 0; depth < 1000; ++depth) {
      nested.Number(uint32_t(Type::kArray)).Number(uint64_t(1));
    }
    b.Put("c", nested);
    RequireRefused(b.Bytes(), StatusCode::kUnsupported, "array of arrays");
  }
  SECTION("bool") {
    b.Set("c", Type::kBool, uint8_t(2));
    RequireCorrupt(b, "bool of value 2");
  }
  SECTION("text that is not UTF-8") {
    b.SetText("c", "\xff");
    RequireCorrupt(b, "not UTF-8");
  }
  SECTION("key that is not UTF-8") {
    b.SetInt("\xc0\x80", 1);
    RequireCorrupt(b, "not UTF-8");
  }
  SECTION("key without name") {
    b.SetInt("", 1);
    RequireCorrupt(b, "a key before byte");
  }
  SECTION("key of more bytes than allowed") {
    b.SetInt(std::string(65536, 'k'), 1);
    RequireCorrupt(b, "at most 65535");
  }
  SECTION("twice the same key") {
    b.keys.push_back(b.keys.front());
    RequireCorrupt(b, "two values of 'a'");
  }
  SECTION("alignment") {
    b.SetInt("general.alignment", GENERATE(0u, 3u, 48u, 1u << 17));
    RequireCorrupt(b, "expected a power of two");
  }
  SECTION("alignment of another type") {
    b.SetText("general.alignment", "32");
    RequireCorrupt(b, "expected an integer");
  }
}

TEST_CASE("gguf: another alignment is honoured") {
  GgufBuilder b;
  b.alignment = 128;
  b.SetInt("general.alignment", 128);
  b.AddF32("first", {1}, {1});
  b.AddF32("second", {1}, {2});
  const std::vector<uint8_t> bytes = b.Bytes();
  const auto parsed = ParseGguf(bytes, "test.gguf");
  INFO(parsed.status().message());
  REQUIRE(parsed.ok());
  std::vector<float> values;
  REQUIRE(ReadGgufTensor(parsed->tensors.at("second"), &values).ok());
  CHECK(values == std::vector<float>{2});
}

TEST_CASE("gguf: wrong tensors are refused") {
  GgufBuilder b = TwoTensors();
  test::GgufTestTensor& second = b.tensors[1];
  SECTION("dimension 0") {
    second.dimensions[1] = 0;
    RequireCorrupt(b, "dimension 1 is 0");
  }
  SECTION("product of dimensions overflows") {
    second.dimensions = {uint64_t(1) << 32, (uint64_t(1) << 32) + 1};
    RequireCorrupt(b, "dimension 1 is");
  }
  SECTION("more elements than the file has bytes") {
    second.dimensions = {(uint64_t(1) << 42) + 1, 2};
    RequireCorrupt(b, "the file only");
  }
  SECTION("no dimensions, or too many") {
    second.dimensions.assign(GENERATE(0u, 5u), 1);
    RequireCorrupt(b, "expected 1 to 4");
  }
  SECTION("type that is not read") {
    second.type = 16;
    RequireRefused(b.Bytes(), StatusCode::kUnsupported, "stored as IQ2_XXS (supported: F32, ");
  }
  SECTION("type that does not exist") {
    second.type = 4000000000u;
    RequireRefused(b.Bytes(), StatusCode::kUnsupported, "stored as type 4000000000");
  }
  SECTION("rows of broken blocks") {
    second.type = 8;
    RequireCorrupt(b, "blocks of 32");
  }
  SECTION("offset that is not aligned") {
    second.offset += 4;
    RequireCorrupt(b, "not aligned");
  }
  SECTION("overlap") {
    second.offset = 0;
    RequireCorrupt(b, "overlap");
  }
  SECTION("hole") {
    second.offset += 32;
    RequireCorrupt(b, "a hole before it");
  }
  SECTION("offset near the end of 64 bits") {
    second.offset = ~uint64_t(0) - 31;
    RequireCorrupt(b, "a hole before it");
  }
  SECTION("size past the end") {
    second.dimensions = {2, 3};
    RequireCorrupt(b, "the file has");
  }
  SECTION("name twice") {
    second.name = "first";
    RequireCorrupt(b, "two tensors of the name 'first'");
  }
  SECTION("name that is empty or no UTF-8") {
    second.name = GENERATE("", "\xff");
    RequireCorrupt(b, "a tensor's name");
  }
  SECTION("name too long") {
    second.name = std::string(257, 'n');
    RequireCorrupt(b, "at most 256");
  }
  SECTION("bytes behind the last one") {
    b.tensors[1].bytes.resize(33);
    RequireCorrupt(b, "behind the last tensor");
  }
}

TEST_CASE("gguf: weights that are not finite are refused where they are read") {
  GgufBuilder b;
  b.AddF32("bad", {3}, {1, std::numeric_limits<float>::infinity(), 2});
  const std::vector<uint8_t> bytes = b.Bytes();
  const auto parsed = ParseGguf(bytes, "test.gguf");
  REQUIRE(parsed.ok());
  std::vector<float> values;
  const Status status = ReadGgufTensor(parsed->tensors.at("bad"), &values);
  CHECK(status.code() == StatusCode::kCorrupt);
  CHECK_THAT(status.message(), Contains("'bad'") && Contains("element 1 is inf"));
}

}  // namespace
}  // namespace sdq::converter
