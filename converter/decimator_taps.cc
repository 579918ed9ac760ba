#include "converter/decimator_taps.h"

#include <fmt/format.h>

#include <algorithm>

#include "converter/encoder.h"

namespace sdq::converter {
namespace {

constexpr LearnedTaps kLearned[] = {
#include "converter/learned_taps.inc"
};

// The defaults of binary streams (README.md, "The second method", has the measurements).
constexpr uint32_t kShortWindow = 8;
constexpr uint32_t kMiddleWindow = 10;
constexpr uint32_t kLongWindow = 12;
constexpr double kMiddleFrom = 3;
constexpr double kLongFrom = 4;
constexpr uint32_t kTernaryWindow = 5;  // 3^5 states, about as many as 2^8

uint32_t LettersOf(format::Alphabet alphabet) {
  return alphabet == format::Alphabet::kBinary ? 2 : 3;
}

uint32_t WindowOr(uint32_t window, format::Alphabet alphabet, Rate rate) {
  return window == kWindowByRate ? WindowOfRate(alphabet, rate) : window;
}

}  // namespace

std::span<const LearnedTaps> AllLearnedTaps() { return kLearned; }

uint32_t WindowOfRate(format::Alphabet alphabet, Rate rate) {
  if (alphabet != format::Alphabet::kBinary) return kTernaryWindow;
  if (rate.osr() >= kLongFrom) return kLongWindow;
  return rate.osr() >= kMiddleFrom ? kMiddleWindow : kShortWindow;
}

const LearnedTaps* FindLearnedTaps(format::Alphabet alphabet, Rate rate, uint32_t window,
                                   bool derived) {
  const uint32_t letters = LettersOf(alphabet);
  const uint32_t wanted = WindowOr(window, alphabet, rate);
  for (const LearnedTaps& entry : kLearned) {
    if (entry.letters == letters && entry.window == wanted && (derived || entry.derived == 0) &&
        uint64_t(entry.osr_num) * rate.den == uint64_t(rate.num) * entry.osr_den) {
      return &entry;
    }
  }
  return nullptr;
}

std::vector<Rate> LearnedRates(format::Alphabet alphabet, uint32_t window) {
  const uint32_t letters = LettersOf(alphabet);
  std::vector<Rate> rates;
  for (const LearnedTaps& entry : kLearned) {
    const Rate rate{entry.osr_num, entry.osr_den};
    // A rate that has a derived stream has an entry without one, too.
    if (entry.letters == letters && entry.window == WindowOr(window, alphabet, rate) &&
        entry.derived == 0) {
      rates.push_back(rate);
    }
  }
  std::sort(rates.begin(), rates.end(),
            [](const Rate& a, const Rate& b) { return a.osr() < b.osr(); });
  return rates;
}

Result<format::DecimatorSpec> LearnedDecimator(format::Alphabet alphabet, uint32_t osr_num,
                                               uint32_t osr_den, uint32_t window, bool derived) {
  if (osr_num == 0 || osr_den == 0) return Status::InvalidArgument("an OSR of zero");
  const Rate rate{osr_num, osr_den};
  if (const LearnedTaps* entry = FindLearnedTaps(alphabet, rate, window, derived)) {
    format::DecimatorSpec spec;
    spec.kind = format::DecimatorKind::kPolyphase;
    spec.osr_num = entry->osr_num;
    spec.osr_den = entry->osr_den;
    spec.window = entry->window;
    spec.derived = entry->derived;
    spec.taps = entry->taps;
    return spec;
  }
  return Status::NotFound(fmt::format("no {} taps were learned for OSR {}/{} with a window of {}",
                                      LettersOf(alphabet) == 2 ? "binary" : "ternary", osr_num,
                                      osr_den, WindowOr(window, alphabet, rate)));
}

}  // namespace sdq::converter
