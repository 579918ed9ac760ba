// What a converted file says about itself.
#ifndef SDQ_CONVERTER_CONVERSION_METADATA_H_
#define SDQ_CONVERTER_CONVERSION_METADATA_H_

#include "converter/checkpoint.h"
#include "converter/pipeline.h"
#include "format/metadata.h"
#include "format/status.h"

namespace sdq::converter {

// Model, tokenizer, provenance: what the checkpoint alone decides.
Result<format::Metadata> CheckpointMetadata(const Checkpoint& checkpoint);

// The same, and how the linears of `report` were quantized. How many bytes it
// encodes to depends on the names of those linears, not on any number.
Result<format::Metadata> MakeMetadata(const Checkpoint& checkpoint, const ConvertOptions& options,
                                      const ConvertReport& report);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_CONVERSION_METADATA_H_
