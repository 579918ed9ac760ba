#include "runtime/linear.h"

#include <algorithm>
#include <array>

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

void ForwardAll(std::span<const LinearOutput> outputs, PreparedInput& input) {
  constexpr size_t kTogether = 4;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Linear& linear = *outputs[i].linear;
    if (!linear.is_stream()) {
      Forward(linear, input, outputs[i].y, outputs[i].y_stride);
      continue;
    }
    const auto same_map = [&](const LinearOutput& o) { return o.linear->map == linear.map; };
    const auto here = outputs.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::any_of(outputs.begin(), here, same_map)) continue;  // done with the first of them
    std::array<kernels::StreamOutput, kTogether> streams;
    size_t count = 0;
    const auto run = [&] {
      kernels::StreamProducts({streams.data(), count}, *linear.map, input.Tables(*linear.map),
                              input.tokens());
      count = 0;
    };
    for (const LinearOutput& o : outputs.subspan(i)) {
      if (!same_map(o)) continue;
      streams[count++] = {&o.linear->stream, o.y, o.y_stride};
      if (count == kTogether) run();
    }
    if (count > 0) run();
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
