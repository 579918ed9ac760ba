// Bytes of the file that Convert() will write, known before it runs.
#ifndef SDQ_CONVERTER_FILE_PLAN_H_
#define SDQ_CONVERTER_FILE_PLAN_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/pipeline.h"
#include "converter/rate.h"
#include "format/file_size.h"
#include "format/status.h"

namespace sdq::converter {

class FilePlan {
 public:
  // `options` but for their rates must be those of the conversion. Reads the tokenizer, no weights.
  // The checkpoint must outlive the plan.
  static Result<FilePlan> Create(const Checkpoint& checkpoint, const ConvertOptions& options);

  struct Bytes {
    uint64_t file = 0;
    uint64_t streams = 0;  // of the layers: samples, scales, means; what bits per weight counts
  };
  // One rate per linear of the layers. Embeddings and head are as the options say, or as `rates`
  // does (kEightBitRows: 8-bit rows).
  Result<Bytes> BytesOf(const std::vector<NamedRate>& rates) const;

  // Of all parameters of the checkpoint at two bytes each.
  static uint64_t HalfPrecisionBytes(const Checkpoint& checkpoint);

 private:
  FilePlan(const Checkpoint& checkpoint, const ConvertOptions& options)
      : checkpoint_(&checkpoint), options_(options) {}

  // None: a dense tensor, as the options say.
  std::optional<Rate> RateOf(const TensorShape& shape,
                             const std::map<std::string, Rate>& rates) const;

  const Checkpoint* checkpoint_;
  ConvertOptions options_;
  uint64_t metadata_bytes_ = 0;
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_FILE_PLAN_H_
