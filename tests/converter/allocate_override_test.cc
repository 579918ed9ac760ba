#include <catch2/catch.hpp>

#include "converter/allocate.h"

namespace sdq::converter {
namespace {

std::vector<NamedRate> Names() {
  return {{"layers.0.attn.q", {2, 1}},
          {"layers.0.ffn.down", {2, 1}},
          {"layers.1.attn.q", {2, 1}},
          {"layers.10.attn.q", {2, 1}}};
}

std::vector<double> Apply(const std::string& text) {
  const auto overrides = ParseRateOverrides(text);
  REQUIRE(overrides.ok());
  std::vector<NamedRate> rates = Names();
  REQUIRE(ApplyRateOverrides(*overrides, &rates).ok());
  std::vector<double> osr;
  for (const NamedRate& entry : rates) osr.push_back(entry.rate.osr());
  return osr;
}

TEST_CASE("overrides: names, stars, comments, and the last line wins") {
  CHECK(Apply("") == std::vector<double>{2, 2, 2, 2});
  CHECK(Apply("# nothing\n\n   \n") == std::vector<double>{2, 2, 2, 2});
  CHECK(Apply("layers.0.attn.q 2.5") == std::vector<double>{2.5, 2, 2, 2});
  CHECK(Apply("layers.*.attn.q\t3 # all\r\nlayers.1.* 7/4\n") ==
        std::vector<double>{3, 2, 1.75, 3});
  CHECK(Apply("* 1\n*down 4") == std::vector<double>{1, 4, 1, 1});
  CHECK(Apply("layers.1*q 3") == std::vector<double>{2, 2, 3, 3});
  CHECK(Apply("*.attn.*q* 3") == std::vector<double>{3, 2, 3, 3});
}

TEST_CASE("overrides: errors name the line") {
  const auto [text, line] = GENERATE(table<std::string, std::string>({
      {"layers.0.attn.q", "line 1"},
      {"# c\n\nlayers.0.attn.q two", "line 3"},
      {"a 2\nb 2 3", "line 2"},
      {"a 0.5", "line 1"},
      {"a 17", "line 1"},
      {"a nan", "line 1"},
      {"a -2", "line 1"},
      {"a 2/0", "line 1"},
      {"a 99999999999", "line 1"},
  }));
  const auto overrides = ParseRateOverrides(text);
  REQUIRE_FALSE(overrides.ok());
  CHECK(overrides.status().message().find(line) != std::string::npos);
}

TEST_CASE("overrides: a pattern without a match is an error") {
  const auto overrides = ParseRateOverrides("* 2\nlayers.7.* 2\n");
  REQUIRE(overrides.ok());
  std::vector<NamedRate> rates = Names();
  const Status status = ApplyRateOverrides(*overrides, &rates);
  REQUIRE_FALSE(status.ok());
  CHECK(status.message().find("line 2") != std::string::npos);
  CHECK(status.message().find("layers.7.*") != std::string::npos);
}

TEST_CASE("rates are exact, in lowest terms") {
  const auto [text, num, den] = GENERATE(table<std::string, uint32_t, uint32_t>({
      {"2", 2, 1},
      {"2.0", 2, 1},
      {"2.25", 9, 4},
      {"1.05", 21, 20},
      {"10/4", 5, 2},
      {"16", 16, 1},
      {"2.3333", 23333, 10000},
  }));
  const Result<Rate> rate = ParseRate(text);
  REQUIRE(rate.ok());
  CHECK(rate->num == num);
  CHECK(rate->den == den);
}

TEST_CASE("what is no rate is refused") {
  const std::string text = GENERATE("", "x", "2x", ".", "2.", ".5", "2..5", "2/", "/2", "2/3/4",
                                    "1e1", "0", "0.99", "16.01", "2.123456", "2 ", "+2");
  CHECK_FALSE(ParseRate(text).ok());
}

}  // namespace
}  // namespace sdq::converter
