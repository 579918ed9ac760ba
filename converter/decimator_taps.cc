#include "converter/decimator_taps.h"

#include <fmt/format.h>

#include <numeric>

#include "converter/encoder.h"

namespace sdq::converter {
namespace {

// clang-format off
constexpr LearnedTaps kLearned[] = {
  {2, 1, 1, 8, 0.3540, {0.5874f, 0.4053f, -0.2938f, 0.0986f, -0.0891f, 0.1172f, -0.1499f, 0.1631f}},
  {2, 5, 4, 8, 0.2420, {0.6169f, 0.4333f, -0.5254f, -0.1110f, -0.0499f, 0.1036f, -0.0652f, 0.1257f,
    0.7736f, 0.3218f, -0.2009f, 0.2324f, -0.1062f, -0.1364f, 0.2346f, -0.1434f,
    0.7863f, -0.0861f, 0.2981f, -0.0363f, 0.1979f, 0.1706f, 0.2023f, -0.2413f,
    0.6693f, 0.5705f, 0.0949f, -0.2133f, 0.1637f, -0.2221f, 0.1169f, -0.2750f}},
  {2, 3, 2, 8, 0.1680, {0.6746f, 0.4818f, -0.4960f, 0.0799f, -0.0288f, 0.1447f, -0.0104f, 0.0760f,
    0.6168f, 0.5084f, -0.1784f, 0.0588f, -0.2905f, -0.3674f, 0.2891f, -0.2442f}},
  {2, 2, 1, 8, 0.0830, {0.7355f, 0.4699f, 0.2603f, 0.0909f, -0.0899f, 0.2977f, 0.3017f, -0.4395f}},
  {2, 5, 2, 8, 0.0448, {0.7356f, 0.3846f, 0.3263f, -0.5825f, 0.2798f, -0.0543f, 0.3382f, 0.0139f,
    0.7375f, 0.5590f, 0.3498f, -0.3026f, -0.1848f, 0.1389f, -0.1892f, 0.4061f}},
  {2, 3, 1, 8, 0.0219, {0.6968f, 0.4614f, 0.2460f, 0.1739f, -0.2780f, -0.6059f, 0.2818f, -0.2083f}},
  {2, 4, 1, 8, 0.0067, {0.9279f, 0.5604f, 0.3005f, 0.1594f, -0.1436f, 0.1098f, 0.2318f, 0.3717f}},
  {2, 1, 1, 10, 0.3520, {0.7049f, 0.2159f, -0.2324f, 0.0368f, -0.1131f, 0.1121f, -0.0361f, 0.1774f, -0.1438f, 0.1586f}},
  {2, 3, 2, 10, 0.1620, {0.6753f, 0.4369f, -0.2979f, -0.1183f, -0.0182f, -0.0022f, -0.2356f, 0.2774f, -0.3912f, 0.0016f,
    0.5275f, 0.6689f, -0.3006f, 0.1633f, 0.1794f, 0.1640f, -0.2091f, 0.0710f, -0.2414f, 0.2781f}},
  {2, 2, 1, 10, 0.0797, {0.7798f, 0.4258f, -0.0800f, -0.2499f, -0.0784f, 0.1828f, -0.0283f, 0.3761f, -0.2023f, 0.3059f}},
  {2, 5, 2, 10, 0.0413, {0.6849f, 0.4280f, 0.2133f, -0.5131f, 0.3439f, 0.0892f, 0.2752f, -0.0488f, 0.2700f, -0.2819f,
    0.7474f, 0.4945f, 0.3312f, 0.1852f, -0.0857f, 0.2739f, -0.1874f, -0.3198f, -0.2785f, 0.2118f}},
  {2, 3, 1, 10, 0.0216, {0.7160f, 0.4481f, 0.2271f, 0.0928f, -0.2278f, -0.5518f, 0.3210f, -0.1365f, -0.2809f, -0.0756f}},
  {2, 2, 1, 12, 0.0777, {0.7452f, 0.4588f, -0.1009f, 0.2202f, 0.0503f, -0.3513f, -0.1172f, 0.1578f, 0.1735f, -0.2667f, 0.2546f, -0.1860f}},
};
// clang-format on

}  // namespace

std::span<const LearnedTaps> AllLearnedTaps() { return kLearned; }

Result<format::DecimatorSpec> LearnedDecimator(format::Alphabet alphabet, uint32_t osr_num,
                                               uint32_t osr_den, uint32_t window) {
  if (osr_num == 0 || osr_den == 0) return Status::InvalidArgument("an OSR of zero");
  const uint32_t divisor = std::gcd(osr_num, osr_den);
  const uint32_t letters = alphabet == format::Alphabet::kBinary ? 2 : 3;
  for (const LearnedTaps& entry : kLearned) {
    if (entry.letters != letters || entry.window != window || entry.osr_num != osr_num / divisor ||
        entry.osr_den != osr_den / divisor) {
      continue;
    }
    format::DecimatorSpec spec;
    spec.kind = format::DecimatorKind::kPolyphase;
    spec.osr_num = entry.osr_num;
    spec.osr_den = entry.osr_den;
    spec.window = window;
    spec.taps = entry.taps;
    return spec;
  }
  return Status::NotFound(fmt::format("no {} taps were learned for OSR {}/{} with a window of {}",
                                      letters == 2 ? "binary" : "ternary", osr_num, osr_den,
                                      window));
}

}  // namespace sdq::converter
