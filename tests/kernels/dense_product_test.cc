#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "kernels/dense.h"
#include "kernels/float16.h"
#include "tests/kernels/dense_support.h"

namespace sdq::test {
namespace {

using kernels::DenseMatrix;
using kernels::DenseProduct;
using kernels::DenseRow;
using kernels::ElementType;

constexpr ElementType kTypes[] = {ElementType::kF32, ElementType::kF16, ElementType::kBF16,
                                  ElementType::kQ8};

// A random matrix of one type in exactly sized arrays, with its exact values beside it.
struct Example {
  Example(ElementType type, size_t rows, size_t columns, bool with_bias, uint32_t seed)
      : f32(type == ElementType::kF32 ? rows * columns : 0),
        u16(type == ElementType::kF16 || type == ElementType::kBF16 ? rows * columns : 0),
        i8(type == ElementType::kQ8 ? rows * columns : 0),
        scales(rows),
        bias(RandomFloats(rows, seed + 1)),
        values(RandomFloats(rows * columns, seed)),
        row_scales(rows, 1.0) {
    view.type = type;
    view.rows = rows;
    view.columns = columns;
    if (with_bias) view.bias = bias.data();
    for (size_t r = 0; r < rows; ++r) {
      scales[r] = kernels::F16FromF32(0.01f + 0.001f * static_cast<float>(r % 7));
    }
    for (size_t i = 0; i < rows * columns; ++i) Set(i);
    if (type == ElementType::kQ8) {
      view.scales_f16 = scales.data();
      view.scale_base = 0.5f;
      for (size_t r = 0; r < rows; ++r) {
        row_scales[r] = 0.5 * static_cast<double>(kernels::F32FromF16(scales[r]));
      }
    }
  }

  void Set(size_t i) {
    switch (view.type) {
      case ElementType::kF32:
        f32[i] = values[i];
        view.data = f32.data();
        break;
      case ElementType::kF16:
        u16[i] = kernels::F16FromF32(values[i]);
        values[i] = kernels::F32FromF16(u16[i]);
        view.data = u16.data();
        break;
      case ElementType::kBF16:
        u16[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(values[i]) >> 16);
        values[i] = std::bit_cast<float>(uint32_t{u16[i]} << 16);
        view.data = u16.data();
        break;
      case ElementType::kQ8:
        i8[i] = static_cast<int8_t>(std::clamp(values[i] * 40.0f, -128.0f, 127.0f));
        values[i] = static_cast<float>(i8[i]);
        view.data = i8.data();
        break;
    }
  }

  OddArray<float> f32;
  OddArray<uint16_t> u16;
  OddArray<int8_t> i8;
  OddArray<uint16_t> scales;
  OddArray<float> bias;
  std::vector<float> values;
  std::vector<double> row_scales;
  DenseMatrix view;
};

// |actual - exact| relative to the sum of magnitudes, the scale of a rounding error.
double WorstError(const Example& w, const float* x, size_t tokens, size_t x_stride, const float* y,
                  size_t y_stride) {
  double worst = 0.0;
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t r = 0; r < w.view.rows; ++r) {
      double sum = 0.0;
      double magnitude = 0.0;
      for (size_t c = 0; c < w.view.columns; ++c) {
        const double term = static_cast<double>(w.values[r * w.view.columns + c]) *
                            static_cast<double>(x[t * x_stride + c]) * w.row_scales[r];
        sum += term;
        magnitude += std::abs(term);
      }
      if (w.view.bias != nullptr) sum += static_cast<double>(w.bias[r]);
      const double error = std::abs(static_cast<double>(y[t * y_stride + r]) - sum);
      worst = std::max(worst, error / (magnitude + std::abs(sum)));
    }
  }
  return worst;
}

TEST_CASE("dense product equals the exact sum on every target, at odd sizes") {
  for (const ElementType type : kTypes) {
    for (const size_t columns : OddSizes()) {
      const size_t rows = columns % 11 + 1;
      const Example w(type, rows, columns, columns % 2 == 0, 7);
      for (const size_t tokens : {1u, 2u, 3u, 5u, 9u}) {
        const size_t x_stride = columns + 1;
        const OddArray<float> x(RandomFloats((tokens - 1) * x_stride + columns, 3));
        ForEachTarget([&] {
          OddArray<float> y((tokens - 1) * (rows + 2) + rows);
          DenseProduct(w.view, x.data(), tokens, x_stride, y.data(), rows + 2);
          const double error = WorstError(w, x.data(), tokens, x_stride, y.data(), rows + 2);
          INFO("type " << int(type) << " columns " << columns << " tokens " << tokens);
          // Up to 257 / 4 additions one after the other where a vector is one lane.
          CHECK(error <= 8 * 0x1p-24);
        });
      }
    }
  }
}

TEST_CASE("dense product leaves what lies between the rows of y alone") {
  const Example w(ElementType::kF32, 6, 20, false, 1);
  const std::vector<float> x = RandomFloats(5 * 20, 2);
  ForEachTarget([&] {
    std::vector<float> y(5 * 9, 42.0f);
    DenseProduct(w.view, x.data(), 5, 20, y.data(), 9);
    for (size_t t = 0; t < 5; ++t) {
      for (size_t r = 6; r < 9; ++r) CHECK(y[t * 9 + r] == 42.0f);
    }
  });
}

