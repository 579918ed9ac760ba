// Bytes in, validated views out.
//
// SdqFile::Parse checks the whole structure (header, checksums of header, metadata, tables and all
// small sections, bounds, no overlap, no holes, every tensor's derived sizes, every scale) before
// it returns; views of a parsed file need no further checks. Bitstreams and large matrices are not
// touched, so that opening does not read the weights: VerifyAll() reads and checks those too.
#ifndef SDQ_FORMAT_READER_H_
#define SDQ_FORMAT_READER_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "format/layout.h"
#include "format/metadata.h"
#include "format/records.h"
#include "format/status.h"
#include "format/tensor.h"

namespace sdq::format {

using TensorView = std::variant<DenseView, StreamView>;

// The byte ledger of one tensor: what sdq-info prints and bits per weight counts.
struct TensorBytes {
  uint64_t data = 0;  // bitstream or dense elements
  uint64_t scales = 0;
  uint64_t means = 0;
  uint64_t bias = 0;
  uint64_t total() const { return data + scales + means + bias; }
};

class SdqFile {
 public:
  // `bytes` is the whole file and must outlive the SdqFile and every view; its address must be a
  // multiple of 4 (64 is fast). `name` is for messages.
  // kCorrupt: the bytes violate FORMAT.md; kUnsupported: a version, flag or value of the future.
  static Result<SdqFile> Parse(std::span<const uint8_t> bytes, std::string name);

  const Metadata& metadata() const { return metadata_; }
  const std::vector<TensorView>& tensors() const { return tensors_; }
  // nullptr if there is none of that name.
  const TensorView* Find(std::string_view name) const;
  TensorBytes BytesOf(size_t tensor_index) const;
  const std::vector<SectionInfo>& sections() const { return sections_; }
  uint64_t file_bytes() const { return bytes_.size(); }
  uint32_t alignment() const { return alignment_; }
  uint16_t version_major() const { return major_; }
  uint16_t version_minor() const { return minor_; }
  const std::string& name() const { return name_; }

  // Reads everything: checksums of all sections, zero padding, packed trits.
  Status VerifyAll() const;

 private:
  Status ParseAll();
  std::span<const uint8_t> bytes_;
  std::string name_;
  uint16_t major_ = 0;
  uint16_t minor_ = 0;
  uint32_t alignment_ = 0;
  Metadata metadata_;
  std::vector<SectionInfo> sections_;
  std::vector<TensorView> tensors_;
  std::vector<TensorBytes> ledger_;
  std::vector<uint32_t> by_name_;  // indices of tensors_, sorted by name
};

}  // namespace sdq::format

#endif  // SDQ_FORMAT_READER_H_
