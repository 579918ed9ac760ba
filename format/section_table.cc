#include "format/section_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "format/checksum.h"

namespace sdq::format {
namespace {

Status CheckTablePlace(const FileHeader& header, uint64_t file_bytes) {
  if (header.file_bytes != file_bytes) {
    return Status::Corrupt(fmt::format("the file has {} bytes, its header says {}{}", file_bytes,
                                       header.file_bytes,
                                       file_bytes < header.file_bytes ? ": it was cut short" : ""));
  }
  if (header.section_count < 1 || header.section_count > kMaxSections) {
    return Status::Corrupt(
        fmt::format("{} sections: must be from 1 to {}", header.section_count, kMaxSections));
  }
  const uint64_t table_bytes = uint64_t{header.section_count} * kSectionEntryBytes;
  if (header.section_table_offset > file_bytes ||
      file_bytes - header.section_table_offset != table_bytes) {
    return Status::Corrupt(fmt::format(
        "the section table at byte {} with {} bytes does not end with the file at byte {}",
        header.section_table_offset, table_bytes, file_bytes));
  }
  return Status::Ok();
}

}  // namespace

std::span<const uint8_t> SectionBytes(const SectionInfo& section, std::span<const uint8_t> file) {
  return file.subspan(size_t(section.offset), size_t(section.bytes));
}

std::string SectionTitle(const std::vector<SectionInfo>& sections, size_t index) {
  return fmt::format("section {} ({})", index, SectionKindName(sections[index].kind));
}

Result<std::vector<SectionInfo>> ReadSectionTable(const FileHeader& header,
                                                  std::span<const uint8_t> file) {
  SDQ_RETURN_IF_ERROR(CheckTablePlace(header, file.size()));
  const std::span<const uint8_t> table = file.subspan(size_t(header.section_table_offset));
  if (Checksum(table) != header.section_table_checksum) {
    return Status::Corrupt("the section table does not match its checksum");
  }
  std::vector<SectionInfo> sections;
  sections.reserve(header.section_count);
  uint64_t end = kHeaderBytes;  // of what lies before the section
  for (uint32_t i = 0; i < header.section_count; ++i) {
    Result<SectionInfo> decoded = DecodeSection(table.data() + i * kSectionEntryBytes);
    if (!decoded.ok()) {
      return std::move(decoded).status().Annotate(fmt::format("section {}", i));
    }
    sections.push_back(*decoded);
    const SectionInfo& section = sections.back();
    if (const uint64_t expected = AlignUp(end, header.alignment); section.offset != expected) {
      return Status::Corrupt(
          fmt::format("{} starts at byte {}, expected {}: sections must neither "
                      "overlap nor leave holes",
                      SectionTitle(sections, i), section.offset, expected));
    }
    if (section.bytes == 0) {
      return Status::Corrupt(fmt::format("{} is empty", SectionTitle(sections, i)));
    }
    if (section.offset > header.section_table_offset ||
        section.bytes > header.section_table_offset - section.offset) {
      return Status::Corrupt(fmt::format("{} of {} bytes at byte {} reaches behind byte {}",
                                         SectionTitle(sections, i), section.bytes, section.offset,
                                         header.section_table_offset));
    }
    end = section.offset + section.bytes;
  }
  if (AlignUp(end, header.alignment) != header.section_table_offset) {
    return Status::Corrupt(fmt::format("the section table starts at byte {}, expected {}",
                                       header.section_table_offset,
                                       AlignUp(end, header.alignment)));
  }
  return sections;
}

Status VerifySection(const std::vector<SectionInfo>& sections, size_t index,
                     std::span<const uint8_t> file) {
  const uint64_t computed = Checksum(SectionBytes(sections[index], file));
  if (computed == sections[index].checksum) return Status::Ok();
  return Status::Corrupt(fmt::format("{} at byte {}: checksum is {:016x}, the bytes give {:016x}",
                                     SectionTitle(sections, index), sections[index].offset,
                                     sections[index].checksum, computed));
}

Status VerifyPadding(const FileHeader& header, const std::vector<SectionInfo>& sections,
                     std::span<const uint8_t> file) {
  uint64_t end = kHeaderBytes;
  for (size_t i = 0; i <= sections.size(); ++i) {
    const uint64_t next = i < sections.size() ? sections[i].offset : header.section_table_offset;
    const auto gap = file.subspan(size_t(end), size_t(next - end));
    const auto bad = std::find_if(gap.begin(), gap.end(), [](uint8_t byte) { return byte != 0; });
    if (bad != gap.end()) {
      return Status::Corrupt(
          fmt::format("padding at byte {} is not zero", end + uint64_t(bad - gap.begin())));
    }
    if (i < sections.size()) end = sections[i].offset + sections[i].bytes;
  }
  return Status::Ok();
}

}  // namespace sdq::format
