#include "converter/decimator_taps.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "converter/encoder.h"

namespace sdq::converter {
namespace {

constexpr LearnedTaps kLearned[] = {
#include "converter/learned_taps.inc"
};

}  // namespace

std::span<const LearnedTaps> AllLearnedTaps() { return kLearned; }

std::vector<Rate> LearnedRates(format::Alphabet alphabet, uint32_t window) {
  const uint32_t letters = alphabet == format::Alphabet::kBinary ? 2 : 3;
  std::vector<Rate> rates;
  for (const LearnedTaps& entry : kLearned) {
    if (entry.letters == letters && entry.window == window) {
      rates.push_back({entry.osr_num, entry.osr_den});
    }
  }
  std::sort(rates.begin(), rates.end(),
            [](const Rate& a, const Rate& b) { return a.osr() < b.osr(); });
  return rates;
}

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
