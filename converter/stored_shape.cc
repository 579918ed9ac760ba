#include "converter/stored_shape.h"

#include <algorithm>
#include <numeric>

#include "converter/dense_tensor.h"

namespace sdq::converter {

const TableStorage* TableStorageOf(const ConvertOptions& options, const std::string& name) {
  if (options.method == Method::kFloat) return nullptr;
  if (name == "embed.tokens") return &options.embeddings;
  return name == "head" ? &options.head : nullptr;
}

format::DenseType StoredDenseType(const Checkpoint& checkpoint, const ConvertOptions& options,
                                  const TensorShape& shape) {
  if (shape.rows == 1) return format::DenseType::kF32;
  const TableStorage* table = TableStorageOf(options, shape.name);
  if (table != nullptr && table->type == TableType::kQ8) return format::DenseType::kQ8;
  return DenseTypeFromName(checkpoint.StoredType(shape.name));
}

Result<StreamShape> DescribeStream(const ConvertOptions& options, uint32_t columns, Rate rate) {
  StreamShape shape;
  shape.rotation.kind = format::RotationKind::kHadamard;
  shape.rotation.sign_seed = options.seed;
  if (options.method == Method::kTrellis) {
    SDQ_ASSIGN_OR_RETURN(shape.decimator, LearnedDecimator(options.alphabet, rate.num, rate.den,
                                                           options.window, options.derived));
    shape.decimator.lead = FreeLead(shape.decimator, options.alphabet, columns);
    shape.rotation.block = columns;
  } else {
    const uint32_t divisor = std::gcd(rate.num, rate.den);
    shape.decimator.kind = format::DecimatorKind::kIdealLowPass;
    shape.decimator.osr_num = rate.num / divisor;
    shape.decimator.osr_den = rate.den / divisor;
    shape.decimator.block = std::min(options.published.block, columns);
    shape.rotation.block = shape.decimator.block;
    shape.granularity = format::ScaleGranularity::kBlock;
    shape.has_means = true;
  }
  SDQ_RETURN_IF_ERROR(format::ValidateDecimator(shape.decimator, columns));
  SDQ_RETURN_IF_ERROR(format::ValidateRotation(shape.rotation, columns));
  return shape;
}

}  // namespace sdq::converter
