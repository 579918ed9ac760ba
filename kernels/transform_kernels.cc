#include "kernels/transform_kernels.h"

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
      span = o / q > span ? o / q : span;
    }
  }
  begin.push_back(terms.size());
}

}  // namespace sdq::kernels
#endif  // HWY_ONCE
