// What is written is what is read.
#include <algorithm>
#include <catch2/catch.hpp>

#include "format/writer.h"
#include "tests/format/sample_file.h"
#include "tests/support/files.h"

namespace sdq::test {
namespace {

using format::DenseView;
using format::SdqFile;
using format::StreamView;

template <typename T>
bool Equal(std::span<const T> a, std::span<const T> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

SdqFile ParseSample() {
  auto file = SdqFile::Parse(SampleBytes(), "sample");
  INFO(file.status().message());
  REQUIRE(file.ok());
  return *std::move(file);
}

TEST_CASE("every dense tensor survives a round trip") {
  const SdqFile file = ParseSample();
  for (OwnedDense& owned : AllDense()) {
    const DenseView& want = owned.Finish();
    INFO(want.name);
    const auto* found = file.Find(want.name);
    REQUIRE(found != nullptr);
    const auto& got = std::get<DenseView>(*found);
    CHECK(got.name == want.name);
    CHECK(got.type == want.type);
    CHECK(got.rows == want.rows);
    CHECK(got.columns == want.columns);
    CHECK(got.scale_base == want.scale_base);
    CHECK(Equal(got.data, want.data));
    CHECK(Equal(got.scales_f16, want.scales_f16));
    CHECK(Equal(got.bias, want.bias));
  }
}

TEST_CASE("every stream tensor survives a round trip") {
  const SdqFile file = ParseSample();
  for (OwnedStream& owned : AllStreams()) {
    const StreamView& want = owned.Finish();
    INFO(want.name);
    const auto* found = file.Find(want.name);
    REQUIRE(found != nullptr);
    const auto& got = std::get<StreamView>(*found);
    CHECK(got.rows == want.rows);
    CHECK(got.columns == want.columns);
    CHECK(got.rotation == want.rotation);
    CHECK(got.decimator == want.decimator);
    CHECK(got.alphabet == want.alphabet);
    CHECK(got.granularity == want.granularity);
    CHECK(got.scale_base == want.scale_base);
    CHECK(got.mean_base == want.mean_base);
    CHECK(Equal(got.scales_f16, want.scales_f16));
    CHECK(Equal(got.means_f16, want.means_f16));
    CHECK(Equal(got.bias, want.bias));
    CHECK(Equal(got.bits, want.bits));
  }
}

TEST_CASE("a file keeps order, version and metadata, and verifies") {
  const SdqFile file = ParseSample();
  CHECK(file.tensors().size() == 8);
  CHECK(std::get<DenseView>(file.tensors().front()).name == "dense.vector");
  CHECK(std::get<StreamView>(file.tensors().back()).name == "stream.packed");
  CHECK(file.Find("dense") == nullptr);
  CHECK(file.version_major() == 1);
  CHECK(file.version_minor() == 0);
  CHECK(file.metadata().values() == SampleMetadata().values());
  const Status verified = file.VerifyAll();
  INFO(verified.message());
  CHECK(verified.ok());
}

TEST_CASE("the ledger adds up to the file's size") {
  const SdqFile file = ParseSample();
  uint64_t of_tensors = 0;
  for (size_t i = 0; i < file.tensors().size(); ++i) of_tensors += file.BytesOf(i).total();
  uint64_t of_sections = 0;
  uint64_t of_tensor_sections = 0;
  uint64_t padding = 0;
  uint64_t end = format::kHeaderBytes;
  for (const format::SectionInfo& section : file.sections()) {
    of_sections += section.bytes;
    if (section.kind >= format::SectionKind::kDense) of_tensor_sections += section.bytes;
    padding += section.offset - end;
    end = section.offset + section.bytes;
  }
  const uint64_t table_bytes = file.sections().size() * format::kSectionEntryBytes;
  const uint64_t table_at = file.file_bytes() - table_bytes;
  padding += table_at - end;
  CHECK(of_tensors == of_tensor_sections);
  CHECK(padding < file.alignment() * (file.sections().size() + 1));
  CHECK(format::kHeaderBytes + of_sections + padding + table_bytes == SampleBytes().size());
}

TEST_CASE("decimators that are equal are stored once") {
  const TemporaryFolder folder;
  auto writer = format::SdqWriter::Create(folder / "a.sdq");
  REQUIRE(writer.ok());
  for (const char* name : {"a", "b", "c"}) {
    StreamView view;
    view.name = name;
    view.rows = 4;
    view.columns = 16;
    view.decimator = PolyphaseSample();
    if (view.name == "c") view.decimator.taps[0] = 1.0f;
    OwnedStream owned = SampleStream(view, false, false);
    REQUIRE((*writer)->Add(owned.Finish()).ok());
  }
  REQUIRE((*writer)->Finish(format::Metadata()).ok());
  const auto bytes = ReadBytes(folder / "a.sdq");
  const auto file = SdqFile::Parse(bytes, "a.sdq");
  REQUIRE(file.ok());
  const auto& sections = file->sections();
  CHECK(std::count_if(sections.begin(), sections.end(), [](const format::SectionInfo& section) {
          return section.kind == format::SectionKind::kTaps;
        }) == 2);
}

TEST_CASE("sections lie at multiples of the alignment that was asked for") {
  const uint32_t alignment = GENERATE(64u, 256u, 4096u);
  const TemporaryFolder folder;
  auto writer = format::SdqWriter::Create(folder / "a.sdq", alignment);
  REQUIRE(writer.ok());
  for (OwnedStream& stream : AllStreams()) REQUIRE((*writer)->Add(stream.Finish()).ok());
  REQUIRE((*writer)->Finish(SampleMetadata()).ok());
  const auto bytes = ReadBytes(folder / "a.sdq");
  CHECK((*writer)->bytes_written() == bytes.size());
  const auto file = SdqFile::Parse(bytes, "a.sdq");
  REQUIRE(file.ok());
  CHECK(file->VerifyAll().ok());
  CHECK(file->alignment() == alignment);
  for (const auto& section : file->sections()) {
    CHECK(section.offset % alignment == 0);
    if (section.kind != format::SectionKind::kBitstream) continue;
    CHECK(file->file_bytes() - section.offset - section.bytes >= format::kReadSlack);
  }
}

TEST_CASE("a file of metadata only is legal") {
  const auto bytes = EmptyFileBytes();
  const auto file = SdqFile::Parse(bytes, "empty");
  REQUIRE(file.ok());
  CHECK(file->tensors().empty());
  CHECK(file->VerifyAll().ok());
}

TEST_CASE("equal contents give equal bytes") { CHECK(EmptyFileBytes() == EmptyFileBytes()); }

}  // namespace
}  // namespace sdq::test
