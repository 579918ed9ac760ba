// Float tensors on their way into a file: rounding to the stored type.
#ifndef SDQ_CONVERTER_DENSE_TENSOR_H_
#define SDQ_CONVERTER_DENSE_TENSOR_H_

#include <cstdint>
#include <string>
#include <vector>

#include "format/status.h"
#include "format/tensor.h"
#include "format/writer.h"

namespace sdq::converter {

// Rounds values[rows][columns] to `type` (kQ8: one scale per row, w = scale * round(w / scale)
// with scale = max |w| / 127) and adds the tensor. `bias` has `rows` entries or is empty.
Status WriteDense(format::SdqWriter& writer, const std::string& name, uint32_t rows,
                  uint32_t columns, const std::vector<float>& values, format::DenseType type,
                  const std::vector<float>& bias);

// "f32", "f16", "bf16" -> DenseType; anything else is kF32 (which holds it exactly).
format::DenseType DenseTypeFromName(const std::string& name);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_DENSE_TENSOR_H_
