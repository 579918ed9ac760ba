#include "kernels/stream_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/stream_kernels.cc"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h before any use of Highway.
#include "hwy/highway.h"
#include "kernels/dispatch.h"
#include "kernels/reference.h"
#include "kernels/stream_kernels-inl.h"

#if HWY_ONCE
namespace sdq::kernels {
namespace {
HWY_EXPORT(StreamTable);
}  // namespace

StreamKernels ActiveStreamKernels() {
  if (ActiveExtension() == Extension::kReference) return ReferenceStreamKernels();
  StreamKernels kernels = *HWY_DYNAMIC_DISPATCH(StreamTable)();
#if defined(__x86_64__)
  if (ActiveExtension() == Extension::kVbmi) {
    kernels.nibbles = VbmiNibbles();
    kernels.trits = VbmiTrits();
  }
#endif
  return kernels;
}

}  // namespace sdq::kernels
#endif  // HWY_ONCE
