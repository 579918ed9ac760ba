// From samples back to weights: the decimator in the direction that the stored bits are meant.
// Not on the path of a product (that is what the identity q . (D^T x) = (D q) . x is for).
#include <algorithm>

#include "kernels/activation.h"

namespace sdq::kernels {
namespace {

// The first `count` of a phase's `stride` taps, from number `first` on, where they do not reach
// before sample `begin`.
struct TapRange {
  size_t stride, first, count, begin;
};

// w[i] += in double precision, so that stored and derived parts add up exactly rounded once.
void AddPolyphase(const MapSpec& spec, const TapRange& range, const float* samples, size_t columns,
                  double* w) {
  // end = lead + floor((i + 1) P / Q) and the phase i mod Q, without a division for each column.
  const size_t whole = spec.osr_num / spec.osr_den, part = spec.osr_num % spec.osr_den;
  size_t end = spec.lead, remainder = 0, phase = 0;
  for (size_t i = 0; i < columns; ++i) {
    remainder += part;
    const bool carry = remainder >= spec.osr_den;
    if (carry) remainder -= spec.osr_den;
    end += whole + (carry ? 1 : 0);
    const float* taps = spec.taps.data() + phase * range.stride + range.first;
    if (++phase == spec.osr_den) phase = 0;
    const size_t terms = std::min(range.count, end - std::min(range.begin, end));
    double sum = w[i];
    for (size_t k = 0; k < terms; ++k) sum += double(taps[k]) * double(samples[end - 1 - k]);
    w[i] = sum;
  }
}

// samples: `count` stored ones, then, if there is a derived stream, as many derived ones.
void DecimatePolyphase(const MapSpec& spec, const float* samples, size_t count, size_t columns,
                       float* w) {
  const size_t reach = DerivedReach(spec);
  const size_t derived = spec.derived != 0 ? spec.window - reach : 0;
  const size_t stride = spec.window + derived;
  std::vector<double> sums(columns, 0.0);
  AddPolyphase(spec, {stride, 0, spec.window, 0}, samples, columns, sums.data());
  if (spec.derived != 0) {
    const TapRange range{stride, spec.window, derived, reach};
    AddPolyphase(spec, range, samples + count, columns, sums.data());
  }
  for (size_t i = 0; i < columns; ++i) w[i] = static_cast<float>(sums[i]);
}

void DecimateDense(const std::vector<float>& d, const float* samples, size_t count, size_t columns,
                   float* w) {
  for (size_t c = 0; c < columns; ++c) {
    double sum = 0.0;
    for (size_t j = 0; j < count; ++j) sum += double(d[c * count + j]) * double(samples[j]);
    w[c] = static_cast<float>(sum);
  }
}

}  // namespace

void ActivationMap::Decimate(const float* samples, float* w) const {
  const size_t block = spec_.block == 0 ? spec_.columns : spec_.block;
  const std::vector<Segment>& segments = layout_.segments;
  for (size_t s = 0; s < segments.size();) {
    const size_t b = segments[s].block, first = segments[s].first_sample;
    while (s < segments.size() && segments[s].block == b) ++s;
    const size_t count = segments[s - 1].position + segments[s - 1].samples;
    const size_t columns = std::min(block, spec_.columns - b * block);
    float* out = w + b * block;
    switch (spec_.decimator) {
      case Decimator::kIdentity:
        std::copy(samples + first, samples + first + count, out);
        break;
      case Decimator::kPolyphase:
        DecimatePolyphase(spec_, samples + first, count, columns, out);
        break;
      case Decimator::kIdealLowPass:
        DecimateDense(columns == block ? low_pass_ : low_pass_tail_, samples + first, count,
                      columns, out);
        break;
    }
  }
  rotation_.Inverse(w);
}

}  // namespace sdq::kernels
