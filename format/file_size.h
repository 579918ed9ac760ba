// The size of a file before it is written: what SdqWriter will make of the same tensors, in any
// order.
#ifndef SDQ_FORMAT_FILE_SIZE_H_
#define SDQ_FORMAT_FILE_SIZE_H_

#include <cstdint>
#include <vector>

#include "format/layout.h"
#include "format/tensor.h"

namespace sdq::format {

class FileSizeCounter {
 public:
  explicit FileSizeCounter(uint32_t alignment = kDefaultAlignment) : alignment_(alignment) {}

  void AddDense(DenseType type, uint32_t rows, uint32_t columns, bool has_bias);
  // Legal decimators only (ValidateDecimator).
  void AddStream(const DecimatorSpec& decimator, Alphabet alphabet, uint32_t rows, uint32_t columns,
                 ScaleGranularity granularity, bool has_means, bool has_bias);

  // All of the file, with metadata that encode to so many bytes.
  uint64_t FileBytes(uint64_t metadata_bytes) const;

  // Of the sections of the streams alone, without padding: samples, scales, means.
  uint64_t stream_bytes() const { return stream_bytes_; }

 private:
  void AddSection(uint64_t bytes);
  uint32_t alignment_;
  uint64_t aligned_bytes_ = 0;  // of sections, each with the padding behind it
  uint64_t sections_ = 0;
  uint64_t tensors_ = 0;
  uint64_t stream_bytes_ = 0;
  std::vector<DecimatorSpec> decimators_;
};

}  // namespace sdq::format

#endif  // SDQ_FORMAT_FILE_SIZE_H_
