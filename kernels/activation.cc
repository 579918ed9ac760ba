#include "kernels/activation.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "kernels/parallel.h"
#include "kernels/segment_rounding.h"
#include "kernels/stream_kernels.h"
#include "kernels/table_layout.h"

namespace sdq::kernels {
namespace {

// Samples of a row from which a token is worth sharing between threads: about ten microseconds.
constexpr size_t kWorthSharing = 8000;

size_t PaddedFloats(size_t n) { return (n + 15) / 16 * 16; }

// D of one block of `columns` columns.
std::vector<float> BlockMatrix(MapSpec spec, size_t columns) {
  spec.columns = columns;
  spec.block = 0;
  return DecimatorMatrix(spec);
}

// `samples` values and zeros behind them, up to `padded`: u itself where nothing is to be padded.
const float* Padded(const float* u, size_t samples, size_t padded, float* copy) {
  if (samples == padded) return u;
  std::copy(u, u + samples, copy);
  std::fill(copy + samples, copy + padded, 0.0f);
  return copy;
}

// Tables of one segment; returns its scale.
float NibbleSegmentTables(const TransformKernels& kernels, const float* u, const Segment& segment,
                          TableArrangement arrange, uint8_t* tables) {
  float copy[kSegmentSamples + kNibbleGroupSamples];
  const size_t groups = Groups(segment.bytes), padded = groups * kNibbleGroupSamples;
  u = Padded(u, segment.samples, padded, copy);
  const SegmentRounding rounding(LargestMagnitude(kernels.largest_of_fours(u, padded / 4)));
  if (rounding.inverse == 0.0f) {
    std::memset(tables, 128, groups * kNibbleGroupBytes);
  } else {
    kernels.nibble_tables(u, rounding.inverse, groups, tables);
  }
  if (arrange != nullptr) arrange(groups, tables);
  return rounding.scale;
}

float TritSegmentTables(const TransformKernels& kernels, const float* u, const Segment& segment,
                        TableArrangement arrange, uint8_t* tables) {
  float copy[kSegmentSamplesPacked + kTritGroupSamples];
  const size_t groups = Groups(segment.bytes), padded = groups * kTritGroupSamples;
  u = Padded(u, segment.samples, padded, copy);
  const SegmentRounding rounding(LargestMagnitude(kernels.largest_of_fives(u, padded / 5)));
  if (rounding.inverse == 0.0f) {
    std::memset(tables, 128, groups * kTritGroupBytes);
  } else {
    kernels.trit_tables(u, rounding.inverse, groups, tables);
  }
  if (arrange != nullptr) arrange(groups, tables);
  return rounding.scale;
}

// 8-bit values of a segment, cut into planes: byte 8 k + b holds bit b of the samples of stream
// byte k. Returns the scale.
float SegmentPlanes(const float* u, const Segment& segment, size_t samples_per_byte,
                    uint8_t* planes) {
  float v[kSegmentSamples];
  std::copy(u, u + segment.samples, v);
  LargestMagnitude largest;
  for (size_t i = 0; i < segment.samples; ++i) largest.Add(Magnitude(v[i]));
  const SegmentRounding rounding(largest);
  rounding.Scale(v, segment.samples);
  std::memset(planes, 0, SegmentPlaneBytes(segment.bytes));
  int32_t sum = 0;
  for (size_t i = 0; i < segment.samples; ++i) {
    const uint32_t biased = std::bit_cast<uint32_t>(v[i] + kRoundAndBias) & 255u;
    const uint32_t value = biased ^ 128u;  // two's complement
    sum += static_cast<int32_t>(biased) - 128;
    uint8_t* byte = planes + kPlaneHeaderBytes + 8 * (i / samples_per_byte);
    const size_t bit = i % samples_per_byte;
    for (size_t b = 0; b < 8; ++b) byte[b] = uint8_t(byte[b] | ((value >> b & 1u) << bit));
  }
  std::memcpy(planes, &sum, sizeof(sum));
  return rounding.scale;
}

// Sixteen interleaved partial sums, then a tree: the order is part of the definition.
float OrderedSum(const float* u, size_t n) {
  float lanes[16] = {};
  for (; n >= 16; n -= 16, u += 16) {
    for (size_t lane = 0; lane < 16; ++lane) lanes[lane] += u[lane];
  }
  for (size_t lane = 0; lane < n; ++lane) lanes[lane] += u[lane];
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// Sums of u over the decimator blocks, behind the scales. (No means with a derived stream.)
void StoreBlockSums(const StreamLayout& layout, const float* u, float* sums) {
  const std::vector<Segment>& segments = layout.segments;
  std::fill(sums, sums + layout.blocks, 0.0f);
  for (size_t s = 0; s < segments.size();) {
    const size_t first = s;
    while (s < segments.size() && segments[s].block == segments[first].block) ++s;
    const size_t end = segments[s - 1].first_sample + segments[s - 1].samples;
    sums[segments[first].block] =
        OrderedSum(u + segments[first].first_sample, end - segments[first].first_sample);
  }
}

}  // namespace

ActivationMap::ActivationMap(MapSpec spec)
    : spec_(std::move(spec)),
      layout_(spec_),
      rotation_(spec_.columns, spec_.rotation_block, spec_.sign_seed),
      int8_plan_(spec_),
      derived_maps_(spec_.derived) {
  if (spec_.decimator == Decimator::kPolyphase) polyphase_ = PolyphasePlan(StoredPart(spec_));
  if (spec_.derived != 0) derived_polyphase_ = PolyphasePlan(DerivedPart(spec_));
  if (spec_.decimator == Decimator::kIdealLowPass && spec_.columns != 0) {
    const size_t block = spec_.block == 0 ? spec_.columns : spec_.block;
    const size_t tail = spec_.columns % block;
    if (spec_.columns >= block) low_pass_ = BlockMatrix(spec_, block);
    if (tail != 0) low_pass_tail_ = BlockMatrix(spec_, tail);
  }
  table_bytes_ = plane_bytes_ = TableHeaderBytes(layout_);
  for (const Segment& segment : layout_.segments) {
    table_offsets_.push_back(table_bytes_);
    plane_offsets_.push_back(plane_bytes_);
    table_bytes_ += SegmentTableBytes(spec_.packing, segment.bytes);
    plane_bytes_ += SegmentPlaneBytes(segment.bytes);
  }
  plane_bytes_ = (plane_bytes_ + 63) / 64 * 64;
}

void ActivationMap::InterpolateSegment(size_t s, const float* rotated, float* u) const {
  const TransformKernels& kernels = ActiveTransformKernels();
  const Segment& segment = layout_.segments[s];
  const size_t block = spec_.block == 0 ? spec_.columns : spec_.block;
  const size_t first = segment.position;
  const float* v = rotated + segment.block * block;
  const size_t columns = std::min(block, spec_.columns - segment.block * block);
  switch (spec_.decimator) {
    case Decimator::kIdentity:
      std::copy(v + first, v + first + segment.samples, u);
      break;
    case Decimator::kPolyphase:
      kernels.polyphase(segment.derived ? derived_polyphase_ : polyphase_, v, columns, first,
                        segment.samples, u);
      if (segment.derived && first == 0) {  // these reach before the start
        std::fill_n(u, std::min<size_t>(DerivedReach(spec_), segment.samples), 0.0f);
      }
      break;
    case Decimator::kIdealLowPass: {
      const std::vector<float>& d = columns == block ? low_pass_ : low_pass_tail_;
      const size_t samples = d.size() / columns;
      kernels.weighted_rows(d.data() + first, samples, v, 1, columns, segment.samples, u);
      break;
    }
  }
}

void ActivationMap::Interpolate(const float* x, float* u, float* scratch) const {
  Rotate(x, scratch);
  for (size_t s = 0; s < layout_.segments.size(); ++s) {
    InterpolateSegment(s, scratch, u + layout_.segments[s].first_sample);
  }
}

size_t ActivationMap::scratch_bytes() const {
  return (PaddedFloats(spec_.columns) + PaddedFloats(layout_.u_samples)) * sizeof(float);
}

void ActivationMap::PrepareSegment(size_t s, const float* u, bool planes, TableArrangement arrange,
                                   uint8_t* token) const {
  const TransformKernels& kernels = ActiveTransformKernels();
  const Segment& segment = layout_.segments[s];
  const bool packed = spec_.packing == Packing::kTernaryPacked;
  float& scale = reinterpret_cast<float*>(token)[s];
  if (planes) {
    scale = SegmentPlanes(u, segment, packed ? 5 : 8, token + plane_offsets_[s]);
    return;
  }
  uint8_t* at = token + table_offsets_[s];
  scale = packed ? TritSegmentTables(kernels, u, segment, arrange, at)
                 : NibbleSegmentTables(kernels, u, segment, arrange, at);
  // Two planes: (sum over plus - sum over minus) / 2.
  if (spec_.packing == Packing::kTernaryPlanes) scale *= 0.5f;
}

void ActivationMap::Prepare(const float* x, size_t tokens, size_t x_stride, bool planes,
                            TableForm form, uint8_t* out, uint8_t* scratch) const {
  const size_t out_bytes = planes ? plane_bytes() : table_bytes();
  const size_t segments = layout_.segments.size();
  const TableArrangement arrange = TableProductOf(spec_.packing, tokens, form).arrange;
  const auto rotated_of = [&](size_t thread) {
    return reinterpret_cast<float*>(scratch + thread * scratch_bytes());
  };
  const auto u_of = [&](size_t slot) { return rotated_of(slot) + PaddedFloats(spec_.columns); };
  // u has all samples only if somebody sums them: else one segment's place serves all of them and
  // stays in the first cache.
  const auto prepare = [&](size_t s, const float* rotated, float* u, size_t t) {
    if (spec_.block_sums) u += layout_.segments[s].first_sample;
    InterpolateSegment(s, rotated, u);
    PrepareSegment(s, u, planes, arrange, out + t * out_bytes);
  };
  const auto finish = [&](const float* u, size_t t) {
    float* sums = reinterpret_cast<float*>(out + t * out_bytes) + segments;
    if (spec_.block_sums) {
      StoreBlockSums(layout_, u, sums);
    } else {
      std::fill(sums, sums + layout_.blocks, 0.0f);
    }
  };
  if (tokens >= Threads() || layout_.u_samples < kWorthSharing) {
    ParallelFor(tokens, 1, [&](size_t begin, size_t end, size_t thread) {
      for (size_t t = begin; t < end; ++t) {
        Rotate(x + t * x_stride, rotated_of(thread));
        for (size_t s = 0; s < segments; ++s) prepare(s, rotated_of(thread), u_of(thread), t);
        finish(u_of(thread), t);
      }
    });
    return;
  }
  // Fewer tokens than threads: threads share a token's segments. Each rotates the token for itself,
  // which takes no longer than waiting for another thread to do it.
  std::vector<size_t> rotated_token(Threads(), tokens);
  ParallelFor(tokens * segments, 1, [&](size_t begin, size_t end, size_t thread) {
    for (size_t i = begin; i < end; ++i) {
      const size_t t = i / segments;
      if (rotated_token[thread] != t) {
        Rotate(x + t * x_stride, rotated_of(thread));
        rotated_token[thread] = t;
      }
      prepare(i % segments, rotated_of(thread), u_of(spec_.block_sums ? t : thread), t);
    }
  });
  for (size_t t = 0; t < tokens; ++t) finish(u_of(t), t);
}

void ActivationMap::PrepareTables(const float* x, size_t tokens, size_t x_stride, TableForm form,
                                  uint8_t* tables, uint8_t* scratch) const {
  Prepare(x, tokens, x_stride, false, form, tables, scratch);
}

void ActivationMap::PreparePlanes(const float* x, size_t tokens, size_t x_stride, uint8_t* planes,
                                  uint8_t* scratch) const {
  Prepare(x, tokens, x_stride, true, TableForm::kLookUp, planes, scratch);
}

}  // namespace sdq::kernels
