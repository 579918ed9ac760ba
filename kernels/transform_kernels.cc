#include "kernels/transform_kernels.h"

#include <algorithm>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/transform_kernels.cc"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h before any use of Highway.
#include "hwy/highway.h"
#include "kernels/dispatch.h"
#include "kernels/reference.h"
#include "kernels/transform_kernels-inl.h"

#if HWY_ONCE
namespace sdq::kernels {
namespace {
HWY_EXPORT(TransformTable);
}  // namespace

const TransformKernels& ActiveTransformKernels() {
  if (ActiveExtension() == Extension::kReference) return ReferenceTransformKernels();
  return *HWY_DYNAMIC_DISPATCH(TransformTable)();
}

PolyphasePlan::PolyphasePlan(const MapSpec& spec)
    : p(spec.osr_num), q(spec.osr_den), lead(spec.lead) {
  // Weight o = Q h + i of a group ends at sample e = P h + floor((i + 1) P / Q) of it; tap t of it
  // lies at e - 1 - t, hence t = e - 1 - s for sample s.
  for (size_t s = 0; s < p; ++s) {
    begin.push_back(terms.size());
    for (size_t o = 0;; ++o) {
      const size_t end = p * (o / q) + (o % q + 1) * p / q;
      if (end < s + 1) continue;
      const size_t tap = end - 1 - s;
      if (tap >= spec.window) break;
      terms.push_back({static_cast<uint32_t>(o / q), static_cast<uint32_t>(o % q),
                       spec.taps[o % q * spec.window + tap]});
    }
  }
  begin.push_back(terms.size());
  PlanRuns();
}

void PolyphasePlan::PlanRuns() {
  constexpr size_t kMostCoefficients = size_t{1} << 15;
  fewest_terms = most_terms = begin[1] - begin[0];
  for (size_t s = 1; s < p; ++s) {
    fewest_terms = std::min(fewest_terms, begin[s + 1] - begin[s]);
    most_terms = std::max(most_terms, begin[s + 1] - begin[s]);
  }
  // A sample without terms has no first column.
  if (fewest_terms == 0 || p * most_terms * kRun > kMostCoefficients) return;
  first_column.resize(p);
  columns.resize(p * kRun);
  coefficients.assign(p * most_terms * kRun, std::numeric_limits<float>::quiet_NaN());
  const auto column_of = [&](size_t sample) {
    const Term& term = terms[begin[sample % p]];
    return static_cast<int32_t>(q * (sample / p + term.ahead) + term.phase);
  };
  for (size_t s = 0; s < p; ++s) {
    first_column[s] = column_of(s);
    for (size_t i = 0; i < kRun; ++i) {
      const size_t from = begin[(s + i) % p], to = begin[(s + i) % p + 1];
      columns[s * kRun + i] = column_of(s + i) - column_of(s);
      for (size_t j = from; j < to; ++j) {
        coefficients[(s * most_terms + j - from) * kRun + i] = terms[j].coefficient;
      }
    }
  }
}

}  // namespace sdq::kernels
#endif  // HWY_ONCE
