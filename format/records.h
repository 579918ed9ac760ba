// The fixed-size records of the container, field by field as FORMAT.md lists them, and their codec.
//
// Decoding a record checks what the record alone can show; relations between records are the
// reader's business. Reserved fields must be zero.
#ifndef SDQ_FORMAT_RECORDS_H_
#define SDQ_FORMAT_RECORDS_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "format/byte_codec.h"
#include "format/layout.h"
#include "format/status.h"

namespace sdq::format {

struct FileHeader {
  uint16_t major = kVersionMajor;
  uint16_t minor = kVersionMinor;
  uint64_t file_bytes = 0;
  uint32_t alignment = kDefaultAlignment;
  uint32_t compatible_flags = 0;
  uint32_t required_flags = 0;
  uint64_t section_table_offset = 0;
  uint32_t section_count = 0;
  uint64_t section_table_checksum = 0;
};

struct SectionInfo {
  SectionKind kind = SectionKind::kMetadata;
  uint64_t offset = 0;
  uint64_t bytes = 0;     // without the padding to the alignment
  uint64_t checksum = 0;  // XXH3-64
};

// Enumerations stay numbers here: the reader maps them, and refuses what it does not know.
struct TensorRecord {
  std::string name;
  uint16_t kind = 0;
  uint16_t dense_type = 0;
  uint32_t rows = 0;
  uint32_t columns = 0;
  uint32_t data_section = kNoSection;
  uint32_t scales_section = kNoSection;
  uint32_t means_section = kNoSection;
  uint32_t bias_section = kNoSection;
  float scale_base = 1.0f;
  float mean_base = 1.0f;
  uint8_t alphabet = 0;
  uint8_t granularity = 0;
  uint8_t rotation = 0;
  uint32_t rotation_block = 0;
  uint32_t decimator = kNoSection;
  uint64_t sign_seed = 0;
  uint64_t row_samples = 0;
};

struct DecimatorRecord {
  uint32_t kind = 0;
  uint32_t osr_num = 0;
  uint32_t osr_den = 0;
  uint32_t window = 0;
  uint32_t lead = 0;
  uint32_t block = 0;
  uint32_t taps_section = kNoSection;
  uint32_t derived = 0;
};

// "metadata", "tensor table", ...: for messages and listings.
const char* SectionKindName(SectionKind kind);

// kHeaderBytes bytes, with the header's own checksum.
std::vector<uint8_t> EncodeHeader(const FileHeader& header);
// `bytes` is the file, or at least its beginning. Checks magic, byte order, version, header size,
// checksum, flags, alignment, in this order.
Result<FileHeader> DecodeHeader(std::span<const uint8_t> bytes);

void AppendSection(const SectionInfo& section, ByteSink* sink);
Result<SectionInfo> DecodeSection(const uint8_t* at);

void AppendTensor(const TensorRecord& record, ByteSink* sink);
Result<TensorRecord> DecodeTensor(const uint8_t* at);

void AppendDecimator(const DecimatorRecord& record, ByteSink* sink);
Result<DecimatorRecord> DecodeDecimator(const uint8_t* at);

}  // namespace sdq::format

#endif  // SDQ_FORMAT_RECORDS_H_
