// Where a model file's bytes are, and how many of them one decoded token reads.
#ifndef SDQ_APPS_SUPPORT_MODEL_BYTES_H_
#define SDQ_APPS_SUPPORT_MODEL_BYTES_H_

#include <cstdint>

#include "format/reader.h"
#include "runtime/model.h"

namespace sdq::apps {

// Bytes of weights read per decoded token: every tensor of the layers, norms, projections and the
// head (the embedding matrix too when it is tied); one row of the look-up tables is neglected.
uint64_t WeightBytesPerToken(const Model& model);

// The whole file, cut into parts that add up to its size.
struct FileLedger {
  uint64_t header = 0;
  uint64_t metadata = 0;
  uint64_t tables = 0;  // section, tensor and decimator tables, taps
  uint64_t bitstreams = 0;
  uint64_t scales = 0;  // scales and means of the bitstreams
  uint64_t dense = 0;   // dense tensors with their scales
  uint64_t biases = 0;
  uint64_t padding = 0;  // alignment

  // Other views of the same bytes: samples, scales and means.
  struct Share {
    uint64_t bytes = 0;
    uint64_t weights = 0;
    double BitsPerWeight() const;  // 0 without weights
  };
  Share linears;  // the quantized linears of the layers
  Share rows;     // token embeddings and head, however they are stored
};
FileLedger MakeLedger(const format::SdqFile& file);

}  // namespace sdq::apps

#endif  // SDQ_APPS_SUPPORT_MODEL_BYTES_H_
