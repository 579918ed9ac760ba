// How a tensor lies in the file under given options: what writers write and size plans count.
#ifndef SDQ_CONVERTER_STORED_SHAPE_H_
#define SDQ_CONVERTER_STORED_SHAPE_H_

#include <cstdint>
#include <string>

#include "converter/checkpoint.h"
#include "converter/pipeline.h"
#include "converter/rate.h"
#include "format/status.h"
#include "format/tensor.h"

namespace sdq::converter {

// How the options store "embed.tokens" or "head"; null for any other tensor, and for
// Method::kFloat, which keeps all.
const TableStorage* TableStorageOf(const ConvertOptions& options, const std::string& name);

// Type of a tensor that is not quantized to a bitstream.
format::DenseType StoredDenseType(const Checkpoint& checkpoint, const ConvertOptions& options,
                                  const TensorShape& shape);

// Everything about a linear's bitstream but its contents, as the encoder of options.method chooses
// it.
struct StreamShape {
  format::RotationSpec rotation;
  format::DecimatorSpec decimator;
  format::ScaleGranularity granularity = format::ScaleGranularity::kRow;
  bool has_means = false;
};
// kNotFound where no taps were learned for the rate. Not for Method::kFloat.
Result<StreamShape> DescribeStream(const ConvertOptions& options, uint32_t columns, Rate rate);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_STORED_SHAPE_H_
