#include "converter/knapsack.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace sdq::converter {
namespace {

constexpr size_t kMaxStates = size_t{1} << 16;  // per item

// Indices of the lower convex hull of (cost, loss), from the cheapest on, loss falling.
std::vector<size_t> LowerHull(const std::vector<Choice>& choices) {
  std::vector<size_t> order(choices.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (choices[a].cost != choices[b].cost) return choices[a].cost < choices[b].cost;
    return choices[a].loss != choices[b].loss ? choices[a].loss < choices[b].loss : a < b;
  });
  const auto gain = [&](size_t from, size_t to) {
    return (choices[from].loss - choices[to].loss) / double(choices[to].cost - choices[from].cost);
  };
  std::vector<size_t> hull;
  for (const size_t i : order) {
    if (!hull.empty() && choices[i].loss >= choices[hull.back()].loss) continue;
    while (hull.size() >= 2 && gain(hull.back(), i) >= gain(hull[hull.size() - 2], hull.back())) {
      hull.pop_back();
    }
    hull.push_back(i);
  }
  return hull;
}

// A step along an item's hull.
struct Step {
  size_t item = 0;
  size_t to = 0;  // choice
  uint64_t cost = 0;
  double gain = 0;  // loss saved per unit of cost
};

class Search {
 public:
  Search(const std::vector<std::vector<Choice>>& items, uint64_t budget)
      : items_(items), budget_(budget), best_(items.size()) {}

  Status Start() {
    uint64_t least = 0;
    for (size_t i = 0; i < items_.size(); ++i) {
      if (items_[i].empty()) return Status::InvalidArgument("an item without choices");
      for (const Choice& choice : items_[i]) {
        if (!std::isfinite(choice.loss)) return Status::InvalidArgument("a loss is not finite");
      }
      const std::vector<size_t> hull = LowerHull(items_[i]);
      best_[i] = hull[0];
      least += items_[i][hull[0]].cost;
      for (size_t k = 1; k < hull.size(); ++k) {
        const Choice& from = items_[i][hull[k - 1]];
        const Choice& to = items_[i][hull[k]];
        const uint64_t cost = to.cost - from.cost;
        steps_.push_back({i, hull[k], cost, (from.loss - to.loss) / double(cost)});
      }
    }
    if (least > budget_) {
      return Status::OutOfRange(fmt::format("the least cost is {}, above {}", least, budget_));
    }
    // Hulls are convex: the best gain comes first within an item too.
    std::stable_sort(steps_.begin(), steps_.end(),
                     [](const Step& a, const Step& b) { return a.gain > b.gain; });
    left_ = budget_ - least;
    return Status::Ok();
  }

  // Greedy along the hulls; the gain of the first step that does not fit is the multiplier. Steps
  // behind it may still fit: an item stops at its first that does not.
  void Greedy() {
    std::vector<bool> stopped(items_.size());
    for (const Step& step : steps_) {
      if (stopped[step.item]) continue;
      if (step.cost > left_) {
        if (multiplier_ == 0) multiplier_ = step.gain;
        stopped[step.item] = true;
        continue;
      }
      left_ -= step.cost;
      best_[step.item] = step.to;
    }
  }

  // loss + multiplier * cost above the item's least value of it.
  void Exact() {
    if (multiplier_ == 0) return;  // everything fitted
    double bound = -multiplier_ * double(budget_);
    double loss = 0;
    std::vector<std::vector<double>> reduced(items_.size());
    for (size_t i = 0; i < items_.size(); ++i) {
      double least = std::numeric_limits<double>::infinity();
      for (const Choice& c : items_[i]) {
        reduced[i].push_back(c.loss + multiplier_ * double(c.cost));
        least = std::min(least, reduced[i].back());
      }
      for (double& r : reduced[i]) r -= least;
      bound += least;
      loss += items_[i][best_[i]].loss;
    }
    gap_ = loss - bound;
    if (gap_ > 0) Program(reduced);
  }

