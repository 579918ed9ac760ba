#include "format/file_size.h"

#include <algorithm>

namespace sdq::format {
namespace {

constexpr uint64_t kHalfBytes = 2;
constexpr uint64_t kFloatBytes = 4;

}  // namespace

void FileSizeCounter::AddSection(uint64_t bytes) {
  if (bytes == 0) return;
  aligned_bytes_ += AlignUp(bytes, alignment_);
  ++sections_;
}

void FileSizeCounter::AddDense(DenseType type, uint32_t rows, uint32_t columns, bool has_bias) {
  ++tensors_;
  AddSection(DenseBytes(type, rows, columns));
  if (type == DenseType::kQ8) AddSection(kHalfBytes * rows);
  if (has_bias) AddSection(kFloatBytes * rows);
}

void FileSizeCounter::AddStream(const DecimatorSpec& decimator, Alphabet alphabet, uint32_t rows,
                                uint32_t columns, ScaleGranularity granularity, bool has_means,
                                bool has_bias) {
  ++tensors_;
  if (std::find(decimators_.begin(), decimators_.end(), decimator) == decimators_.end()) {
    decimators_.push_back(decimator);
    AddSection(kFloatBytes * decimator.taps.size());
  }
  const uint64_t blocks =
      granularity == ScaleGranularity::kBlock ? BlockCount(decimator, columns) : 1;
  const uint64_t bits = BitstreamBytes(decimator, alphabet, rows, columns);
  const uint64_t scales = kHalfBytes * rows * blocks;
  AddSection(bits);
  AddSection(scales);
  if (has_means) AddSection(scales);
  if (has_bias) AddSection(kFloatBytes * rows);
  stream_bytes_ += bits + scales + (has_means ? scales : 0);
}

uint64_t FileSizeCounter::FileBytes(uint64_t metadata_bytes) const {
  FileSizeCounter whole = *this;
  whole.AddSection(metadata_bytes);
  whole.AddSection(decimators_.size() * kDecimatorRecordBytes);
  whole.AddSection(tensors_ * kTensorRecordBytes);
  return AlignUp(kHeaderBytes, alignment_) + whole.aligned_bytes_ +
         whole.sections_ * kSectionEntryBytes;
}

}  // namespace sdq::format
