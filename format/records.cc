#include "format/records.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "format/checksum.h"

namespace sdq::format {
namespace {

constexpr size_t kHeaderChecksumAt = kHeaderBytes - 8;

bool AllZero(const uint8_t* begin, size_t count) {
  return std::all_of(begin, begin + count, [](uint8_t byte) { return byte == 0; });
}

Status CheckMagic(std::span<const uint8_t> bytes) {
  if (bytes.size() < kHeaderBytes) {
    return Status::Corrupt(fmt::format("not an .sdq file, or cut short: {} bytes, a header has {}",
                                       bytes.size(), kHeaderBytes));
  }
  if (std::memcmp(bytes.data(), kMagic, sizeof(kMagic)) == 0) return Status::Ok();
  if (std::memcmp(bytes.data(), kMagic, 3) == 0) {
    return Status::Corrupt(
        "the magic bytes are damaged (a transfer in text mode changes line ends; copy the file in "
        "binary mode)");
  }
  return Status::Corrupt("not an .sdq file: magic bytes missing");
}

Status CheckVersion(const uint8_t* at) {
  const auto mark = LoadLe<uint32_t>(at + 24);
  if (mark == 0x01020304u) {
    return Status::Unsupported(
        "the file is in big-endian byte order; .sdq files are little endian on every machine: "
        "convert the checkpoint again");
  }
  if (mark != kByteOrderMark) {
    return Status::Corrupt(
        fmt::format("byte order mark is {:#010x}, expected {:#010x}", mark, kByteOrderMark));
  }
  const auto major = LoadLe<uint16_t>(at + 8);
  if (major != kVersionMajor) {
    return Status::Unsupported(fmt::format("format version {}.{}; this build reads {}.x", major,
                                           LoadLe<uint16_t>(at + 10), kVersionMajor));
  }
  if (const auto size = LoadLe<uint32_t>(at + 12); size != kHeaderBytes) {
    return Status::Corrupt(fmt::format("header size {}, expected {}", size, kHeaderBytes));
  }
  return Status::Ok();
}

}  // namespace

const char* SectionKindName(SectionKind kind) {
  switch (kind) {
    case SectionKind::kMetadata:
      return "metadata";
    case SectionKind::kTensorTable:
      return "tensor table";
    case SectionKind::kDecimatorTable:
      return "decimator table";
    case SectionKind::kTaps:
      return "taps";
    case SectionKind::kDense:
      return "dense";
    case SectionKind::kBitstream:
      return "bitstream";
    case SectionKind::kScales:
      return "scales";
    case SectionKind::kMeans:
      return "means";
    case SectionKind::kBias:
      return "bias";
  }
  return "unknown";
}

std::vector<uint8_t> EncodeHeader(const FileHeader& header) {
  ByteSink sink;
  for (const uint8_t byte : kMagic) sink.Append(byte);
  sink.Append(header.major);
  sink.Append(header.minor);
  sink.Append(uint32_t{kHeaderBytes});
  sink.Append(header.file_bytes);
  sink.Append(kByteOrderMark);
  sink.Append(header.alignment);
  sink.Append(header.compatible_flags);
  sink.Append(header.required_flags);
  sink.Append(header.section_table_offset);
  sink.Append(header.section_count);
  sink.Append(uint32_t{0});
  sink.Append(header.section_table_checksum);
  sink.AppendZeros(kHeaderChecksumAt - sink.size());
  sink.Append(Checksum(sink.bytes()));
  return std::move(sink).Take();
}

Result<FileHeader> DecodeHeader(std::span<const uint8_t> bytes) {
  SDQ_RETURN_IF_ERROR(CheckMagic(bytes));
  const uint8_t* at = bytes.data();
  SDQ_RETURN_IF_ERROR(CheckVersion(at));
  const auto stored = LoadLe<uint64_t>(at + kHeaderChecksumAt);
  const uint64_t computed = Checksum(bytes.first(kHeaderChecksumAt));
  if (stored != computed) {
    return Status::Corrupt(
        fmt::format("header checksum is {:016x}, the bytes give {:016x}", stored, computed));
  }
  FileHeader header;
  header.major = LoadLe<uint16_t>(at + 8);
  header.minor = LoadLe<uint16_t>(at + 10);
  header.file_bytes = LoadLe<uint64_t>(at + 16);
  header.alignment = LoadLe<uint32_t>(at + 28);
  header.compatible_flags = LoadLe<uint32_t>(at + 32);
  header.required_flags = LoadLe<uint32_t>(at + 36);
  header.section_table_offset = LoadLe<uint64_t>(at + 40);
  header.section_count = LoadLe<uint32_t>(at + 48);
  header.section_table_checksum = LoadLe<uint64_t>(at + 56);
  if (const uint32_t unknown = header.required_flags & ~kKnownRequiredFlags; unknown != 0) {
    return Status::Unsupported(fmt::format(
        "the file needs features that this build does not know (required flags {:#x})", unknown));
  }
  // A later minor version may give meaning to reserved bytes that older readers can ignore.
  if (header.minor <= kVersionMinor &&
      (!AllZero(at + 52, 4) || !AllZero(at + 64, kHeaderChecksumAt - 64))) {
    return Status::Corrupt("reserved bytes of the header are not zero");
  }
  if (!std::has_single_bit(header.alignment) || header.alignment < kMinAlignment ||
      header.alignment > kMaxAlignment) {
    return Status::Corrupt(fmt::format("alignment {} is not a power of two from {} to {}",
                                       header.alignment, kMinAlignment, kMaxAlignment));
  }
  return header;
}

void AppendSection(const SectionInfo& section, ByteSink* sink) {
  sink->Append(static_cast<uint32_t>(section.kind));
  sink->Append(uint32_t{0});
  sink->Append(section.offset);
  sink->Append(section.bytes);
  sink->Append(section.checksum);
}

Result<SectionInfo> DecodeSection(const uint8_t* at) {
  const auto kind = LoadLe<uint32_t>(at);
  if (kind < uint32_t(SectionKind::kMetadata) || kind > uint32_t(SectionKind::kBias)) {
    return Status::Unsupported(fmt::format("unknown section kind {}", kind));
  }
  if (!AllZero(at + 4, 4)) return Status::Corrupt("reserved bytes are not zero");
  return SectionInfo{static_cast<SectionKind>(kind), LoadLe<uint64_t>(at + 8),
                     LoadLe<uint64_t>(at + 16), LoadLe<uint64_t>(at + 24)};
}

void AppendTensor(const TensorRecord& record, ByteSink* sink) {
  const size_t begin = sink->size();
  sink->AppendText(record.name);
  sink->AppendZeros(kTensorNameBytes - record.name.size());
  sink->Append(record.kind);
  sink->Append(record.dense_type);
  sink->Append(record.rows);
  sink->Append(record.columns);
  sink->Append(record.data_section);
  sink->Append(record.scales_section);
  sink->Append(record.means_section);
  sink->Append(record.bias_section);
  sink->Append(record.scale_base);
  sink->Append(record.mean_base);
  sink->Append(record.alphabet);
  sink->Append(record.granularity);
  sink->Append(record.rotation);
  sink->Append(uint8_t{0});
  sink->Append(record.rotation_block);
  sink->Append(record.decimator);
  sink->Append(record.sign_seed);
  sink->Append(record.row_samples);
  sink->AppendZeros(kTensorRecordBytes - (sink->size() - begin));
}

Result<TensorRecord> DecodeTensor(const uint8_t* at) {
  TensorRecord record;
  const auto* name = reinterpret_cast<const char*>(at);
  const size_t length = ::strnlen(name, kTensorNameBytes);
  if (length == kTensorNameBytes) return Status::Corrupt("the name has no terminating NUL");
  if (!AllZero(at + length, kTensorNameBytes - length)) {
    return Status::Corrupt("bytes after the name's NUL are not zero");
  }
  record.name.assign(name, length);
  record.kind = LoadLe<uint16_t>(at + 64);
  record.dense_type = LoadLe<uint16_t>(at + 66);
  record.rows = LoadLe<uint32_t>(at + 68);
  record.columns = LoadLe<uint32_t>(at + 72);
  record.data_section = LoadLe<uint32_t>(at + 76);
  record.scales_section = LoadLe<uint32_t>(at + 80);
  record.means_section = LoadLe<uint32_t>(at + 84);
  record.bias_section = LoadLe<uint32_t>(at + 88);
  record.scale_base = LoadLe<float>(at + 92);
  record.mean_base = LoadLe<float>(at + 96);
  record.alphabet = at[100];
  record.granularity = at[101];
  record.rotation = at[102];
  record.rotation_block = LoadLe<uint32_t>(at + 104);
  record.decimator = LoadLe<uint32_t>(at + 108);
  record.sign_seed = LoadLe<uint64_t>(at + 112);
  record.row_samples = LoadLe<uint64_t>(at + 120);
  if (at[103] != 0 || !AllZero(at + 128, kTensorRecordBytes - 128)) {
    return Status::Corrupt("reserved bytes are not zero");
  }
  return record;
}

void AppendDecimator(const DecimatorRecord& record, ByteSink* sink) {
  const size_t begin = sink->size();
  sink->Append(record.kind);
  sink->Append(record.osr_num);
  sink->Append(record.osr_den);
  sink->Append(record.window);
  sink->Append(record.lead);
  sink->Append(record.block);
  sink->Append(record.taps_section);
  sink->Append(record.derived);
  sink->AppendZeros(kDecimatorRecordBytes - (sink->size() - begin));
}

Result<DecimatorRecord> DecodeDecimator(const uint8_t* at) {
  DecimatorRecord record;
  record.kind = LoadLe<uint32_t>(at);
  record.osr_num = LoadLe<uint32_t>(at + 4);
  record.osr_den = LoadLe<uint32_t>(at + 8);
  record.window = LoadLe<uint32_t>(at + 12);
  record.lead = LoadLe<uint32_t>(at + 16);
  record.block = LoadLe<uint32_t>(at + 20);
  record.taps_section = LoadLe<uint32_t>(at + 24);
  record.derived = LoadLe<uint32_t>(at + 28);
  if (!AllZero(at + 32, kDecimatorRecordBytes - 32)) {
    return Status::Corrupt("reserved bytes are not zero");
  }
  return record;
}

}  // namespace sdq::format
