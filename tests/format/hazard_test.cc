// Hostile containers: each case is one defect, put in with all checksums made right again.
#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>

#include "tests/format/sample_file.h"

namespace sdq::test {
namespace {

using Catch::Contains;
using Catch::StartsWith;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// ---- Header ----

TEST_CASE("hazard: big-endian file") {
  CHECK_THAT(Damage().Put(24, 0x01020304u).Refusal(), StartsWith("unsupported"));
  CHECK_THAT(Damage().Put(24, 0x01020304u).Refusal(), Contains("big-endian"));
}

TEST_CASE("hazard: future major version") {
  // Also where the rest of the header makes no sense to this reader.
  CHECK_THAT(Damage().Put(8, uint16_t{2}).Refusal(), StartsWith("unsupported"));
  CHECK_THAT(Damage().Put(8, uint16_t{2}).SealHeader().Refusal(), Contains("version 2.0"));
}

TEST_CASE("hazard: a future minor version is read") {
  CHECK(Damage().Put(10, uint16_t{7}).Put(64, uint32_t{5}).SealHeader().Parse().ok());
  CHECK(Damage().Put(32, 0x80000001u).SealHeader().Verify().ok());  // compatible flags
}

TEST_CASE("hazard: reserved header bytes in use by a known version") {
  CHECK_THAT(Damage().Put(64, uint8_t{1}).SealHeader().Refusal(), Contains("reserved"));
  CHECK_THAT(Damage().Put(52, uint8_t{1}).SealHeader().Refusal(), Contains("reserved"));
}

TEST_CASE("hazard: unknown must-understand flag") {
  CHECK_THAT(Damage().Put(36, 0x10u).SealHeader().Refusal(), StartsWith("unsupported"));
}

TEST_CASE("hazard: line ends changed in transfer, and not an .sdq file") {
  CHECK_THAT(Damage().Put(3, uint8_t{'\n'}).Refusal(), Contains("text mode"));
  CHECK_THAT(Damage().Put(0, uint8_t{'G'}).Refusal(), Contains("not an .sdq file"));
}

TEST_CASE("hazard: alignment 0, not a power of two, too small, too large") {
  for (const uint32_t alignment : {0u, 1u, 32u, 96u, 1u << 22, 0x80000000u}) {
    CHECK_THAT(Damage().Put(28, alignment).SealHeader().Refusal(), Contains("alignment"));
  }
}

TEST_CASE("hazard: file size differs from the header's") {
  for (const uint64_t size : {uint64_t{0}, uint64_t{128}, ~uint64_t{0}}) {
    CHECK_THAT(Damage().Put(16, size).SealHeader().Refusal(), Contains("its header says"));
  }
}

TEST_CASE("hazard: section count and table offset that wrap or leave the file") {
  for (const uint32_t count : {0u, 1u, 0x08000000u, 0xffffffffu}) {
    CHECK_THAT(Damage().Put(48, count).SealHeader().Refusal(), StartsWith("corrupt"));
  }
  for (const uint64_t offset : {uint64_t{0}, uint64_t{1} << 63, ~uint64_t{0}, ~uint64_t{31}}) {
    CHECK_THAT(Damage().Put(40, offset).SealHeader().Refusal(), Contains("section table"));
  }
}

// ---- Sections ----

TEST_CASE("hazard: unknown section kind") {
  for (const uint32_t kind : {0u, 10u, 0xffffffffu}) {
    Damage damage;
    damage.Put(damage.SectionEntry(0), kind);
    CHECK_THAT(damage.Seal().Refusal(), StartsWith("unsupported"));
  }
}

TEST_CASE("hazard: section offset or size beyond the file, or whose sum wraps") {
  for (const uint64_t value : {uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{127}}) {
    Damage damage;
    damage.Put(damage.SectionEntry(1) + 16, value);
    CHECK_THAT(damage.Seal().Refusal(), Contains("reaches behind"));
    Damage other;
    other.Put(other.SectionEntry(1) + 8, value);
    CHECK_THAT(other.Seal().Refusal(), Contains("neither"));
  }
}

TEST_CASE("hazard: sections that overlap, leave holes, or trail") {
  Damage overlap;
  overlap.Put(overlap.SectionEntry(1) + 8, uint64_t{overlap.SectionOffset(0)});
  CHECK_THAT(overlap.Seal().Refusal(), Contains("overlap"));
  Damage hole;
  hole.Put(hole.SectionEntry(1) + 8, uint64_t{hole.SectionOffset(1) + 64});
  CHECK_THAT(hole.Seal().Refusal(), Contains("holes"));
  Damage unaligned;
  unaligned.Put(unaligned.SectionEntry(1) + 8, uint64_t{unaligned.SectionOffset(1) + 2});
  CHECK_THAT(unaligned.Seal().Refusal(), Contains("holes"));
  // The last section shortened by more than its padding: bytes between it and the table.
  Damage trail;
  const size_t last = trail.SectionEntry(trail.Get<uint32_t>(48) - 1);
  trail.Put(last + 16, uint64_t{160});
  CHECK_THAT(trail.Seal().Refusal(), Contains("the section table starts"));
}

TEST_CASE("hazard: empty section") {
  Damage damage;
  damage.Put(damage.SectionEntry(0) + 16, uint64_t{0});
  CHECK_THAT(damage.Seal().Refusal(), Contains("empty"));
}

TEST_CASE("hazard: two metadata sections, or none") {
  Damage two;
  two.Put(two.SectionEntry(0), 1u);
  CHECK_THAT(two.Seal().Refusal(), Contains("second metadata"));
  Damage none(EmptyFileBytes());
  none.Put(none.SectionEntry(0), 9u);
  CHECK_THAT(none.Seal().Refusal(), Contains("no metadata"));
}

TEST_CASE("hazard: a section that is used twice, by nothing, or as something else") {
  Damage twice;
  const size_t q8 = twice.TensorRecord("dense.q8");
  twice.Put(q8 + 88, twice.Get<uint32_t>(twice.TensorRecord("dense.f16") + 88));
  CHECK_THAT(twice.Seal().Refusal(), Contains("used twice"));
  Damage orphan;
  orphan.Put(orphan.TensorRecord("dense.f16") + 88, 0xffffffffu);
  CHECK_THAT(orphan.Seal().Refusal(), Contains("belongs to nothing"));
  Damage other;
  other.Put(other.TensorRecord("dense.f16") + 88, uint32_t(other.SectionOfKind(1)));
  CHECK_THAT(other.Seal().Refusal(), Contains("is used as bias"));
  Damage beyond;
  beyond.Put(beyond.TensorRecord("dense.f16") + 76, 1000u);
  CHECK_THAT(beyond.Seal().Refusal(), Contains("is missing"));
  Damage absent;
  absent.Put(absent.TensorRecord("stream.binary") + 80, 0xffffffffu);
  CHECK_THAT(absent.Seal().Refusal(), Contains("0 scales, expected 19"));
}

TEST_CASE("hazard: tables that are not whole records") {
  for (const uint32_t kind : {2u, 3u}) {
    Damage damage;
    const size_t entry = damage.SectionEntry(damage.SectionOfKind(kind));
    damage.Put(entry + 16, damage.Get<uint64_t>(entry + 16) - 1);
    CHECK_THAT(damage.Seal().Refusal(), Contains("records have"));
  }
}

TEST_CASE("hazard: padding that is not zero is found by verification") {
  Damage damage;
  const size_t entry = damage.SectionEntry(0);
  damage.bytes()[damage.Get<uint64_t>(entry + 8) + damage.Get<uint64_t>(entry + 16)] = 1;
  CHECK(damage.Parse().ok());
  CHECK(damage.Verify().code() == StatusCode::kCorrupt);
}

// ---- Tensor records ----

// The refusal of a sample file in which one field of a tensor's record is replaced.
template <typename T>
std::string WithField(const std::string& tensor, size_t field, T value) {
  Damage damage;
  damage.Put(damage.TensorRecord(tensor) + field, value);
  return damage.Seal().Refusal();
}

TEST_CASE("hazard: dimension 0 or above the cap") {
  for (const char* name : {"dense.f16", "stream.binary", "stream.packed"}) {
    for (const size_t field : {68u, 72u}) {
      for (const uint32_t value : {0u, (1u << 24) + 1, 0xffffffffu}) {
        CHECK_THAT(WithField(name, field, value), Contains("dimensions go from 1"));
      }
    }
  }
}

TEST_CASE("hazard: dimensions whose product is not what the section holds") {
  CHECK_THAT(WithField("dense.f32", 68, 1u << 24), Contains("the description implies"));
  CHECK_THAT(WithField("dense.f32", 68, 1u), Contains("the description implies"));
  CHECK_THAT(WithField("stream.binary", 68, 1u << 24), Contains("the description implies"));
  CHECK_THAT(WithField("stream.binary", 68, 33u), Contains("the description implies"));
}

TEST_CASE("hazard: unknown enumeration values") {
  CHECK_THAT(WithField("dense.f32", 64, uint16_t{0}), StartsWith("unsupported"));
  CHECK_THAT(WithField("dense.f32", 64, uint16_t{3}), StartsWith("unsupported"));
  CHECK_THAT(WithField("dense.f32", 66, uint16_t{0}), StartsWith("unsupported"));
  CHECK_THAT(WithField("dense.f32", 66, uint16_t{5}), StartsWith("unsupported"));
  for (const size_t field : {100u, 101u, 102u}) {
    for (const uint8_t value : {uint8_t{0}, uint8_t{5}, uint8_t{255}}) {
      CHECK_THAT(WithField("stream.binary", field, value), StartsWith("unsupported"));
    }
  }
  Damage decimator;
  decimator.Put(decimator.DecimatorRecord(0), 4u);
  CHECK_THAT(decimator.Seal().Refusal(), StartsWith("unsupported"));
}

TEST_CASE("hazard: fields that a tensor does not have, in use") {
  CHECK_THAT(WithField("dense.f32", 100, uint8_t{1}), Contains("stream's field"));
  CHECK_THAT(WithField("dense.f32", 108, 0u), Contains("stream's field"));
  CHECK_THAT(WithField("dense.f32", 112, uint64_t{1}), Contains("stream's field"));
  CHECK_THAT(WithField("dense.f32", 92, 2.0f), Contains("8-bit rows only"));
  CHECK_THAT(WithField("stream.binary", 66, uint16_t{1}), Contains("dense type"));
  CHECK_THAT(WithField("stream.binary", 96, 2.0f), Contains("base of means"));
  CHECK_THAT(WithField("stream.binary", 103, uint8_t{1}), Contains("reserved"));
  CHECK_THAT(WithField("stream.binary", 159, uint8_t{1}), Contains("reserved"));
}

TEST_CASE("hazard: names that are empty, duplicate, unterminated, not UTF-8, or not printable") {
  Damage empty;
  const size_t record = empty.TensorRecord("dense.f32");
  std::fill_n(empty.bytes().begin() + std::ptrdiff_t(record), 64, uint8_t{0});
  CHECK_THAT(empty.Seal().Refusal(), Contains("name has 0 bytes"));
  Damage duplicate;
  const std::string twin = "dense.f16";
  std::copy(twin.begin(), twin.end(), duplicate.bytes().begin() + std::ptrdiff_t(record));
  CHECK_THAT(duplicate.Seal().Refusal(), Contains("two tensors are named 'dense.f16'"));
  Damage endless;
  std::fill_n(endless.bytes().begin() + std::ptrdiff_t(record), 64, uint8_t{'x'});
  CHECK_THAT(endless.Seal().Refusal(), Contains("no terminating NUL"));
  CHECK_THAT(WithField("dense.f32", 63, uint8_t{'x'}), Contains("after the name's NUL"));
  for (const uint8_t byte :
       {uint8_t{0xff}, uint8_t{0xc0}, uint8_t{0x80}, uint8_t{'\n'}, uint8_t{0x7f}}) {
    CHECK_THAT(WithField("dense.f32", 2, byte), Contains("not printable UTF-8"));
  }
}

// ---- Sigma-delta specifics ----

TEST_CASE("hazard: sample count that does not follow from n and OSR") {
  for (const uint64_t samples : {uint64_t{0}, uint64_t{37}, uint64_t{39}, ~uint64_t{0}}) {
    CHECK_THAT(WithField("stream.binary", 120, samples), Contains("samples per row"));
  }
}

// The refusal of a sample file in which one field of the first (polyphase) decimator, resp. of the
// last (low-pass) is replaced.
std::string WithDecimator(size_t index, size_t field, uint32_t value) {
  Damage damage;
  damage.Put(damage.DecimatorRecord(index) + field, value);
  return damage.Seal().Refusal();
}

TEST_CASE("hazard: over-sampling ratio 0, below 1, above the cap, denominator 0") {
  for (const size_t index : {0u, 2u}) {
    CHECK_THAT(WithDecimator(index, 4, 0), Contains("over-sampling ratio"));
    CHECK_THAT(WithDecimator(index, 4, 1), Contains("over-sampling ratio"));
    CHECK_THAT(WithDecimator(index, 4, 0x80000000u), Contains("over-sampling ratio"));
    CHECK_THAT(WithDecimator(index, 4, 1000), Contains("over-sampling ratio"));
    CHECK_THAT(WithDecimator(index, 8, 0), Contains("over-sampling ratio"));
    CHECK_THAT(WithDecimator(index, 8, 0xffffffffu), Contains("over-sampling ratio"));
  }
}

TEST_CASE("hazard: window length 0 or above the cap, lead beyond the window, taps missing") {
  CHECK_THAT(WithDecimator(0, 12, 0), Contains("window"));
  CHECK_THAT(WithDecimator(0, 12, 17), Contains("window"));
  CHECK_THAT(WithDecimator(0, 12, 0xffffffffu), Contains("window"));
  CHECK_THAT(WithDecimator(0, 16, 5), Contains("lead"));
  CHECK_THAT(WithDecimator(0, 12, 3), Contains("8 taps for 2 phases of 3"));
  CHECK_THAT(WithDecimator(0, 20, 12), Contains("whole rows"));
}

TEST_CASE("hazard: derived samples that cannot be, or of another decimator") {
  CHECK_THAT(WithDecimator(0, 28, 2), Contains("derived stream of the samples 0x2"));
  CHECK_THAT(WithDecimator(0, 28, 0x80000001u), Contains("derived stream"));
  CHECK_THAT(WithDecimator(0, 28, 3), Contains("8 taps for 2 phases of 7"));
  CHECK_THAT(WithDecimator(1, 28, 3), Contains("only a polyphase"));
  CHECK_THAT(WithDecimator(2, 28, 3), Contains("only a polyphase"));
}

TEST_CASE("hazard: low-pass blocks of 0 columns, above the cap, or with foreign fields") {
  CHECK_THAT(WithDecimator(2, 20, 0), Contains("low-pass block"));
  CHECK_THAT(WithDecimator(2, 20, 4097), Contains("low-pass block"));
  CHECK_THAT(WithDecimator(2, 12, 1), Contains("neither window"));
  CHECK_THAT(WithDecimator(1, 20, 8), Contains("identity"));
}

TEST_CASE("hazard: a decimator number beyond the table") {
  CHECK_THAT(WithField("stream.binary", 108, 3u), Contains("decimator 3 of 3"));
  CHECK_THAT(WithField("stream.binary", 108, 0xffffffffu), Contains("decimator"));
  Damage unused(BytesWith(SampleStream(AllStreams()[1].view, false, false).Finish()));
  unused.Put(unused.TensorRecord("stream.planes") + 108, 1u);
  CHECK_THAT(unused.Seal().Refusal(), Contains("decimator 1 of 1"));
}

TEST_CASE("hazard: taps that are not finite") {
  for (const float value : {kNan, kInfinity, -kInfinity}) {
    Damage damage;
    damage.Put(damage.SectionOffset(damage.SectionOfKind(4)) + 8, value);
    CHECK_THAT(damage.Seal().Refusal(), Contains("tap 2 is not finite"));
  }
}

TEST_CASE("hazard: scales that are NaN, infinite, negative or denormal") {
  for (const char* name : {"stream.binary", "stream.packed", "dense.q8"}) {
    // NaN, infinity, -1, -0, the least and the greatest denormal
    for (const int value : {0x7e00, 0x7c01, 0x7c00, 0xfc00, 0xbc00, 0x8000, 0x0001, 0x03ff}) {
      Damage damage;
      damage.Put(damage.Data(name, 80) + 4, uint16_t(value));
      CHECK_THAT(damage.Seal().Refusal(), Contains("scale 2 is f16"));
    }
  }
  Damage zero;
  zero.Put(zero.Data("stream.binary", 80), uint16_t{0});
  CHECK(zero.Seal().Parse().ok());  // a row of zeros
}

TEST_CASE("hazard: bases that are NaN, infinite, zero, negative, denormal or extreme") {
  for (const float value : {kNan, kInfinity, 0.0f, -1.0f, 1e-40f, 0x1p-113f, 0x1p112f}) {
    CHECK_THAT(WithField("stream.binary", 92, value), Contains("scale base"));
    CHECK_THAT(WithField("dense.q8", 92, value), Contains("scale base"));
    CHECK_THAT(WithField("stream.planes", 96, value), Contains("mean base"));
  }
}

TEST_CASE("hazard: means and biases that are not finite") {
  for (const int value : {0x7e00, 0x7c00, 0xfc00}) {
    Damage damage;
    damage.Put(damage.Data("stream.planes", 84) + 2, uint16_t(value));
    CHECK_THAT(damage.Seal().Refusal(), Contains("mean 1 is not finite"));
  }
  for (const float value : {kNan, kInfinity, -kInfinity}) {
    for (const char* name : {"stream.binary", "dense.f16"}) {
      Damage damage;
      damage.Put(damage.Data(name, 88) + 12, value);
      CHECK_THAT(damage.Seal().Refusal(), Contains("bias 3 is not finite"));
    }
  }
}

TEST_CASE("hazard: scales, means or bias of the wrong length") {
  CHECK_THAT(WithField("stream.binary", 101, uint8_t{2}), Contains("ok"));  // one block: the same
  CHECK_THAT(WithField("stream.packed", 101, uint8_t{1}), Contains("9 scales, expected 3"));
  Damage bias;
  const size_t entry = bias.SectionEntry(bias.Get<uint32_t>(bias.TensorRecord("dense.f16") + 88));
  bias.Put(entry + 16, uint64_t{16});
  CHECK_THAT(bias.Seal().Refusal(), Contains("bias has 4 values for 5 rows"));
  bias.Put(entry + 16, uint64_t{18});
  CHECK_THAT(bias.Seal().Refusal(), Contains("not a multiple of 4"));
}

TEST_CASE("hazard: rotation blocks of 0, wider than the row, or with a large odd factor") {
  CHECK_THAT(WithField("stream.binary", 104, 0u), Contains("rotation block"));
  CHECK_THAT(WithField("stream.binary", 104, 25u), Contains("rotation block"));
  CHECK_THAT(WithField("stream.binary", 104, 0xffffffffu), Contains("rotation block"));
  CHECK_THAT(WithField("stream.planes", 104, 4u), Contains("no rotation"));
  CHECK_THAT(WithField("stream.planes", 112, uint64_t{4}), Contains("no rotation"));
}

TEST_CASE("hazard: bytes that are no packed trits") {
  // x % 28 == 27, and more than 250.
  for (const int byte : {27, 55, 83, 111, 139, 167, 195, 223, 251, 252, 253, 254, 255}) {
    Damage damage;
    damage.Put(damage.Data("stream.packed", 76) + 20, uint8_t(byte));
    damage.Seal();
    CHECK(damage.Parse().ok());  // opening does not read the weights
    CHECK_THAT(damage.Verify().message(), Contains("byte 20 of the packed trits"));
  }
}

TEST_CASE("hazard: trits packed by the code that is no longer read") {
  CHECK_THAT(WithField("stream.packed", 100, uint8_t{3}),
             StartsWith("unsupported") && Contains("convert the model again"));
}

// ---- Metadata ----

TEST_CASE("hazard: metadata that is damaged is refused by the file as well") {
  Damage damage;
  damage.Put(damage.SectionOffset(damage.SectionOfKind(1)), 0xffffffffu);
  CHECK_THAT(damage.Seal().Refusal(), StartsWith("corrupt: file: metadata"));
}

}  // namespace
}  // namespace sdq::test
