#include "tests/format/sample_file.h"

#include <xxhash.h>

#include <catch2/catch.hpp>
#include <cstring>

#include "format/writer.h"
#include "tests/support/files.h"

namespace sdq::test {
namespace {

using format::Alphabet;
using format::DenseType;
using format::RotationKind;
using format::ScaleGranularity;

// A small multiplicative generator: the same contents everywhere.
class Sequence {
 public:
  explicit Sequence(uint32_t seed) : state_(seed) {}
  uint8_t Next() {
    state_ = state_ * 1664525u + 1013904223u;
    return uint8_t(state_ >> 24);
  }

 private:
  uint32_t state_;
};

float SmallFloat(Sequence* sequence) { return (float(sequence->Next()) - 127.5f) / 64.0f; }

template <typename T>
std::vector<uint8_t> Raw(const std::vector<T>& values) {
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

template <typename Write>
std::vector<uint8_t> Written(const Write& write) {
  const TemporaryFolder folder;
  auto writer = format::SdqWriter::Create(folder / "sample.sdq");
  REQUIRE(writer.ok());
  write(**writer);
  return ReadBytes(folder / "sample.sdq");
}

}  // namespace

const format::DenseView& OwnedDense::Finish() {
  view.data = data;
  view.scales_f16 = scales;
  view.bias = bias;
  return view;
}

const format::StreamView& OwnedStream::Finish() {
  view.bits = bits;
  view.scales_f16 = scales;
  view.means_f16 = means;
  view.bias = bias;
  return view;
}

OwnedDense SampleDense(const std::string& name, DenseType type, uint32_t rows, uint32_t columns,
                       bool bias) {
  OwnedDense owned;
  owned.view.name = name;
  owned.view.type = type;
  owned.view.rows = rows;
  owned.view.columns = columns;
  Sequence sequence(rows * 31 + columns);
  std::vector<float> values(size_t{rows} * columns);
  for (float& value : values) value = SmallFloat(&sequence);
  std::vector<uint16_t> halves;
  for (const float value : values) {
    halves.push_back(type == DenseType::kF16 ? format::F32ToF16(value) : format::F32ToBF16(value));
  }
  if (type == DenseType::kF32) owned.data = Raw(values);
  if (type == DenseType::kF16 || type == DenseType::kBF16) owned.data = Raw(halves);
  if (type == DenseType::kQ8) {
    for (const float value : values) owned.data.push_back(uint8_t(int8_t(value * 60)));
    for (uint32_t r = 0; r < rows; ++r) owned.scales.push_back(format::F32ToF16(1.0f + float(r)));
    owned.view.scale_base = 0.0078125f;
  }
  for (uint32_t r = 0; bias && r < rows; ++r) owned.bias.push_back(SmallFloat(&sequence));
  return owned;
}

OwnedStream SampleStream(format::StreamView view, bool means, bool bias) {
  OwnedStream owned;
  Sequence sequence(view.rows * 17 + view.columns);
  owned.bits.resize(format::BitstreamBytes(view.decimator, view.alphabet, view.rows, view.columns));
  for (uint8_t& byte : owned.bits) {
    byte = sequence.Next();
    if (view.alphabet == Alphabet::kTernaryPacked) byte = format::PackedByte(byte % 243u);
  }
  const uint32_t per_row = view.granularity == ScaleGranularity::kRow
                               ? 1
                               : format::BlockCount(view.decimator, view.columns);
  for (uint32_t i = 0; i < view.rows * per_row; ++i) {
    owned.scales.push_back(format::F32ToF16(0.25f + float(sequence.Next()) / 128.0f));
    if (means) owned.means.push_back(format::F32ToF16(SmallFloat(&sequence)));
  }
  for (uint32_t r = 0; bias && r < view.rows; ++r) owned.bias.push_back(SmallFloat(&sequence));
  owned.view = std::move(view);
  return owned;
}

format::DecimatorSpec PolyphaseSample() {
  format::DecimatorSpec spec;
  spec.kind = format::DecimatorKind::kPolyphase;
  spec.osr_num = 3;
  spec.osr_den = 2;
  spec.window = 4;
  spec.lead = 2;
  spec.taps = {0.75f, 0.5f, -0.25f, 0.125f, 0.625f, 0.5f, -0.5f, 0.0625f};
  return spec;
}

format::DecimatorSpec LowPassSample() {
  format::DecimatorSpec spec;
  spec.kind = format::DecimatorKind::kIdealLowPass;
  spec.osr_num = 7;
  spec.osr_den = 4;
  spec.block = 16;
  return spec;
}

std::vector<OwnedDense> AllDense() {
  std::vector<OwnedDense> all;
  all.push_back(SampleDense("dense.vector", DenseType::kF32, 1, 10, false));
  all.push_back(SampleDense("dense.f32", DenseType::kF32, 2, 3, false));
  all.push_back(SampleDense("dense.f16", DenseType::kF16, 5, 7, true));
  all.push_back(SampleDense("dense.bf16", DenseType::kBF16, 3, 4, false));
  all.push_back(SampleDense("dense.q8", DenseType::kQ8, 6, 9, true));
  return all;
}

std::vector<OwnedStream> AllStreams() {
  std::vector<OwnedStream> all;
  format::StreamView binary;
  binary.name = "stream.binary";
  binary.rows = 19;
  binary.columns = 24;
  binary.rotation = {RotationKind::kHadamard, 24, 0x0123456789abcdefu};  // 3 x 8
  binary.decimator = PolyphaseSample();
  all.push_back(SampleStream(binary, false, true));

  format::StreamView planes;
  planes.name = "stream.planes";
  planes.rows = 5;
  planes.columns = 20;
  planes.alphabet = Alphabet::kTernaryPlanes;
  planes.scale_base = 0.5f;
  planes.mean_base = 0.25f;
  all.push_back(SampleStream(planes, true, false));

  format::StreamView packed;
  packed.name = "stream.packed";
  packed.rows = 3;
  packed.columns = 37;                                 // blocks of 16, 16, 5
  packed.rotation = {RotationKind::kHadamard, 12, 7};  // 3 x 4, the last one is 1
  packed.decimator = LowPassSample();
  packed.alphabet = Alphabet::kTernaryPacked;
  packed.granularity = ScaleGranularity::kBlock;
  all.push_back(SampleStream(packed, true, true));
  return all;
}

format::Metadata SampleMetadata() {
  format::Metadata metadata;
  metadata.Set("model.architecture", std::string("llama"));
  metadata.Set("model.layers", int64_t{-3});
  metadata.Set("model.norm_eps", 1e-5);
  metadata.Set("model.tied_embeddings", true);
  metadata.Set("model.eos_tokens", std::vector<int64_t>{2, -1});
  metadata.Set("quantization.linear_osr", std::vector<double>{1.5, 2.0});
  metadata.Set("tokenizer.tokens", std::vector<std::string>{"a", "", "\xff\x80", "\xe2\x96\x81"});
  metadata.Set("tokenizer.scores", std::vector<float>{0.0f, -1.5f});
  metadata.Set("tokenizer.types", std::vector<uint32_t>{1, 4000000000u});
  return metadata;
}

const std::vector<uint8_t>& SampleBytes() {
  static const std::vector<uint8_t> bytes = Written([](format::SdqWriter& writer) {
    for (OwnedDense& dense : AllDense()) REQUIRE(writer.Add(dense.Finish()).ok());
    for (OwnedStream& stream : AllStreams()) REQUIRE(writer.Add(stream.Finish()).ok());
    REQUIRE(writer.Finish(SampleMetadata()).ok());
  });
  return bytes;
}

std::vector<uint8_t> BytesWith(const format::StreamView& view) {
  return Written([&](format::SdqWriter& writer) {
    const Status status = writer.Add(view);
    INFO(status.message());
    REQUIRE(status.ok());
    REQUIRE(writer.Finish(format::Metadata()).ok());
  });
}

std::vector<uint8_t> EmptyFileBytes() {
  return Written([](format::SdqWriter& writer) { REQUIRE(writer.Finish(SampleMetadata()).ok()); });
}

size_t Damage::SectionOfKind(uint32_t kind) const {
  for (size_t i = 0; i < Get<uint32_t>(48); ++i) {
    if (Get<uint32_t>(SectionEntry(i)) == kind) return i;
  }
  FAIL("no section of kind " << kind);
  return 0;
}

size_t Damage::TensorRecord(const std::string& name) const {
  const size_t table = SectionOfKind(2);
  const size_t begin = SectionOffset(table);
  const size_t end = begin + Get<uint64_t>(SectionEntry(table) + 16);
  for (size_t at = begin; at < end; at += 160) {
    if (name == reinterpret_cast<const char*>(bytes_.data() + at)) return at;
  }
  FAIL("no tensor " << name);
  return 0;
}

Damage& Damage::SealHeader() { return Put(120, uint64_t{XXH3_64bits(bytes_.data(), 120)}); }

Damage& Damage::Seal() {
  const size_t count = Get<uint32_t>(48);
  for (size_t i = 0; i < count; ++i) {
    const auto offset = Get<uint64_t>(SectionEntry(i) + 8);
    const auto size = Get<uint64_t>(SectionEntry(i) + 16);
    if (offset > bytes_.size() || size > bytes_.size() - offset) continue;
    Put(SectionEntry(i) + 24, uint64_t{XXH3_64bits(bytes_.data() + offset, size)});
  }
  Put(56, uint64_t{XXH3_64bits(bytes_.data() + SectionEntry(0), 32 * count)});
  return SealHeader();
}

Status Damage::Parse() const { return format::SdqFile::Parse(bytes_, "file").status(); }

Status Damage::Verify() const {
  auto file = format::SdqFile::Parse(bytes_, "file");
  if (!file.ok()) return file.status();
  return file->VerifyAll();
}

std::string Damage::Refusal() const {
  const Status status = Parse();
  return std::string(StatusCodeName(status.code())) + ": " + status.message();
}

}  // namespace sdq::test
