// No damage goes unnoticed: truncation, growth, single bits, zeroed ranges.
#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/format/sample_file.h"

namespace sdq::test {
namespace {

using format::SdqFile;
using format::SectionKind;

TEST_CASE("every truncated length is refused") {
  const std::vector<uint8_t>& whole = SampleBytes();
  for (size_t length = 0; length < whole.size(); ++length) {
    const std::vector<uint8_t> cut(whole.begin(), whole.begin() + std::ptrdiff_t(length));
    const auto file = SdqFile::Parse(cut, "cut");
    if (file.ok() || file.status().code() != StatusCode::kCorrupt) {
      FAIL("length " << length << " of " << whole.size() << ": " << file.status().message());
    }
  }
  SUCCEED();
}

TEST_CASE("extra bytes are refused") {
  for (const size_t extra : {size_t{1}, size_t{64}, size_t{4096}}) {
    std::vector<uint8_t> bytes = SampleBytes();
    bytes.resize(bytes.size() + extra);
    CHECK(Damage(bytes).Parse().code() == StatusCode::kCorrupt);
  }
}

// Which bytes Parse alone must guard: all but padding, bitstreams and matrices.
std::vector<bool> GuardedByParse() {
  const auto file = SdqFile::Parse(SampleBytes(), "sample");
  REQUIRE(file.ok());
  std::vector<bool> guarded(SampleBytes().size(), false);
  const auto mark = [&](uint64_t begin, uint64_t count) {
    std::fill_n(guarded.begin() + std::ptrdiff_t(begin), count, true);
  };
  mark(0, format::kHeaderBytes);
  for (const auto& section : file->sections()) {
    if (section.kind == SectionKind::kBitstream || section.kind == SectionKind::kDense) continue;
    mark(section.offset, section.bytes);
  }
  const auto& vector = std::get<format::DenseView>(*file->Find("dense.vector"));
  mark(uint64_t(vector.data.data() - SampleBytes().data()), vector.data.size());
  const uint64_t table = file->sections().size() * format::kSectionEntryBytes;
  mark(SampleBytes().size() - table, table);
  return guarded;
}

TEST_CASE("one flipped bit anywhere is found") {
  const std::vector<bool> guarded = GuardedByParse();
  Damage damage;
  for (size_t at = 0; at < damage.bytes().size(); ++at) {
    const auto mask = uint8_t(1u << (at % 8));
    damage.bytes()[at] ^= mask;
    const bool found = guarded[at] ? !damage.Parse().ok() : !damage.Verify().ok();
    if (!found) FAIL("a flipped bit in byte " << at << " went unnoticed");
    damage.bytes()[at] ^= mask;
  }
  CHECK(damage.Verify().ok());
}

TEST_CASE("all bits of the header are guarded") {
  Damage damage;
  for (size_t bit = 0; bit < format::kHeaderBytes * 8; ++bit) {
    damage.bytes()[bit / 8] ^= uint8_t(1u << (bit % 8));
    if (damage.Parse().ok()) FAIL("bit " << bit << " of the header");
    damage.bytes()[bit / 8] ^= uint8_t(1u << (bit % 8));
  }
  SUCCEED();
}

TEST_CASE("a file whose header was never written is refused") {
  Damage damage;
  std::fill_n(damage.bytes().begin(), format::kHeaderBytes, uint8_t{0});
  CHECK(damage.Parse().code() == StatusCode::kCorrupt);
}

TEST_CASE("messages name the file and the place") {
  Damage damage;
  damage.bytes()[damage.Data("stream.packed", 80)] ^= 1;
  CHECK_THAT(damage.Refusal(), Catch::StartsWith("corrupt: file: section"));
  CHECK_THAT(damage.Refusal(), Catch::Contains("(scales) at byte"));
}

TEST_CASE("bytes at an odd address are refused, not read") {
  std::vector<uint8_t> bytes(SampleBytes().size() + 1);
  std::copy(SampleBytes().begin(), SampleBytes().end(), bytes.begin() + 1);
  const auto file = SdqFile::Parse(std::span(bytes).subspan(1), "odd");
  CHECK(file.status().code() == StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sdq::test
