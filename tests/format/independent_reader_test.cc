// The second reader against values worked out by hand, and against the library.
#include "tests/support/independent_reader.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "format/writer.h"
#include "tests/format/sample_file.h"
#include "tests/support/files.h"

namespace sdq::test {
namespace {

using format::Alphabet;
using format::DecimatorKind;
using format::RotationKind;
using format::StreamView;

constexpr uint16_t kOne = 0x3c00;  // f16
constexpr uint16_t kTwo = 0x4000;
constexpr uint16_t kHalf = 0x3800;

// One row whose bytes are `bytes` (one plane after the other), as a file, read independently.
std::vector<float> Row(StreamView view, const std::vector<uint8_t>& bytes) {
  view.name = "row";
  view.rows = 1;
  std::vector<uint8_t> bits(bytes.size() * 16);
  for (size_t k = 0; k < bytes.size(); ++k) bits[k * 16] = bytes[k];
  view.bits = bits;
  if (view.scales_f16.empty()) view.scales_f16 = {&kOne, 1};
  IndependentFile file;
  REQUIRE(ReadIndependently(BytesWith(view), &file) == "");
  REQUIRE(file.tensors.size() == 1);
  return file.tensors[0].values;
}

void CheckClose(const std::vector<float>& got, const std::vector<double>& want) {
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    INFO("value " << i);
    CHECK(double(got[i]) == Approx(want[i]).margin(1e-6));
  }
}

StreamView Columns(uint32_t columns) {
  StreamView view;
  view.columns = columns;
  return view;
}

TEST_CASE("by hand: binary samples, scale and base") {
  StreamView view = Columns(10);
  view.scales_f16 = {&kTwo, 1};
  view.scale_base = 1.5f;
  CheckClose(Row(view, {0b00000101, 0b10}), {3, -3, 3, -3, -3, -3, -3, -3, -3, 3});
}

TEST_CASE("by hand: ternary planes and packed trits, with means") {
  StreamView view = Columns(5);
  view.alphabet = Alphabet::kTernaryPlanes;
  CheckClose(Row(view, {0b11001, 0b00100}), {1, 0, -1, 1, 1});
  view.alphabet = Alphabet::kTernaryPacked;
  CheckClose(Row(view, {2 + 1 * 3 + 0 * 9 + 28 * (2 + 2 * 3)}), {1, 0, -1, 1, 1});
  view.means_f16 = {&kHalf, 1};
  view.mean_base = 0.5f;
  CheckClose(Row(view, {2 + 1 * 3 + 0 * 9 + 28 * (2 + 2 * 3)}), {1.25, 0.25, -0.75, 1.25, 1.25});
}

TEST_CASE("by hand: a polyphase decimator of two phases with a lead") {
  StreamView view = Columns(3);
  view.decimator.kind = DecimatorKind::kPolyphase;
  view.decimator.osr_num = 3;
  view.decimator.osr_den = 2;
  view.decimator.window = 2;
  view.decimator.lead = 1;
  view.decimator.taps = {1.0f, 0.5f, 2.0f, -1.0f};
  // q = + - + + -; e = 2, 4, 5
  CheckClose(Row(view, {0b01101}), {-1 + 0.5, 2 - 1, -1 + 0.5});
  view.decimator.lead = 0;  // q = + - + +; e = 1, 3, 4: the first window reaches before the start
  CheckClose(Row(view, {0b1101}), {1, 2 + 1, 1 + 0.5});
}

TEST_CASE("by hand: a derived stream beside the stored one") {
  StreamView view = Columns(4);
  view.decimator.kind = DecimatorKind::kPolyphase;
  view.decimator.osr_num = 1;
  view.decimator.osr_den = 1;
  view.decimator.window = 3;
  view.decimator.derived = 0b11;  // d = q[j] q[j - 1], and 3 + 2 taps
  view.decimator.taps = {1.0f, 0.5f, 0.25f, 8.0f, 4.0f};
  // q = + - - +; d = (none) - + -
  CheckClose(Row(view, {0b1001}),
             {1, -1 + 0.5 - 8, -1 - 0.5 + 0.25 + 8 - 4, 1 - 0.5 - 0.25 - 8 + 4});
  view.decimator.lead = 1;
  view.decimator.derived = 0b101;  // d = q[j] q[j - 2], and 3 + 1 taps
  view.decimator.taps = {1.0f, 0.5f, 0.25f, 8.0f};
  // q = + - - + +; d = (none) (none) - - -
  CheckClose(Row(view, {0b11001}),
             {-1 + 0.5, -1 - 0.5 + 0.25 - 8, 1 - 0.5 - 0.25 - 8, 1 + 0.5 - 0.25 - 8});
}

TEST_CASE("by hand: the ideal low-pass, even, odd and of equal length") {
  StreamView view = Columns(2);
  view.decimator.kind = DecimatorKind::kIdealLowPass;
  view.decimator.osr_num = 2;
  view.decimator.osr_den = 1;
  view.decimator.block = 2;
  // q = 1 1 -1 1: bins 2, 2, -2 of the transform; the Nyquist bin of two values is 2 Re(2) = 4.
  CheckClose(Row(view, {0b1011}), {(2 + 4) / 4.0, (2 - 4) / 4.0});
  // Three values of five samples + - - + +, from the transform cut at bin 1 (double precision).
  view = Columns(3);
  view.decimator.kind = DecimatorKind::kIdealLowPass;
  view.decimator.osr_num = 5;
  view.decimator.osr_den = 3;
  view.decimator.block = 3;
  CheckClose(Row(view, {0b11001}), {0.6000000000, -1.0661408512, 1.0661408512});
  // Four values of six samples + + - + - -.
  view.columns = view.decimator.block = 4;
  view.decimator.osr_num = 3;
  view.decimator.osr_den = 2;
  CheckClose(Row(view, {0b001011}), {1.3333333333, -0.4226497308, 0.6666666667, -1.5773502692});
  // As many samples as values: the samples themselves, also where the ratio is above 1.
  view.columns = view.decimator.block = 3;
  view.decimator.osr_num = 5;
  view.decimator.osr_den = 4;
  CheckClose(Row(view, {0b101}), {1, -1, 1});
}

TEST_CASE("by hand: rotations of a power of two, an odd length, and a shorter last block") {
  // Signs of seed 0: - + + - + (the generator's first outputs begin with e2, 6e, 06, f8, 1b).
  StreamView view = Columns(4);
  view.rotation = {RotationKind::kHadamard, 4, 0};
  CheckClose(Row(view, {0b0111}), {-1, 1, 1, 1});
  view = Columns(3);
  view.rotation = {RotationKind::kHadamard, 3, 0};
  const double root = 1 / std::sqrt(3.0);
  CheckClose(Row(view, {0b011}), {-root, 2.7320508076 * root, -0.7320508076 * root});
  view = Columns(5);
  view.rotation = {RotationKind::kHadamard, 4, 0};
  CheckClose(Row(view, {0b10111}), {-1, 1, 1, 1, 1});
}

TEST_CASE("by hand: rows lie interleaved in tiles of 16") {
  StreamView view = Columns(9);
  view.name = "tiles";
  view.rows = 17;
  std::vector<uint8_t> bits(2 * 2 * 16);
  bits[3] = 0xff;     // row 3, samples 0 to 7
  bits[16 + 3] = 1;   // row 3, sample 8
  bits[32 + 16] = 1;  // row 16, sample 8
  view.bits = bits;
  const std::vector<uint16_t> scales(17, kOne);
  view.scales_f16 = scales;
  IndependentFile file;
  REQUIRE(ReadIndependently(BytesWith(view), &file) == "");
  for (uint32_t r = 0; r < 17; ++r) {
    for (uint32_t c = 0; c < 9; ++c) {
      const bool plus = r == 3 || (r == 16 && c == 8);
      CHECK(file.tensors[0].values[r * 9 + c] == (plus ? 1.0f : -1.0f));
    }
  }
}

TEST_CASE("dense tensors, biases and metadata read independently are the library's") {
  IndependentFile file;
  REQUIRE(ReadIndependently(SampleBytes(), &file) == "");
  REQUIRE(file.tensors.size() == 8);
  for (OwnedDense& owned : AllDense()) {
    const format::DenseView& view = owned.Finish();
    const IndependentTensor* tensor = file.Find(view.name);
    REQUIRE(tensor != nullptr);
    CHECK(tensor->bias == owned.bias);
    REQUIRE(tensor->values.size() == size_t{view.rows} * view.columns);
    for (size_t i = 0; i < tensor->values.size(); ++i) {
      float want = 0;
      const uint8_t* at = view.data.data() + i * format::DenseElementBytes(view.type);
      if (view.type == format::DenseType::kF32) want = format::LoadLe<float>(at);
      if (view.type == format::DenseType::kF16) {
        want = format::F16ToF32(format::LoadLe<uint16_t>(at));
      }
      if (view.type == format::DenseType::kBF16) {
        want = format::BF16ToF32(format::LoadLe<uint16_t>(at));
      }
      if (view.type == format::DenseType::kQ8) {
        want = view.scale_base * format::F16ToF32(view.scales_f16[i / view.columns]) *
               float(static_cast<int8_t>(*at));
      }
      CHECK(tensor->values[i] == want);
    }
  }
  std::vector<std::string> keys;
  const format::Metadata metadata = SampleMetadata();
  for (const auto& [key, value] : metadata.values()) keys.push_back(key);
  CHECK(file.metadata_keys == keys);
}

TEST_CASE("a rotation and a mean per block: the row keeps its length and its mean") {
  IndependentFile file;
  REQUIRE(ReadIndependently(SampleBytes(), &file) == "");
  // Rotations are orthogonal: unrotated rows have the norm of the reconstruction without rotation.
  for (const size_t index : {0u, 2u}) {
    OwnedStream owned = std::move(AllStreams()[index]);
    StreamView plain = owned.Finish();
    plain.rotation = {};
    IndependentFile unrotated;
    REQUIRE(ReadIndependently(BytesWith(plain), &unrotated) == "");
    const auto& with = file.Find(plain.name)->values;
    const auto& without = unrotated.tensors[0].values;
    double a = 0;
    double b = 0;
    for (size_t i = 0; i < with.size(); ++i) {
      a += double(with[i]) * double(with[i]);
      b += double(without[i]) * double(without[i]);
    }
    CHECK(with != without);
    CHECK(a == Approx(b));
  }
}

TEST_CASE("the second reader refuses damage") {
  for (const size_t at : {size_t{0}, size_t{130}, SampleBytes().size() - 1}) {
    std::vector<uint8_t> bytes = SampleBytes();
    bytes[at] ^= 1;
    IndependentFile file;
    INFO("byte " << at);
    // Byte 130 is the first section's.
    CHECK(ReadIndependently(bytes, &file) != "");
  }
}

// A whole file, byte by byte from FORMAT.md: one binary row of 10 columns, no rotation.
std::vector<uint8_t> HandMadeFile() {
  format::ByteSink sink;
  sink.AppendZeros(128);                                                      // header, below
  for (int i = 0; i < 32; ++i) sink.Append(uint8_t(i % 16 == 0 ? 0x55 : 0));  // bitstream at 128
  sink.AppendZeros(32);
  sink.Append(uint16_t{0x4000});  // scale at 192
  sink.AppendZeros(62);
  sink.Append(0u);  // metadata at 256
  sink.AppendZeros(60);
  for (const uint32_t field : {1u, 1u, 1u, 0u, 0u, 0u, 0xffffffffu}) sink.Append(field);  // 320
  sink.AppendZeros(36);
  sink.AppendText("w");  // tensor at 384
  sink.AppendZeros(63);
  sink.Append(uint16_t{2});
  sink.Append(uint16_t{0});
  for (const uint32_t field : {1u, 10u, 0u, 1u, 0xffffffffu, 0xffffffffu}) sink.Append(field);
  sink.Append(1.0f);
  sink.Append(1.0f);
  sink.AppendBytes(std::vector<uint8_t>{1, 1, 1, 0});
  sink.Append(0u);
  sink.Append(0u);
  sink.Append(uint64_t{0});
  sink.Append(uint64_t{10});
  sink.AppendZeros(64);  // the record's reserve, padding
  const uint64_t sections[][3] = {
      {6, 128, 32}, {7, 192, 2}, {1, 256, 4}, {3, 320, 64}, {2, 384, 160}};
  for (const auto& [kind, offset, bytes] : sections) {
    for (const uint64_t field : {kind, offset, bytes, uint64_t{0}}) sink.Append(field);
  }
  Damage file(std::move(sink).Take());
  for (size_t i = 0; i < 8; ++i) file.Put(i, "SDQ\r\n\x1a\n"[i]);
  file.Put(8, uint16_t{1}).Put(12, 128u).Put(16, uint64_t{file.bytes().size()});
  file.Put(24, 0x04030201u).Put(28, 64u).Put(40, uint64_t{576}).Put(48, 5u);
  return file.Seal().bytes();
}

TEST_CASE("a file made by hand: both readers agree, and the writer makes the same bytes") {
  const std::vector<uint8_t> bytes = HandMadeFile();
  INFO(Damage(bytes).Verify().message());
  REQUIRE(Damage(bytes).Verify().ok());
  IndependentFile file;
  REQUIRE(ReadIndependently(bytes, &file) == "");
  CheckClose(file.Find("w")->values, {2, -2, 2, -2, 2, -2, 2, -2, 2, -2});

  const auto parsed = format::SdqFile::Parse(bytes, "hand-made");
  REQUIRE(parsed.ok());
  const auto& view = std::get<StreamView>(*parsed->Find("w"));
  CHECK(BytesWith(view) == bytes);
}

}  // namespace
}  // namespace sdq::test
