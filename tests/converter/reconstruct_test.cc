#include "converter/reconstruct.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "converter/rate.h"

namespace sdq::converter {
namespace {

std::vector<float> Weights(size_t count) {
  std::vector<float> weights(count);
  for (size_t i = 0; i < count; ++i) {
    weights[i] = float(std::sin(double(i) * 1.7) + 0.3 * std::cos(double(i * i) * 0.01));
  }
  return weights;
}

// Without what the encoder left there.
std::vector<float> FromStored(EncodedLinear encoded) {
  encoded.reconstructed.clear();
  return Reconstruct(encoded);
}

TEST_CASE("reconstruct: what the trellis encoder computed, bit for bit") {
  struct Case {
    format::Alphabet alphabet;
    uint32_t num, den, window, rotation;
    size_t rows, columns;
  };
  const Case c = GENERATE(Case{format::Alphabet::kBinary, 1, 1, 8, 0, 3, 40},
                          Case{format::Alphabet::kBinary, 3, 2, 8, 0, 17, 72},
                          Case{format::Alphabet::kBinary, 5, 4, 8, 16, 16, 61},
                          Case{format::Alphabet::kBinary, 4, 1, 12, 0, 35, 64},
                          Case{format::Alphabet::kBinary, 11, 2, 12, 0, 19, 61},
                          Case{format::Alphabet::kBinary, 6, 1, kWindowByRate, 0, 16, 64},
                          Case{format::Alphabet::kTernaryPlanes, 7, 4, 5, 0, 18, 57},
                          Case{format::Alphabet::kTernaryPacked, 5, 4, 5, 0, 33, 48});
  const std::vector<float> weights = Weights(c.rows * c.columns);
  EncodeInput input;
  input.weights = weights.data();
  input.rows = c.rows;
  input.columns = c.columns;
  input.seed = 9;
  TrellisOptions options;
  options.alphabet = c.alphabet;
  options.osr_num = c.num;
  options.osr_den = c.den;
  options.window = c.window;
  options.rotation_block = c.rotation;
  const auto encoded = EncodeTrellis(input, options);
  INFO(encoded.status().message());
  REQUIRE(encoded.ok());
  CHECK(FromStored(*encoded) == encoded->reconstructed);
}

TEST_CASE("reconstruct: what the published encoder says that its bits mean") {
  const auto alphabet = GENERATE(format::Alphabet::kBinary, format::Alphabet::kTernaryPlanes,
                                 format::Alphabet::kTernaryPacked);
  const std::vector<float> weights = Weights(19 * 72);
  EncodeInput input;
  input.weights = weights.data();
  input.rows = 19;
  input.columns = 72;  // blocks of 32, 32 and 8
  PublishedOptions options;
  options.alphabet = alphabet;
  options.block = 32;
  options.grid_search = false;
  const auto encoded = EncodePublished(input, options);
  REQUIRE(encoded.ok());
  CHECK(FromStored(*encoded) == encoded->reconstructed);
  // And they are near the weights: the right rows, columns, scales and means.
  double error = 0, power = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    error += std::pow(double(weights[i]) - double(encoded->reconstructed[i]), 2);
    power += std::pow(double(weights[i]), 2);
  }
  CHECK(error < 0.5 * power);
}

}  // namespace
}  // namespace sdq::converter
