#include <catch2/catch.hpp>
#include <vector>

#include "converter/block_coder.h"
#include "converter/resample.h"

namespace sdq::converter {
namespace {

// Reference: python3 -c "import numpy as np, scipy.signal as s;
//   print(s.resample(np.arange(a)**2%7-3., b))"  for each (a, b).
struct Reference {
  size_t columns;
  size_t samples;
  std::vector<double> up;
  std::vector<double> down;
};

const Reference kReferences[] = {
    {8,
     12,
     {-3.000000000, -2.814124237, -0.804880218, 1.000000000, 0.047732106, -1.716205849,
      -1.000000000, 0.863162342, 0.353918324, -2.000000000, -3.096770211, -2.832832256},
     {-2.977670901, -0.229232619, -0.733653965, 0.068931893, -1.522329099, -2.758801253,
      0.233653965, -0.747564688}},
    {5,
     7,
     {-3.000000000, -3.029168928, -0.124291355, 0.890006658, -0.745268411, -1.163660421,
      -1.227617543},
     {-3.655970555, -0.172811092, -0.499203630, -0.499203630, -0.172811092}},
    {6,
     15,
     {-3.000000000, -3.616828339, -2.784152275, -1.135099471, 0.356444023, 1.000000000, 0.631877689,
      -0.422122360, -1.476232042, -1.774228016, -1.000000000, 0.330442153, 1.110783132, 0.515840010,
      -1.236724503},
     {-2.747687148, -0.067219104, -0.863625673, -1.962065825, -0.035900775, -1.123501475}},
};

std::vector<float> Input(size_t n) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i) x[i] = float(i * i % 7) - 3.0f;
  return x;
}

// x * m, m[x.size()][width].
std::vector<double> Product(const std::vector<float>& x, const std::vector<float>& m,
                            size_t width) {
  std::vector<double> y(width);
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t j = 0; j < width; ++j) y[j] += double(x[i]) * double(m[i * width + j]);
  }
  return y;
}

TEST_CASE("block resampling is scipy.signal.resample, both ways") {
  for (const Reference& reference : kReferences) {
    const BlockResampler resampler(reference.columns, reference.samples);
    const std::vector<double> up =
        Product(Input(reference.columns), resampler.up, reference.samples);
    const std::vector<double> down =
        Product(Input(reference.samples), resampler.down, reference.columns);
    for (size_t j = 0; j < up.size(); ++j) {
      CHECK(up[j] == Approx(reference.up[j]).margin(2e-6));
    }
    for (size_t i = 0; i < down.size(); ++i) {
      CHECK(down[i] == Approx(reference.down[i]).margin(2e-6));
    }
  }
}

TEST_CASE("what goes up comes down unchanged") {
  const auto [columns, samples] =
      GENERATE(table<size_t, size_t>({{1, 1}, {1, 3}, {2, 5}, {32, 32}, {128, 200}, {128, 256}}));
  const BlockResampler resampler(columns, samples);
  for (size_t i = 0; i < columns; ++i) {
    const std::vector<float> row(resampler.up.begin() + std::ptrdiff_t(i * samples),
                                 resampler.up.begin() + std::ptrdiff_t((i + 1) * samples));
    const std::vector<double> back = Product(row, resampler.down, columns);
    for (size_t k = 0; k < columns; ++k) {
      REQUIRE(back[k] == Approx(i == k ? 1.0 : 0.0).margin(2e-6));
    }
  }
}

TEST_CASE("quantiles interpolate as numpy.quantile does") {
  // python3 -c "import numpy as np; print([np.quantile([.1,.2,.4,.7,1.5], p) for p in (...)])"
  const std::vector<float> sorted = {0.1f, 0.2f, 0.4f, 0.7f, 1.5f};
  CHECK(Quantile(sorted, 0.0) == Approx(0.1));
  CHECK(Quantile(sorted, 0.35) == Approx(0.28));
  CHECK(Quantile(sorted, 0.55) == Approx(0.46));
  CHECK(Quantile(sorted, 0.93) == Approx(1.276));
  CHECK(Quantile(sorted, 0.975) == Approx(1.42));
  CHECK(Quantile(sorted, 1.0) == Approx(1.5));
  CHECK(Quantile({2.0f}, 0.5) == 2.0f);
}

}  // namespace
}  // namespace sdq::converter
