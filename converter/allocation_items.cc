// What MultiOSR needs to know of a checkpoint.
#include <charconv>
#include <cmath>
#include <string_view>

#include "converter/allocate.h"
#include "runtime/config.h"

namespace sdq::converter {
namespace {

// N of "layers.N.part". The names are ours (LayerTensorName): they always have that form.
uint32_t LayerOf(std::string_view name) {
  constexpr std::string_view kPrefix = "layers.";
  uint32_t layer = 0;
  if (name.starts_with(kPrefix)) {
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), layer);
  }
  return layer;
}

}  // namespace

double StandardDeviation(const float* values, size_t count) {
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += double(values[i]);
  const double mean = count > 0 ? sum / double(count) : 0.0;
  double squares = 0;
  for (size_t i = 0; i < count; ++i) {
    squares += (double(values[i]) - mean) * (double(values[i]) - mean);
  }
  return count > 0 ? std::sqrt(squares / double(count)) : 0.0;
}

Result<std::vector<AllocationItem>> ListAllocationItems(const Checkpoint& checkpoint) {
  std::vector<AllocationItem> items;
  std::vector<float> weights;
  for (const TensorShape& shape : ExpectedTensors(checkpoint.config())) {
    if (!shape.is_linear) continue;
    SDQ_RETURN_IF_ERROR(checkpoint.Read(shape.name, &weights));
    items.push_back({LayerOf(shape.name), shape.name, weights.size(),
                     StandardDeviation(weights.data(), weights.size())});
  }
  return items;
}

}  // namespace sdq::converter
