#include "runtime/linear.h"

#include <algorithm>
#include <array>

#include "kernels/int8_product.h"

namespace sdq {

namespace {

constexpr size_t kTogether = 4;  // matrices of one region

using NextLinears = std::span<const Linear* const>;

// As far as they are streams with the first one's map.
void Announce(NextLinears next) {
  if (next.empty() || !next[0]->is_stream()) return;
  std::array<kernels::StreamOutput, kTogether> streams;
  size_t count = 0;
  for (const Linear* linear : next) {
    if (linear->map == next[0]->map && count < kTogether) streams[count++].matrix = &linear->stream;
  }
  kernels::AnnounceProducts({streams.data(), count}, *next[0]->map);
}

// Those behind `index` whose maps none has up to there: their products come next.
NextLinears OtherMaps(std::span<const LinearOutput> outputs, size_t index,
                      std::array<const Linear*, kTogether>& others) {
  size_t count = 0;
  const auto done = outputs.first(index + 1);
  for (const LinearOutput& output : outputs.subspan(index + 1)) {
    const bool known = std::any_of(done.begin(), done.end(), [&](const LinearOutput& o) {
      return o.linear->map == output.linear->map;
    });
    if (!known && count < kTogether) others[count++] = output.linear;
  }
  return {others.data(), count};
}

// Products of streams with one map; `next` come after them.
void StreamForward(std::span<const kernels::StreamOutput> outputs,
                   const kernels::ActivationMap& map, PreparedInput& input, NextLinears next) {
  if (input.UsesInt8(map)) {
    kernels::Int8Products(outputs, map, input.Int8(map), input.tokens(), input.scratch());
    return;
  }
  const size_t most = input.TableTokens(map);
  std::array<kernels::StreamOutput, kTogether> part;
  for (size_t first = 0; first < input.tokens(); first += most) {
    const size_t count = std::min(most, input.tokens() - first);
    std::transform(outputs.begin(), outputs.end(), part.begin(), [&](kernels::StreamOutput o) {
      o.y += first * o.y_stride;
      return o;
    });
    const uint8_t* tables = input.Tables(map, first, count);
    if (input.tokens() == 1) Announce(next);
    kernels::StreamProducts({part.data(), outputs.size()}, map, input.form(), tables, count);
  }
}

}  // namespace

bool PreparedInput::UsesInt8(const kernels::ActivationMap& map) const {
  return int8_ && memory_.int8 != nullptr && tokens_ >= kernels::kInt8LeastTokens &&
         kernels::Int8ProductsAvailable() && kernels::Int8Usable(map);
}

void PreparedInput::SetInput(const float* x, size_t tokens, size_t stride) {
  x_ = x;
  tokens_ = tokens;
  stride_ = stride;
  form_ = kernels::FasterTableForm(tokens);
  tables_ = int8_values_ = {};
}

size_t PreparedInput::TableTokens(const kernels::ActivationMap& map) const {
  const size_t most = memory_.table_bytes / std::max<size_t>(map.table_bytes(), 1);
  return std::clamp<size_t>(tokens_, 1, std::max<size_t>(most, 1));
}

const uint8_t* PreparedInput::Tables(const kernels::ActivationMap& map, size_t first,
                                     size_t count) {
  const Prepared wanted{&map, first, count};
  if (tables_ != wanted) {
    map.PrepareTables(x_ + first * stride_, count, stride_, form_, memory_.tables, memory_.scratch);
    tables_ = wanted;
  }
  return memory_.tables;
}

const uint8_t* PreparedInput::Int8(const kernels::ActivationMap& map) {
  const Prepared wanted{&map, 0, tokens_};
  if (int8_values_ != wanted) {
    kernels::PrepareInt8(map, x_, tokens_, stride_, memory_.int8, memory_.scratch);
    int8_values_ = wanted;
  }
  return memory_.int8;
}

void Forward(const Linear& linear, PreparedInput& input, float* y, size_t y_stride) {
  if (linear.is_stream()) {
    const kernels::StreamOutput output{&linear.stream, y, y_stride};
    StreamForward({&output, 1}, *linear.map, input, linear.next);
  } else {
    kernels::DenseProduct(linear.dense, input.x(), input.tokens(), input.stride(), y, y_stride);
  }
}

void ForwardAll(std::span<const LinearOutput> outputs, PreparedInput& input) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Linear& linear = *outputs[i].linear;
    if (!linear.is_stream()) {
      Forward(linear, input, outputs[i].y, outputs[i].y_stride);
      continue;
    }
    const auto same_map = [&](const LinearOutput& o) { return o.linear->map == linear.map; };
    const auto here = outputs.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::any_of(outputs.begin(), here, same_map)) continue;  // done with the first of them
    std::array<const Linear*, kTogether> others;
    const NextLinears rest = OtherMaps(outputs, i, others);
    const NextLinears next = rest.empty() ? linear.next : rest;
    std::array<kernels::StreamOutput, kTogether> streams;
    size_t count = 0;
    const auto run = [&] {
      StreamForward({streams.data(), count}, *linear.map, input, next);
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
