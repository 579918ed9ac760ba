// Which instruction set runs. Every vector kernel is compiled for all targets that Highway knows
// for this architecture and chosen at run time; tests force each of them in turn.
#ifndef SDQ_KERNELS_DISPATCH_H_
#define SDQ_KERNELS_DISPATCH_H_

#include <string>
#include <string_view>
#include <vector>

namespace sdq::kernels {

// Names of the targets that this machine can run, best first, e.g. {"AVX3", "AVX2", "SSE4",
// "SSSE3", "SCALAR"}. "SCALAR" is always last: the plain reference code, the oracle of the tests.
// Extensions that Highway lacks have names of their own, before the target they extend (e.g.
// "AVX3_VBMI", and before it "AVX3_AMX"; "AVX2_GFNI").
std::vector<std::string> AvailableTargets();

// The target in use. The environment variable SDQ_TARGET forces one by name when the program
// starts; a name that is unknown or cannot run here is ignored (compare with this function).
std::string TargetName();

// Forces a target by name; empty = back to the best. False if it is unknown or cannot run here.
// Not thread safe: call it between products, not during one.
bool ForceTarget(std::string_view name);

// For the kernels: code beyond what Highway chooses. kReference is the target "SCALAR".
// kAmx has all that kVbmi has.
enum class Extension { kNone, kReference, kGfni, kVbmi, kAmx };
Extension ActiveExtension();
inline bool HasExtension(Extension wanted) {
  const Extension active = ActiveExtension();
  return active == wanted || (wanted == Extension::kVbmi && active == Extension::kAmx);
}

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_DISPATCH_H_
