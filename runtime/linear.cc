#include "runtime/linear.h"

namespace sdq {

void PreparedInput::SetInput(const float* x, size_t tokens, size_t stride) {
  x_ = x;
  tokens_ = tokens;
  stride_ = stride;
  prepared_for_ = nullptr;
}

const uint8_t* PreparedInput::Tables(const kernels::ActivationMap& map) {
  if (prepared_for_ != &map) {
    map.PrepareTables(x_, tokens_, stride_, tables_, scratch_);
    prepared_for_ = &map;
  }
  return tables_;
}

void Forward(const Linear& linear, PreparedInput& input, float* y, size_t y_stride) {
  if (linear.is_stream()) {
    kernels::StreamProduct(linear.stream, *linear.map, input.Tables(*linear.map), input.tokens(), y,
                           y_stride);
  } else {
    kernels::DenseProduct(linear.dense, input.x(), input.tokens(), input.stride(), y, y_stride);
  }
}

void Row(const Linear& linear, size_t r, float* out) {
  if (linear.is_stream()) {
    kernels::ReconstructRows(linear.stream, *linear.map, r, 1, out);
  } else {
    kernels::DenseRow(linear.dense, r, out);
  }
}

}  // namespace sdq
