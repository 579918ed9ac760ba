#include "kernels/stream_layout.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

namespace sdq::kernels {
namespace {

size_t BlockSamplesOf(const MapSpec& spec, size_t columns) {
  const size_t samples = columns * spec.osr_num / spec.osr_den;
  return spec.decimator == Decimator::kPolyphase ? spec.lead + samples : samples;
}

// A polyphase decimator of the `window` taps of every phase from number `first` on.
MapSpec PartOf(const MapSpec& spec, size_t first, uint32_t window) {
  MapSpec part = spec;
  part.derived = 0;
  part.window = window;
  part.taps.clear();
  const size_t phase_taps = 2 * size_t{spec.window} - DerivedReach(spec);
  for (size_t p = 0; p < spec.osr_den; ++p) {
    const auto taps = spec.taps.begin() + std::ptrdiff_t(p * phase_taps + first);
    part.taps.insert(part.taps.end(), taps, taps + window);
  }
  return part;
}

size_t BytesOf(Packing packing, size_t samples) {
  return packing == Packing::kTernaryPacked ? (samples + 4) / 5 : (samples + 7) / 8;
}

// 1 + 2 sum_{f=1..F} cos(f theta) with theta = 2 pi t / period: the Dirichlet kernel. Angles are
// reduced as integers, so that long blocks lose no accuracy.
double Dirichlet(uint64_t t, uint64_t period, uint64_t highest) {
  if (t == 0) return double(2 * highest + 1);
  const uint64_t turn = (2 * highest + 1) * t % (2 * period);
  return std::sin(std::numbers::pi * double(turn) / double(period)) /
         std::sin(std::numbers::pi * double(t) / double(period));
}

// Resampling of `samples` values to `length` by cutting the spectrum (scipy.signal.resample): the
// common bins are kept; the last one of an even common length, which stands for one bin on one side
// and two on the other, is doubled or halved.
void FillLowPass(size_t length, size_t samples, float* d, size_t stride) {
  const uint64_t period = uint64_t{length} * samples;
  const size_t common = std::min(length, samples);
  const uint64_t highest = (common - 1) / 2;
  const double edge_weight = length == samples ? 1.0 : length < samples ? 2.0 : 1.0;
  for (size_t c = 0; c < length; ++c) {
    for (size_t j = 0; j < samples; ++j) {
      // c / length - j / samples, in units of 1 / period.
      const uint64_t t = (uint64_t{c} * samples + period - uint64_t{j} * length) % period;
      double sum = Dirichlet(t, period, highest);
      if (common % 2 == 0) {
        const uint64_t bin = common / 2;
        const double on_columns =
            std::cos(2 * std::numbers::pi * double(bin * c % length) / double(length));
        const double on_samples =
            std::cos(2 * std::numbers::pi * double(bin * j % samples) / double(samples));
        sum += edge_weight * on_columns * on_samples;
      }
      d[c * stride + j] = static_cast<float>(sum / double(samples));
    }
  }
}

void FillPolyphase(const MapSpec& spec, size_t length, float* d, size_t stride) {
  for (size_t i = 0; i < length; ++i) {
    const size_t end = spec.lead + (i + 1) * spec.osr_num / spec.osr_den;
    const float* taps = spec.taps.data() + (i % spec.osr_den) * spec.window;
    for (size_t k = 0; k < std::min<size_t>(spec.window, end); ++k) {
      d[i * stride + end - 1 - k] = taps[k];
    }
  }
}

// A derived stream's columns are those of a decimator of its own; its first samples would reach
// before the start and count as zero.
void FillDerived(const MapSpec& spec, size_t length, size_t samples, float* d, size_t stride) {
  FillPolyphase(StoredPart(spec), length, d, stride);
  FillPolyphase(DerivedPart(spec), length, d + samples, stride);
  const size_t reach = std::min(DerivedReach(spec), samples);
  for (size_t i = 0; i < length; ++i) std::fill_n(d + i * stride + samples, reach, 0.0f);
}

}  // namespace

StreamLayout::StreamLayout(const MapSpec& spec) {
  // A derived stream is one block: ValidateDecimator.
  planes = spec.packing == Packing::kTernaryPlanes ? 2 : 1;
  const size_t block_columns = spec.block == 0 ? spec.columns : spec.block;
  blocks = block_columns == 0 ? 0 : (spec.columns + block_columns - 1) / block_columns;
  const size_t most =
      spec.packing == Packing::kTernaryPacked ? kSegmentSamplesPacked : kSegmentSamples;
  for (size_t b = 0; b < blocks; ++b) {
    const size_t columns = std::min(block_columns, spec.columns - b * block_columns);
    const size_t samples = BlockSamplesOf(spec, columns);
    for (size_t at = 0; at < samples; at += most) {
      const size_t count = std::min(most, samples - at);
      const size_t bytes = BytesOf(spec.packing, count);
      segments.push_back({uint32_t(b), uint32_t(row_samples + at), uint32_t(at), uint32_t(count),
                          uint32_t(row_bytes), uint32_t(bytes), false});
      if (spec.derived != 0) {
        segments.push_back({uint32_t(b), uint32_t(samples + at), uint32_t(at), uint32_t(count),
                            uint32_t(row_bytes), uint32_t(bytes), true});
      }
      row_bytes += bytes;
    }
    row_samples += samples;
  }
  u_samples = spec.derived != 0 ? 2 * row_samples : row_samples;
}

size_t DerivedReach(const MapSpec& spec) {
  return spec.derived == 0 ? 0 : size_t(std::bit_width(spec.derived)) - 1;
}

MapSpec StoredPart(const MapSpec& spec) {
  return spec.derived == 0 ? spec : PartOf(spec, 0, spec.window);
}

MapSpec DerivedPart(const MapSpec& spec) {
  return PartOf(spec, spec.window, uint32_t(spec.window - DerivedReach(spec)));
}

std::vector<float> DecimatorMatrix(const MapSpec& spec) {
  const StreamLayout layout(spec);
  const size_t stride = layout.u_samples;
  std::vector<float> d(spec.columns * stride, 0.0f);
  const size_t block_columns = spec.block == 0 ? spec.columns : spec.block;
  size_t first_sample = 0;
  for (size_t column = 0; column < spec.columns; column += block_columns) {
    const size_t length = std::min(block_columns, spec.columns - column);
    const size_t samples = BlockSamplesOf(spec, length);
    float* block = d.data() + column * stride + first_sample;
    switch (spec.decimator) {
      case Decimator::kIdentity:
        for (size_t i = 0; i < length; ++i) block[i * stride + i] = 1.0f;
        break;
      case Decimator::kPolyphase:
        if (spec.derived != 0) {
          FillDerived(spec, length, samples, block, stride);
        } else {
          FillPolyphase(spec, length, block, stride);
        }
        break;
      case Decimator::kIdealLowPass:
        FillLowPass(length, samples, block, stride);
        break;
    }
    first_sample += samples;
  }
  return d;
}

}  // namespace sdq::kernels