  std::vector<size_t> best() && { return std::move(best_); }

 private:
  struct State {
    uint64_t cost = 0;
    double reduced = 0;  // sum over the items so far
    uint32_t from = 0;   // state of the item before
    uint32_t choice = 0;
  };

  // Layers of undominated states, one per item. A state can lead to something better only while its
  // reduced cost is below the gap.
  void Program(const std::vector<std::vector<double>>& reduced) {
    std::vector<std::vector<State>> layers = {{State{}}};
    std::vector<uint64_t> least_behind(items_.size() + 1);
    for (size_t i = items_.size(); i-- > 0;) {
      uint64_t least = std::numeric_limits<uint64_t>::max();
      for (const Choice& c : items_[i]) least = std::min(least, c.cost);
      least_behind[i] = least_behind[i + 1] + least;
    }
    for (size_t i = 0; i < items_.size(); ++i) {
      std::vector<State> next;
      for (size_t s = 0; s < layers.back().size(); ++s) {
        const State& state = layers.back()[s];
        for (size_t k = 0; k < items_[i].size(); ++k) {
          const double sum = state.reduced + reduced[i][k];
          const uint64_t cost = state.cost + items_[i][k].cost;
          if (sum >= gap_ || cost + least_behind[i + 1] > budget_) continue;
          next.push_back({cost, sum, uint32_t(s), uint32_t(k)});
        }
      }
      Prune(&next);
      layers.push_back(std::move(next));
    }
    TakeBest(layers);
  }

  // Of two states, one that costs less and loses less (loss = reduced - multiplier * cost + ...)
  // makes the other useless.
  void Prune(std::vector<State>* states) const {
    std::sort(states->begin(), states->end(), [](const State& a, const State& b) {
      if (a.cost != b.cost) return a.cost < b.cost;
      return a.reduced != b.reduced ? a.reduced < b.reduced
                                    : std::pair(a.from, a.choice) < std::pair(b.from, b.choice);
    });
    double least = std::numeric_limits<double>::infinity();
    std::vector<State> kept;
    for (const State& state : *states) {
      const double loss = LossOf(state);
      if (loss >= least) continue;
      least = loss;
      kept.push_back(state);
    }
    if (kept.size() > kMaxStates) {
      std::nth_element(kept.begin(), kept.begin() + kMaxStates, kept.end(),
                       [](const State& a, const State& b) {
                         return a.reduced != b.reduced ? a.reduced < b.reduced : a.cost < b.cost;
                       });
      kept.resize(kMaxStates);
      std::sort(kept.begin(), kept.end(),
                [](const State& a, const State& b) { return a.cost < b.cost; });
    }
    *states = std::move(kept);
  }

  double LossOf(const State& s) const { return s.reduced - multiplier_ * double(s.cost); }

  void TakeBest(const std::vector<std::vector<State>>& layers) {
    const State* best = nullptr;
    for (const State& state : layers.back()) {
      if (best == nullptr || LossOf(state) < LossOf(*best)) best = &state;
    }
    // The first choice has LossOf = gap - multiplier * budget.
    if (best == nullptr || LossOf(*best) >= gap_ - multiplier_ * double(budget_)) return;
    for (size_t i = items_.size(); i-- > 0;) {
      best_[i] = best->choice;
      best = &layers[i][best->from];
    }
  }

  const std::vector<std::vector<Choice>>& items_;
  uint64_t budget_;
  uint64_t left_ = 0;
  std::vector<size_t> best_;
  std::vector<Step> steps_;
  double multiplier_ = 0;
  double gap_ = 0;
};

}  // namespace

Result<std::vector<size_t>> ChooseWithin(const std::vector<std::vector<Choice>>& items,
                                         uint64_t budget) {
  Search search(items, budget);
  SDQ_RETURN_IF_ERROR(search.Start());
  search.Greedy();
  search.Exact();
  return std::move(search).best();
}

}  // namespace sdq::converter
