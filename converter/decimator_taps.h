// The frozen decimators of the second method, and how they were found.
//
// Each entry was learned by sdq-learn-taps (tools/learn_taps.cc): alternate the trellis search over
// independent Gaussian samples of unit variance with least squares for the taps, from many random
// starts. Below OSR 1.75 a linear map of the samples alone falls short most, so binary rates there
// have an entry with a derived stream (format/tensor.h) and one without, which decodes faster. To
// add a rate, run the program and put its output into learned_taps.inc.
#ifndef SDQ_CONVERTER_DECIMATOR_TAPS_H_
#define SDQ_CONVERTER_DECIMATOR_TAPS_H_

#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "converter/rate.h"
#include "format/layout.h"

namespace sdq::converter {

struct LearnedTaps {
  uint32_t letters;  // 2 or 3
  uint32_t osr_num;  // P/Q in lowest terms
  uint32_t osr_den;
  uint32_t window;                    // L
  double squared_error;               // mean, on Gaussian samples of unit variance
  std::initializer_list<float> taps;  // [Q][PhaseTaps], newest sample first
  uint32_t derived = 0;               // DecimatorSpec::derived
};

// All entries, ordered by derived or not, letters, window, OSR.
std::span<const LearnedTaps> AllLearnedTaps();

// What a window of kWindowByRate (rate.h) means for a rate. The more samples a weight brings, the
// fewer survivors are left of as many states: high rates need longer windows for the same distance
// from the bound, and have little work per state.
uint32_t WindowOfRate(format::Alphabet alphabet, Rate rate);

// The entry of a rate, in any terms, with a derived stream if that is allowed and there is one;
// null if there is none.
const LearnedTaps* FindLearnedTaps(format::Alphabet alphabet, Rate rate, uint32_t window,
                                   bool derived = true);

// The rates P/Q that taps were learned for, rising. Also for kWindowByRate.
std::vector<Rate> LearnedRates(format::Alphabet alphabet, uint32_t window);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_DECIMATOR_TAPS_H_
