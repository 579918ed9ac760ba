// One choice per item, least total loss, total cost within a budget: the multiple-choice knapsack
// problem, which is what rates under a byte budget are.
//
// Lagrangian relaxation over the lower convex hulls gives a first choice and a lower bound of the
// loss (Everett 1963). Options whose reduced cost alone exceeds the gap between the two cannot be
// part of anything better; what remains is searched exactly by dynamic programming over
// undominated states (Dyer, Kayal and Walker 1984). Where those are too many to keep, the most
// promising are kept, and the result is no worse than the first choice.
#ifndef SDQ_CONVERTER_KNAPSACK_H_
#define SDQ_CONVERTER_KNAPSACK_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "format/status.h"

namespace sdq::converter {

struct Choice {
  uint64_t cost = 0;
  double loss = 0;  // finite
};

// Index of one choice per item. kOutOfRange if even the cheapest exceed the budget;
// kInvalidArgument for an item without choices or a loss that is not finite. Sums of costs must
// fit 63 bits.
Result<std::vector<size_t>> ChooseWithin(const std::vector<std::vector<Choice>>& items,
                                         uint64_t budget);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_KNAPSACK_H_
