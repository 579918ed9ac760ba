// The section table of a file: where everything lies.
#ifndef SDQ_FORMAT_SECTION_TABLE_H_
#define SDQ_FORMAT_SECTION_TABLE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "format/records.h"
#include "format/status.h"

namespace sdq::format {

// Reads the table that `header` points to and checks its checksum and the file's geometry: each
// section starts at the first aligned byte after the one before it, the table at the first aligned
// byte after the last, and the file ends with the table. `file` is the whole file.
Result<std::vector<SectionInfo>> ReadSectionTable(const FileHeader& header,
                                                  std::span<const uint8_t> file);

// The bytes of a section that ReadSectionTable accepted.
std::span<const uint8_t> SectionBytes(const SectionInfo& section, std::span<const uint8_t> file);

// "section 3 (scales)"
std::string SectionTitle(const std::vector<SectionInfo>& sections, size_t index);

// kCorrupt if the bytes of section `index` do not give its checksum.
Status VerifySection(const std::vector<SectionInfo>& sections, size_t index,
                     std::span<const uint8_t> file);

// kCorrupt if a byte between the header, the sections and the table is not zero.
Status VerifyPadding(const FileHeader& header, const std::vector<SectionInfo>& sections,
                     std::span<const uint8_t> file);

}  // namespace sdq::format

#endif  // SDQ_FORMAT_SECTION_TABLE_H_
