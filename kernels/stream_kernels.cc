#include "kernels/stream_kernels.h"

// The tables are kept in classes, which cannot hold vectors of scalable length: machines with SVE
// run the NEON kernels, with the same results.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

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
  if (HasExtension(Extension::kGfni)) {
    kernels.nibble_token = kernels.nibble_token_gfni;
    kernels.derived_token = kernels.derived_token_gfni;
  }
  if (HasExtension(Extension::kVbmi)) {
    kernels.nibbles = VbmiNibbles();
    kernels.trits = VbmiTrits();
    kernels.arrange_trits = VbmiArrangeTrits();
    kernels.most_tokens = kMostSegmentTokens;
    if (VbmiDerive() != nullptr) {
      kernels.derive = VbmiDerive();
      kernels.derived_token = VbmiDerivedToken();
    }
    kernels.nibble_token = VbmiNibbleToken();
    kernels.trit_token = VbmiTritToken();
  }
  if (HasExtension(Extension::kAmx)) {
    kernels.tile_nibbles = AmxNibbles();
    kernels.arrange_tile_nibbles = AmxArrangeNibbles();
  }
#endif
  return kernels;
}

TableProduct TableProductOf(Packing packing, size_t tokens, TableForm form) {
  const StreamKernels kernels = ActiveStreamKernels();
  if (packing == Packing::kTernaryPacked) {
    return {kernels.trits, kernels.arrange_trits, kernels.most_tokens};
  }
  const bool wanted = form == TableForm::kTiles && tokens >= kLeastTileTokens;
  if (wanted && packing == Packing::kBinary && kernels.tile_nibbles != nullptr) {
    return {kernels.tile_nibbles, kernels.arrange_tile_nibbles, kMostTileTokens};
  }
  return {kernels.nibbles, nullptr, kernels.most_tokens};
}

TokenProduct TokenProductOf(Packing packing, bool derived) {
  const StreamKernels kernels = ActiveStreamKernels();
  if (packing == Packing::kTernaryPacked) return kernels.trit_token;
  return derived ? kernels.derived_token : kernels.nibble_token;
}

}  // namespace sdq::kernels
#endif  // HWY_ONCE
