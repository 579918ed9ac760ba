// From samples back to weights: the decimator in the direction that the stored bits are meant.
// Not on the path of a product (that is what the identity q . (D^T x) = (D q) . x is for).
#include <algorithm>

#include "kernels/activation.h"

namespace sdq::kernels {
namespace {

// samples: `count` stored ones, then, if there is a derived stream, as many derived ones.
void DecimatePolyphase(const MapSpec& spec, const float* samples, size_t count, size_t columns,
                       float* w) {
  const size_t reach = DerivedReach(spec);
  const size_t derived_taps = spec.derived != 0 ? spec.window - reach : 0;
  // end = lead + floor((i + 1) P / Q) and the phase i mod Q, without a division for each column.
  const size_t whole = spec.osr_num / spec.osr_den, part = spec.osr_num % spec.osr_den;
  size_t end = spec.lead, remainder = 0, phase = 0;
  for (size_t i = 0; i < columns; ++i) {
    remainder += part;
    const bool carry = remainder >= spec.osr_den;
    if (carry) remainder -= spec.osr_den;
    end += whole + (carry ? 1 : 0);
    const float* taps = spec.taps.data() + phase * (spec.window + derived_taps);
    if (++phase == spec.osr_den) phase = 0;
    const auto add = [&, newest = end - 1](size_t first, size_t terms, const float* from) {
      double sum = 0.0;
      for (size_t k = 0; k < terms; ++k) sum += double(taps[first + k]) * double(from[newest - k]);
      return sum;
    };
    double sum = add(0, std::min<size_t>(spec.window, end), samples);
    if (end > reach) sum += add(spec.window, std::min(derived_taps, end - reach), samples + count);
    w[i] = static_cast<float>(sum);
  }
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
