#include "kernels/int8_kernels.h"

#include "kernels/dispatch.h"
#include "kernels/tile_session.h"

namespace sdq::kernels {

const Int8Kernels* ActiveInt8Kernels() {
  if (ActiveExtension() == Extension::kReference) return &ReferenceInt8Kernels();
#if defined(__x86_64__)
  if (ActiveExtension() == Extension::kVbmi) {
    return TileUnitGranted() ? &AmxInt8Kernels() : &VnniInt8Kernels();
  }
#endif
  return nullptr;
}

}  // namespace sdq::kernels
