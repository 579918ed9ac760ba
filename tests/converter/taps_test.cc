// The frozen decimators: well formed, found by name, and as good as their table says.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "converter/decimator_taps.h"
#include "converter/encoder.h"
#include "converter/trellis.h"
#include "tests/converter/trellis_support.h"

namespace sdq::test {
namespace {

using converter::AllLearnedTaps;
using converter::kWindowByRate;
using converter::LearnedDecimator;
using converter::LearnedTaps;
using converter::Rate;
using converter::Trellis;
using format::Alphabet;

Alphabet AlphabetOf(const LearnedTaps& entry) {
  return entry.letters == 2 ? Alphabet::kBinary : Alphabet::kTernaryPacked;
}

// Mean squared error on Gaussian samples relative to their power.
double MeasuredError(const LearnedTaps& entry, size_t rows, size_t columns) {
  auto spec = LearnedDecimator(AlphabetOf(entry), entry.osr_num, entry.osr_den, entry.window,
                               entry.derived != 0);
  REQUIRE(spec.ok());
  spec->lead = entry.window - entry.osr_num / entry.osr_den;
  auto trellis = Trellis::Create(*spec, entry.letters);
  REQUIRE(trellis.ok());
  const std::vector<float> weights = GaussianWeights(rows * columns, 99);
  std::vector<int8_t> samples(rows * trellis->RowSamples(columns));
  std::vector<float> values(weights.size());
  EncodeRows(*trellis, weights.data(), rows, columns, nullptr, 0, samples.data(), values.data());
  double error = 0;
  double power = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    error += std::pow(double(weights[i]) - double(values[i]), 2);
    power += std::pow(double(weights[i]), 2);
  }
  return error / power;
}

TEST_CASE("taps: every entry is well formed, in order and found") {
  std::tuple<bool, uint32_t, uint32_t, double> last{false, 0, 0, 0.0};
  for (const LearnedTaps& entry : AllLearnedTaps()) {
    INFO(entry.letters << " letters, OSR " << entry.osr_num << "/" << entry.osr_den << ", L "
                       << entry.window);
    const std::tuple key{entry.derived == 0, entry.letters, entry.window,
                         double(entry.osr_num) / entry.osr_den};
    CHECK(last < key);
    last = key;
    CHECK(std::gcd(entry.osr_num, entry.osr_den) == 1);
    const auto spec = LearnedDecimator(AlphabetOf(entry), 3 * entry.osr_num, 3 * entry.osr_den,
                                       entry.window, entry.derived != 0);
    REQUIRE(spec.ok());
    REQUIRE(entry.taps.size() == size_t(entry.osr_den) * format::PhaseTaps(*spec));
    CHECK(spec->derived == entry.derived);
    CHECK(std::all_of(entry.taps.begin(), entry.taps.end(),
                      [](float tap) { return std::isfinite(tap) && std::abs(tap) < 2.0f; }));
    CHECK(spec->osr_num == entry.osr_num);
    CHECK(spec->osr_den == entry.osr_den);
    CHECK(std::equal(spec->taps.begin(), spec->taps.end(), entry.taps.begin(), entry.taps.end()));
    CHECK(format::ValidateDecimator(*spec, 512).ok());
  }
}

TEST_CASE("taps: the rates of the command line exist") {
  for (const auto& [num, den] :
       {std::pair{1u, 1u}, {5u, 4u}, {3u, 2u}, {7u, 4u}, {2u, 1u}, {5u, 2u}, {3u, 1u}, {4u, 1u}}) {
    CHECK(LearnedDecimator(Alphabet::kBinary, num, den, 8).ok());
  }
  for (uint32_t eighths = 8; eighths <= 48; ++eighths) {
    CHECK(LearnedDecimator(Alphabet::kBinary, eighths, 8, 12).ok());
    CHECK(LearnedDecimator(Alphabet::kBinary, eighths, 8, kWindowByRate).ok());
  }
  for (const auto& [num, den] : {std::pair{1u, 1u}, {5u, 4u}, {3u, 2u}}) {
    CHECK(LearnedDecimator(Alphabet::kTernaryPacked, num, den, 5).ok());
    CHECK(LearnedDecimator(Alphabet::kTernaryPlanes, num, den, 5).ok());
  }
  for (const Rate& rate : converter::LearnedRates(Alphabet::kBinary, kWindowByRate)) {
    const auto plain =
        LearnedDecimator(Alphabet::kBinary, rate.num, rate.den, kWindowByRate, false);
    const auto richer =
        LearnedDecimator(Alphabet::kBinary, rate.num, rate.den, kWindowByRate, true);
    REQUIRE(plain.ok());
    REQUIRE(richer.ok());
    CHECK(plain->derived == 0);
    CHECK((richer->derived != 0) == (rate.osr() < 1.75));
  }
  CHECK(LearnedDecimator(Alphabet::kBinary, 2, 1, 7).status().code() == StatusCode::kNotFound);
  CHECK(LearnedDecimator(Alphabet::kBinary, 33, 32, 8).status().code() == StatusCode::kNotFound);
  CHECK(LearnedDecimator(Alphabet::kBinary, 0, 1, 8).status().code() ==
        StatusCode::kInvalidArgument);
  CHECK(LearnedDecimator(Alphabet::kBinary, 1, 0, 8).status().code() ==
        StatusCode::kInvalidArgument);
}

TEST_CASE("taps: windows by rate") {
  const auto window = [](Alphabet alphabet, uint32_t num, uint32_t den) {
    return LearnedDecimator(alphabet, num, den, kWindowByRate)->window;
  };
  CHECK(window(Alphabet::kBinary, 2, 1) == 8);
  CHECK(window(Alphabet::kBinary, 47, 16) == 8);
  CHECK(window(Alphabet::kBinary, 6, 2) == 10);
  CHECK(window(Alphabet::kBinary, 63, 16) == 10);
  CHECK(window(Alphabet::kBinary, 4, 1) == 12);
  CHECK(window(Alphabet::kBinary, 12, 2) == 12);
  CHECK(window(Alphabet::kTernaryPacked, 3, 2) == 5);
  CHECK_FALSE(LearnedDecimator(Alphabet::kBinary, 13, 2, kWindowByRate).ok());
  const std::vector<Rate> rates = converter::LearnedRates(Alphabet::kBinary, kWindowByRate);
  CHECK(rates.front() == Rate{1, 1});
  CHECK(rates.back() == Rate{6, 1});
  for (size_t i = 0; i < rates.size(); ++i) {
    INFO("OSR " << rates[i].osr());
    if (i > 0) CHECK(rates[i - 1].osr() < rates[i].osr());
    const LearnedTaps* taps =
        converter::FindLearnedTaps(Alphabet::kBinary, rates[i], kWindowByRate);
    REQUIRE(taps != nullptr);
    CHECK(taps->squared_error < 1.8 * std::pow(4.0, -rates[i].osr()));
  }
}

TEST_CASE("taps: each codes Gaussian samples as well as its entry says") {
  for (const LearnedTaps& entry : AllLearnedTaps()) {
    // The error of long windows takes long to measure; only high rates have them by default.
    if (entry.window > 10 && entry.osr_num < 4 * entry.osr_den) continue;
    INFO(entry.letters << " letters, OSR " << entry.osr_num << "/" << entry.osr_den << ", L "
                       << entry.window);
    CHECK(MeasuredError(entry, 64, 480) == Approx(entry.squared_error).epsilon(0.025));
  }
}

// The table's figures come from rows of 240 samples, ours from rows of 480: the free choice of the
// first window is worth L / 240 bits per sample there and half of it here, 2 to 3% of the error.
TEST_CASE("taps: the errors are those of the method's table or less") {
  using Key = std::tuple<uint32_t, uint32_t, uint32_t, uint32_t>;  // letters, P, Q, L
  const std::map<Key, double> table{
      {{2, 1, 1, 8}, 0.354},   {{2, 5, 4, 8}, 0.242},   {{2, 3, 2, 8}, 0.168},
      {{2, 2, 1, 8}, 0.083},   {{2, 5, 2, 8}, 0.0448},  {{2, 3, 1, 8}, 0.0219},
      {{2, 4, 1, 8}, 0.0067},  {{2, 1, 1, 10}, 0.352},  {{2, 3, 2, 10}, 0.162},
      {{2, 2, 1, 10}, 0.0797}, {{2, 5, 2, 10}, 0.0413}, {{2, 3, 1, 10}, 0.0216},
      {{3, 1, 1, 5}, 0.187},   {{3, 5, 4, 5}, 0.098},   {{3, 3, 2, 5}, 0.056}};
  std::set<Key> found;
  for (const LearnedTaps& entry : AllLearnedTaps()) {
    const auto row = table.find({entry.letters, entry.osr_num, entry.osr_den, entry.window});
    if (row == table.end()) continue;
    INFO(entry.letters << " letters, OSR " << entry.osr_num << "/" << entry.osr_den << ", L "
                       << entry.window);
    CHECK(entry.squared_error < 1.03 * row->second);
    found.insert(row->first);
  }
  CHECK(found.size() == table.size());
}

}  // namespace
}  // namespace sdq::test