struct BatchShape {
  size_t rows, columns, tokens;
};

TEST_CASE("dense product has the same bits for any tokens per call and any thread count") {
  // The last shape is packed in more than one block of tokens.
  const BatchShape shapes[] = {{37, 5, 7}, {9, 75, 13}, {18, 288, 9}, {5, 4100, 35}};
  for (const ElementType type : kTypes) {
    for (const BatchShape& shape : shapes) {
      const auto [rows, columns, tokens] = shape;
      const Example w(type, rows, columns, true, 11);
      const std::vector<float> x = RandomFloats(tokens * columns, 12);
      const auto product = [&](size_t threads, size_t batch) {
        kernels::SetThreads(threads);
        std::vector<float> y(shape.tokens * shape.rows);
        for (size_t t = 0; t < shape.tokens; t += batch) {
          DenseProduct(w.view, &x[t * shape.columns], std::min(batch, shape.tokens - t),
                       shape.columns, &y[t * shape.rows], shape.rows);
        }
        return y;
      };
      ForEachTarget([&] {
        INFO("type " << int(type) << " columns " << shape.columns);
        const std::vector<float> single = product(1, 1);
        CHECK(SameBits(product(1, 2), single));
        CHECK(SameBits(product(1, 3), single));
        CHECK(SameBits(product(1, shape.tokens), single));
        CHECK(SameBits(product(2, 1), single));
        CHECK(SameBits(product(2, shape.tokens - 1), single));
        CHECK(SameBits(product(3, shape.tokens), single));
      });
      kernels::SetThreads(0);
    }
  }
}

TEST_CASE("zero sums have one sign of zero, whatever the path") {
  // Every product underflows to -0: the padded path must not differ from the unpadded one.
  const size_t columns = 21;
  OddArray<float> weights(3 * columns);
  std::vector<float> x(2 * columns);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = -1e-30f;
  for (float& v : x) v = 1e-30f;
  const DenseMatrix w{weights.data(), ElementType::kF32, 3, columns, nullptr, 1.0f, nullptr};
  ForEachTarget([&] {
    std::vector<float> one(3), two(6);
    DenseProduct(w, x.data(), 1, columns, one.data(), 3);
    DenseProduct(w, x.data(), 2, columns, two.data(), 3);
    CHECK(SameBits(one, {two.begin(), two.begin() + 3}));
  });
}

TEST_CASE("NaN and infinity stay in their token and row") {
  const size_t columns = 70;
  Example w(ElementType::kF32, 5, columns, false, 5);
  w.f32[2 * columns + 69] = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> x = RandomFloats(3 * columns, 6);
  x[columns + 3] = std::numeric_limits<float>::infinity();
  ForEachTarget([&] {
    std::vector<float> y(15);
    DenseProduct(w.view, x.data(), 3, columns, y.data(), 5);
    for (size_t t = 0; t < 3; ++t) {
      for (size_t r = 0; r < 5; ++r) {
        INFO("token " << t << " row " << r);
        CHECK(std::isnan(y[t * 5 + r]) == (r == 2));
        CHECK(std::isinf(y[t * 5 + r]) == (t == 1 && r != 2));
      }
    }
  });
}

TEST_CASE("no tokens or no rows: nothing is touched") {
  float y = 3.0f;
  const float x = 1.0f;
  DenseProduct(DenseMatrix{&x, ElementType::kF32, 1, 1, nullptr, 1.0f, nullptr}, &x, 0, 1, &y, 1);
  DenseProduct(DenseMatrix{&x, ElementType::kF32, 0, 1, nullptr, 1.0f, nullptr}, &x, 1, 1, &y, 1);
  CHECK(y == 3.0f);
}

TEST_CASE("dense rows are widened exactly") {
  for (const ElementType type : kTypes) {
    for (const size_t columns : OddSizes()) {
      const Example w(type, 3, columns, false, 21);
      ForEachTarget([&] {
        for (size_t r = 0; r < 3; ++r) {
          OddArray<float> row(columns);
          DenseRow(w.view, r, row.data());
          for (size_t c = 0; c < columns; ++c) {
            const auto scale = static_cast<float>(w.row_scales[r]);
            REQUIRE(row[c] == w.values[r * columns + c] * scale);
          }
        }
      });
    }
  }
}

TEST_CASE("every f16 is widened to its value on every target") {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  const DenseMatrix w{all.data(), ElementType::kF16, 1, all.size(), nullptr, 1.0f, nullptr};
  ForEachTarget([&] {
    std::vector<float> out(all.size());
    DenseRow(w, 0, out.data());
    size_t wrong = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      const int exponent = static_cast<int>((i >> 10) & 31);
      const double mantissa = static_cast<double>(i & 1023);
      double value =
          exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024.0 + mantissa, exponent - 25);
      if (exponent == 31) value = mantissa != 0 ? NAN : HUGE_VAL;
      if ((i & 0x8000) != 0) value = -value;
      const bool same = std::isnan(value) ? std::isnan(out[i])
                                          : static_cast<double>(out[i]) == value &&
                                                std::signbit(out[i]) == ((i & 0x8000) != 0);
      wrong += same ? 0 : 1;
    }
    CHECK(wrong == 0);
  });
}

}  // namespace
}  // namespace sdq::test
