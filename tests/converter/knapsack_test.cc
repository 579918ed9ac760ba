#include "converter/knapsack.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <random>

namespace sdq::converter {
namespace {

using Items = std::vector<std::vector<Choice>>;

struct Total {
  uint64_t cost = 0;
  double loss = 0;
};

Total TotalOf(const Items& items, const std::vector<size_t>& chosen) {
  Total total;
  for (size_t i = 0; i < items.size(); ++i) {
    total.cost += items[i][chosen[i]].cost;
    total.loss += items[i][chosen[i]].loss;
  }
  return total;
}

// The least loss within the budget, by trying everything; infinite if nothing fits.
double BruteForce(const Items& items, uint64_t budget, size_t item = 0) {
  if (item == items.size()) return 0;
  double best = INFINITY;
  for (const Choice& choice : items[item]) {
    if (choice.cost > budget) continue;
    best = std::min(best, choice.loss + BruteForce(items, budget - choice.cost, item + 1));
  }
  return best;
}

// Like rates of a linear: loss falls fourfold per unit of rate, roughly.
Items RateLikeItems(std::mt19937& random, size_t count, size_t choices) {
  Items items(count);
  for (auto& item : items) {
    const double scale = std::exp(std::normal_distribution<double>(0, 1.5)(random));
    const uint64_t size = 1 + random() % 9;
    for (size_t k = 0; k < choices; ++k) {
      const double bent = 1 + 0.1 * std::uniform_real_distribution<double>(-1, 1)(random);
      item.push_back({size * (4 + k), scale * bent * std::pow(4.0, -double(k) / 4)});
    }
  }
  return items;
}

TEST_CASE("knapsack: as good as trying everything") {
  std::mt19937 random(5);
  for (int round = 0; round < 60; ++round) {
    const Items items = RateLikeItems(random, 1 + size_t(round) % 6, 5);
    uint64_t least = 0, most = 0;
    for (const auto& item : items) {
      least += item.front().cost;
      most += item.back().cost;
    }
    for (uint64_t budget = least; budget <= most + 1; budget += 1 + (most - least) / 9) {
      const auto chosen = ChooseWithin(items, budget);
      REQUIRE(chosen.ok());
      const Total total = TotalOf(items, *chosen);
      CHECK(total.cost <= budget);
      CHECK(total.loss == Approx(BruteForce(items, budget)).epsilon(1e-12));
    }
  }
}

TEST_CASE("knapsack: choices in any order, useless ones, free ones") {
  std::mt19937 random(6);
  for (int round = 0; round < 100; ++round) {
    Items items(4);
    for (auto& item : items) {
      for (size_t k = 0; k < 6; ++k) item.push_back({random() % 12, double(random() % 100)});
    }
    const uint64_t budget = random() % 30;
    const double best = BruteForce(items, budget);
    const auto chosen = ChooseWithin(items, budget);
    REQUIRE(chosen.ok() == std::isfinite(best));
    if (!chosen.ok()) continue;
    CHECK(TotalOf(items, *chosen).cost <= budget);
    CHECK(TotalOf(items, *chosen).loss == Approx(best).margin(1e-9));
  }
}

TEST_CASE("knapsack: many items within the budget, close to its bound") {
  std::mt19937 random(7);
  const Items items = RateLikeItems(random, 300, 49);
  const uint64_t budget = 300 * 5 * 20;
  const auto chosen = ChooseWithin(items, budget);
  REQUIRE(chosen.ok());
  const Total total = TotalOf(items, *chosen);
  CHECK(total.cost <= budget);
  CHECK(total.cost >= budget - 9);
  // No exchange of one choice helps.
  for (size_t i = 0; i < items.size(); ++i) {
    for (const Choice& other : items[i]) {
      const Choice& now = items[i][(*chosen)[i]];
      CHECK_FALSE((total.cost - now.cost + other.cost <= budget && other.loss < now.loss));
    }
  }
}

TEST_CASE("knapsack: what cannot be chosen") {
  CHECK(ChooseWithin({}, 0)->empty());
  CHECK(ChooseWithin({{{3, 1}}, {{4, 1}}}, 6).status().code() == StatusCode::kOutOfRange);
  CHECK(ChooseWithin({{{3, 1}}, {{4, 1}}}, 7).ok());
  CHECK(ChooseWithin({{}}, 7).status().code() == StatusCode::kInvalidArgument);
  CHECK(ChooseWithin({{{1, NAN}}}, 7).status().code() == StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sdq::converter
