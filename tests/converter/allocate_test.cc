#include "converter/allocate.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <map>

#include "tests/support/files.h"

namespace sdq::converter {
namespace {

// Layers of a small transformer: sigma differs by kind and falls with depth.
std::vector<AllocationItem> Model(uint32_t layers) {
  const std::pair<const char*, std::pair<uint64_t, double>> kinds[] = {
      {"attn.q", {512 * 512, 0.06}},   {"attn.k", {512 * 512, 0.07}},
      {"attn.v", {512 * 512, 0.03}},   {"attn.out", {512 * 512, 0.028}},
      {"ffn.up", {512 * 2048, 0.045}}, {"ffn.down", {512 * 2048, 0.04}}};
  std::vector<AllocationItem> items;
  for (uint32_t l = 0; l < layers; ++l) {
    for (const auto& [name, shape] : kinds) {
      items.push_back({l, "layers." + std::to_string(l) + "." + name, shape.first,
                       shape.second * (1.0 + 0.05 * l)});
    }
  }
  return items;
}

TEST_CASE("allocate: the mean is within half a percent of the target, in quarters") {
  const double target = GENERATE(1.0, 1.1, 1.5, 1.9, 2.0, 2.37, 2.5, 3.0, 4.0, 8.0);
  const std::vector<AllocationItem> items = Model(8);
  AllocationOptions options;
  options.target = target;
  const auto rates = AllocateMultiOsr(items, options);
  REQUIRE(rates.ok());
  CHECK(std::abs(MeanOsr(items, *rates) - target) <= 0.005 * target);
  for (size_t i = 0; i < items.size(); ++i) {
    const Rate rate = (*rates)[i].rate;
    CHECK((*rates)[i].name == items[i].name);
    CHECK(4 % rate.den == 0);
    CHECK(rate.osr() >= 1.0);
    CHECK(rate.osr() <= 16.0);
  }
}

TEST_CASE("allocate: two layers of one linear by the published formula") {
  // sigma^-2 = 4 and 1: 1 + (2 - 1) * 2 * 4 / 5 = 2.6 and 1.4; in fine steps nothing is lost.
  const std::vector<AllocationItem> items = {{0, "a", 100, 0.5}, {1, "b", 100, 1.0}};
  AllocationOptions options;
  options.target = 2.0;
  options.steps_per_unit = 10;
  const auto rates = AllocateMultiOsr(items, options);
  REQUIRE(rates.ok());
  CHECK((*rates)[0].rate.osr() == Approx(2.6));
  CHECK((*rates)[1].rate.osr() == Approx(1.4));
  CHECK((*rates)[0].rate.num == 13);
  CHECK((*rates)[0].rate.den == 5);
}

TEST_CASE("allocate: inside a layer sigma^-1.5 by parameter shares, flat where there is plenty") {
  // sigma^-1.5 = 8 and 1, shares 1/4 and 3/4: k = 1 / (8/4 + 3/4) = 4/11.
  const std::vector<AllocationItem> items = {{0, "a", 100, 0.25}, {0, "b", 300, 1.0}};
  AllocationOptions options;
  options.target = 2.0;
  options.steps_per_unit = 256;
  options.tolerance = 1e-3;
  auto rates = AllocateMultiOsr(items, options);
  REQUIRE(rates.ok());
  CHECK((*rates)[0].rate.osr() == Approx(1 + 8 * 4.0 / 11).margin(0.005));
  CHECK((*rates)[1].rate.osr() == Approx(1 + 4.0 / 11).margin(0.005));
  options.target = 4.0;
  options.base = 1.0;
  rates = AllocateMultiOsr(items, options);
  REQUIRE(rates.ok());
  const double k = 3.0 / (0.25 * std::pow(0.25, -0.1) + 0.75);
  CHECK((*rates)[1].rate.osr() == Approx(1 + k).margin(0.005));
}

TEST_CASE("allocate: lower variance never gets less") {
  const std::vector<AllocationItem> items = Model(4);
  const auto rates = AllocateMultiOsr(items, {});
  REQUIRE(rates.ok());
  std::map<double, double> by_sigma;
  for (size_t i = 0; i < 6; ++i) by_sigma[items[i].sigma] = (*rates)[i].rate.osr();
  double last = 100;
  for (const auto& [sigma, osr] : by_sigma) {
    CHECK(osr <= last);
    last = osr;
  }
}

TEST_CASE("allocate: steps are halved where whole ones cannot reach the target") {
  AllocationOptions options;
  options.target = 2.1;
  const auto rates = AllocateMultiOsr({{0, "only", 64, 1.0}}, options);
  REQUIRE(rates.ok());
  CHECK(std::abs((*rates)[0].rate.osr() - 2.1) <= 0.0105);
}

TEST_CASE("allocate: a linear of zeros does not swallow everything") {
  std::vector<AllocationItem> items = Model(2);
  items[3].sigma = 0;
  const auto rates = AllocateMultiOsr(items, {});
  REQUIRE(rates.ok());
  CHECK(std::abs(MeanOsr(items, *rates) - 2.0) <= 0.01);
  for (AllocationItem& item : items) item.sigma = 0;
  const auto zeros = AllocateMultiOsr(items, {});
  REQUIRE(zeros.ok());
  CHECK(MeanOsr(items, *zeros) == Approx(2.0));
}

TEST_CASE("allocate: senseless requests are refused") {
  const std::vector<AllocationItem> items = Model(1);
  const auto fails = [&](AllocationOptions options) {
    return !AllocateMultiOsr(items, options).ok();
  };
  CHECK(fails({.target = 0.9}));
  CHECK(fails({.target = NAN}));
  CHECK(fails({.target = 17}));
  CHECK(fails({.target = 2, .base = 2.5}));
  CHECK(fails({.target = 2, .base = NAN}));
  CHECK(fails({.target = 2, .base = 0, .steps_per_unit = 0}));
  CHECK(fails({.target = 2, .base = 0, .steps_per_unit = 4, .tolerance = 0}));
  CHECK_FALSE(AllocateMultiOsr({{0, "a", 0, 1.0}}, {}).ok());
  CHECK_FALSE(AllocateMultiOsr({{0, "a", 10, NAN}}, {}).ok());
  CHECK(AllocateMultiOsr({}, {}).ok());
}

TEST_CASE("allocate: standard deviation") {
  const float values[] = {1, 2, 3, 4};
  CHECK(StandardDeviation(values, 4) == Approx(std::sqrt(1.25)));
  CHECK(StandardDeviation(values, 0) == 0);
}

TEST_CASE("allocate: a real checkpoint's linears") {
  const auto checkpoint = Checkpoint::Open(test::BundledModel("stories-opt-6m"));
  REQUIRE(checkpoint.ok());
  const auto items = ListAllocationItems(**checkpoint);
  REQUIRE(items.ok());
  const ModelConfig& config = (*checkpoint)->config();
  REQUIRE(items->size() == size_t(config.layers) * 6);
  CHECK(items->front().name == "layers.0.attn.q");
  CHECK(items->back().layer == config.layers - 1);
  CHECK(items->front().weights == uint64_t(config.hidden_size) * uint64_t(config.hidden_size));
  for (const AllocationItem& item : *items) CHECK((item.sigma > 0.001 && item.sigma < 1.0));
  const auto rates = AllocateMultiOsr(*items, {});
  REQUIRE(rates.ok());
  CHECK(std::abs(MeanOsr(*items, *rates) - 2.0) <= 0.01);
}

TEST_CASE("allocate: the table has a line per layer and the true mean") {
  const std::vector<AllocationItem> items = {{0, "layers.0.attn.q", 100, 1},
                                             {0, "layers.0.ffn.down", 300, 1},
                                             {1, "layers.1.attn.q", 100, 1}};
  const std::vector<NamedRate> rates = {
      {"layers.0.attn.q", {3, 2}}, {"layers.0.ffn.down", {9, 4}}, {"layers.1.attn.q", {2, 1}}};
  CHECK(FormatAllocation(items, rates) ==
        "layer    attn.q  ffn.down\n"
        "    0       1.5      2.25\n"
        "    1         2          \n"
        "mean OSR 2.0500\n");
}

}  // namespace
}  // namespace sdq::converter
