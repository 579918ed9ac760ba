// Tables are encoded in pieces of rows; nothing else may depend on that.
#include "converter/table_encoder.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <random>
#include <vector>

namespace sdq::converter {
namespace {

constexpr size_t kRows = 2 * kTableChunkRows + 21;  // ends in the middle of a tile
constexpr size_t kColumns = 16;

// Rows of very different sizes, one of zeros.
std::vector<float> Table() {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> table(kRows * kColumns);
  for (size_t r = 0; r < kRows; ++r) {
    const float size = r == 7 ? 0.0f : std::exp(normal(random));
    for (size_t i = 0; i < kColumns; ++i) table[r * kColumns + i] = size * normal(random);
  }
  return table;
}

std::vector<double> Hessian() {
  std::mt19937 random(6);
  std::normal_distribution<double> normal;
  std::vector<double> h(kColumns * kColumns, 0.0);
  for (size_t sample = 0; sample < 40; ++sample) {
    std::vector<double> x(kColumns);
    for (size_t i = 0; i < kColumns; ++i) x[i] = normal(random) / double(1 + i);
    for (size_t i = 0; i < kColumns; ++i) {
      for (size_t j = 0; j < kColumns; ++j) h[i * kColumns + j] += x[i] * x[j];
    }
  }
  return h;
}

TEST_CASE("table encoder: the stream of all rows at once") {
  const std::vector<float> table = Table();
  const std::vector<double> hessian = Hessian();
  EncodeInput input;
  input.weights = table.data();
  input.rows = kRows;
  input.columns = kColumns;
  input.seed = 3;
  input.hessian = GENERATE(true, false) ? &hessian : nullptr;
  TrellisOptions options;
  options.osr_num = 5;
  options.osr_den = 2;
  std::vector<double> shares;
  const auto pieces = EncodeTable(input, options, [&](double share) {
    shares.push_back(share);
    return true;
  });
  REQUIRE(pieces.ok());
  const auto whole = EncodeTrellis(input, options);
  REQUIRE(whole.ok());
  CHECK(pieces->rows == kRows);
  CHECK(pieces->columns == kColumns);
  CHECK(pieces->bits == whole->bits);
  CHECK(pieces->scales_f16 == whole->scales_f16);
  CHECK(pieces->scale_base == whole->scale_base);
  CHECK(pieces->reconstructed == whole->reconstructed);
  CHECK(pieces->row_errors == whole->row_errors);
  CHECK(pieces->decimator == whole->decimator);
  CHECK(pieces->relative_error == Approx(whole->relative_error).epsilon(0.05));
  CHECK(shares.size() == 3);
  CHECK(shares.front() == 0);
}

TEST_CASE("table encoder: cancelled between pieces; what is no table is refused") {
  const std::vector<float> table = Table();
  EncodeInput input;
  input.weights = table.data();
  input.rows = kRows;
  input.columns = kColumns;
  TrellisOptions options;
  const auto cancelled = EncodeTable(input, options, [](double share) { return share == 0; });
  CHECK(cancelled.status().code() == StatusCode::kCancelled);
  input.rows = 0;
  CHECK(EncodeTable(input, options, {}).status().code() == StatusCode::kInvalidArgument);
  input.rows = kRows;
  options.osr_num = 41;
  options.osr_den = 20;
  CHECK(EncodeTable(input, options, {}).status().code() == StatusCode::kNotFound);
}

}  // namespace
}  // namespace sdq::converter
