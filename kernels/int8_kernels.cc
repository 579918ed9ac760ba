#include "kernels/int8_kernels.h"

#include "kernels/dispatch.h"

namespace sdq::kernels {

const Int8Kernels* ActiveInt8Kernels() {
  if (ActiveExtension() == Extension::kReference) return &ReferenceInt8Kernels();
#if defined(__x86_64__)
  if (ActiveExtension() == Extension::kAmx) return &AmxInt8Kernels();
  if (ActiveExtension() == Extension::kVbmi) return &VnniInt8Kernels();
#endif
  return nullptr;
}

}  // namespace sdq::kernels
