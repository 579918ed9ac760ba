#include "kernels/activation.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "kernels/parallel.h"
#include "kernels/segment_rounding.h"
#include "kernels/table_layout.h"

namespace sdq::kernels {
namespace {

size_t PaddedFloats(size_t n) { return (n + 15) / 16 * 16; }

// D of one block of `columns` columns.
std::vector<float> BlockMatrix(MapSpec spec, size_t columns) {
  spec.columns = columns;
  spec.block = 0;
  return DecimatorMatrix(spec);
}

float Magnitude(float x) { return std::bit_cast<float>(std::bit_cast<uint32_t>(x) & 0x7fffffffu); }

// Tables of one segment; returns its scale.
float NibbleSegmentTables(const TransformKernels& kernels, const float* u, const Segment& segment,
                          uint8_t* tables) {
  float v[kSegmentSamples + kNibbleGroupSamples] = {};
  std::copy(u, u + segment.samples, v);
  LargestMagnitude largest;
  for (size_t i = 0; i < segment.samples; i += 4) {
    largest.Add((Magnitude(v[i]) + Magnitude(v[i + 1])) +
                (Magnitude(v[i + 2]) + Magnitude(v[i + 3])));
  }
  const SegmentRounding rounding(largest);
  rounding.Scale(v, segment.samples);
  kernels.nibble_tables(v, Groups(segment.bytes), tables);
  return rounding.scale;
}

float TritSegmentTables(const TransformKernels& kernels, const float* u, const Segment& segment,
                        uint8_t* tables) {
  float v[kSegmentSamplesPacked + kTritGroupSamples] = {};
  std::copy(u, u + segment.samples, v);
  LargestMagnitude largest;
  for (size_t i = 0; i < segment.samples; i += 5) {
    largest.Add((Magnitude(v[i]) + Magnitude(v[i + 1])) + Magnitude(v[i + 2]));
    largest.Add(Magnitude(v[i + 3]) + Magnitude(v[i + 4]));
  }
  const SegmentRounding rounding(largest);
  rounding.Scale(v, segment.samples);
  kernels.trit_tables(v, Groups(segment.bytes), tables);
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
  for (size_t i = 0; i < n / 16 * 16; ++i) lanes[i % 16] += u[i];
  for (size_t i = n / 16 * 16; i < n; ++i) lanes[i % 16] += u[i];
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// Sums of u over the decimator blocks, behind the scales.
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
      rotation_(spec_.columns, spec_.rotation_block, spec_.sign_seed) {
  if (spec_.decimator == Decimator::kPolyphase) polyphase_ = PolyphasePlan(spec_);
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

void ActivationMap::Interpolate(const float* x, float* u, float* scratch) const {
  const TransformKernels& kernels = ActiveTransformKernels();
  std::copy(x, x + spec_.columns, scratch);
  rotation_.Apply(scratch);
  const size_t block = spec_.block == 0 ? spec_.columns : spec_.block;
  const std::vector<Segment>& segments = layout_.segments;
  for (size_t s = 0; s < segments.size();) {
    const size_t b = segments[s].block, first = segments[s].first_sample;
    while (s < segments.size() && segments[s].block == b) ++s;
    const size_t samples = segments[s - 1].first_sample + segments[s - 1].samples - first;
    const float* v = scratch + b * block;
    const size_t columns = std::min(block, spec_.columns - b * block);
    switch (spec_.decimator) {
      case Decimator::kIdentity:
        std::copy(v, v + samples, u + first);
        break;
      case Decimator::kPolyphase:
        kernels.polyphase(polyphase_, v, columns, u + first, samples);
        break;
      case Decimator::kIdealLowPass: {
        const std::vector<float>& d = columns == block ? low_pass_ : low_pass_tail_;
        kernels.weighted_rows(d.data(), samples, v, 1, columns, samples, u + first);
        break;
      }
    }
  }
}

size_t ActivationMap::scratch_bytes() const {
  return (PaddedFloats(spec_.columns) + PaddedFloats(layout_.row_samples)) * sizeof(float);
}

void ActivationMap::Prepare(const float* x, size_t tokens, size_t x_stride, bool planes,
                            uint8_t* out, uint8_t* scratch) const {
  const TransformKernels& kernels = ActiveTransformKernels();
  const size_t out_bytes = planes ? plane_bytes() : table_bytes();
  const bool packed = spec_.packing == Packing::kTernaryPacked;
  // Two planes: (sum over plus - sum over minus) / 2.
  const float plane_factor = !planes && spec_.packing == Packing::kTernaryPlanes ? 0.5f : 1.0f;
  ParallelFor(tokens, 1, [&](size_t begin, size_t end, size_t thread) {
    float* rotated = reinterpret_cast<float*>(scratch + thread * scratch_bytes());
    float* u = rotated + PaddedFloats(spec_.columns);
    for (size_t t = begin; t < end; ++t) {
      Interpolate(x + t * x_stride, u, rotated);
      uint8_t* token = out + t * out_bytes;
      float* scales = reinterpret_cast<float*>(token);
      StoreBlockSums(layout_, u, scales + layout_.segments.size());
      for (size_t s = 0; s < layout_.segments.size(); ++s) {
        const Segment& segment = layout_.segments[s];
        const float* from = u + segment.first_sample;
        if (planes) {
          scales[s] = SegmentPlanes(from, segment, packed ? 5 : 8, token + plane_offsets_[s]);
        } else {
          uint8_t* at = token + table_offsets_[s];
          scales[s] = plane_factor * (packed ? TritSegmentTables(kernels, from, segment, at)
                                             : NibbleSegmentTables(kernels, from, segment, at));
        }
      }
    }
  });
}

void ActivationMap::PrepareTables(const float* x, size_t tokens, size_t x_stride, uint8_t* tables,
                                  uint8_t* scratch) const {
  Prepare(x, tokens, x_stride, false, tables, scratch);
}

void ActivationMap::PreparePlanes(const float* x, size_t tokens, size_t x_stride, uint8_t* planes,
                                  uint8_t* scratch) const {
  Prepare(x, tokens, x_stride, true, planes, scratch);
}

}  // namespace sdq::kernels
