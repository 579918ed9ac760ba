// A quantized model without an encoder: random bitstreams in the shape of any checkpoint, written
// at the speed of the disk, for measuring the size and speed of models that nobody has trained.
#ifndef SDQ_CONVERTER_RANDOM_MODEL_H_
#define SDQ_CONVERTER_RANDOM_MODEL_H_

#include <string>

#include "converter/checkpoint.h"
#include "converter/pipeline.h"
#include "format/status.h"

namespace sdq::converter {

// Writes what Convert() would write for these options, in every name, shape, decimator, rotation,
// scale granularity and byte count, but for the samples, scales and means of the linears: those are
// random. Row scales are such that a product keeps about the power of its input, so that
// activations stay finite through any number of layers. Tensors outside the layers and all vectors
// come from `shape` (see random_checkpoint.h), rounded as Convert() would. Calibration is ignored,
// errors are reported as 0. Deterministic: same shape, options and seed give the same bytes for any
// number of threads. Method::kFloat has no bitstreams and is an error (kInvalidArgument): Convert()
// does it.
Result<ConvertReport> WriteRandomModel(const Checkpoint& shape, const ConvertOptions& options,
                                       const std::string& path, const ProgressCallback& progress);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_RANDOM_MODEL_H_
