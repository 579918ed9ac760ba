#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "kernels/float16.h"
#include "kernels/vector_math.h"
#include "tests/kernels/dense_support.h"

namespace sdq::test {
namespace {

using kernels::KvType;

double Wide(float v) { return static_cast<double>(v); }

TEST_CASE("rotary embedding turns pairs half a head apart") {
  for (const size_t dim : {2u, 4u, 6u, 10u, 32u, 48u, 64u, 66u, 80u, 128u}) {
    const size_t heads = 3, half = dim / 2;
    std::vector<float> turn(dim);
    for (size_t i = 0; i < half; ++i) {
      turn[i] = std::cos(0.3f * static_cast<float>(i + 1));
      turn[half + i] = std::sin(0.3f * static_cast<float>(i + 1));
    }
    const OddArray<float> cos_sin(turn);
    const std::vector<float> before = RandomFloats(heads * dim, 1);
    ForEachTarget([&] {
      INFO("dim " << dim);
      OddArray<float> x(before);
      kernels::Rotary(x.data(), heads, dim, cos_sin.data());
      for (size_t h = 0; h < heads; ++h) {
        for (size_t i = 0; i < half; ++i) {
          const double a = Wide(before[h * dim + i]), b = Wide(before[h * dim + half + i]);
          const double c = Wide(turn[i]), s = Wide(turn[half + i]);
          const double margin = 2 * 0x1p-24 * (std::abs(a) + std::abs(b));
          REQUIRE(std::abs(Wide(x[h * dim + i]) - (a * c - b * s)) <= margin);
          REQUIRE(std::abs(Wide(x[h * dim + half + i]) - (b * c + a * s)) <= margin);
        }
      }
    });
  }
}

// Nearest f16 by search among the two neighbours, ties to even.
uint16_t NearestF16(double value) {
  const bool negative = std::signbit(value);
  const double magnitude = std::abs(value);
  uint32_t best = 0x7c00;
  if (magnitude < 65520.0) {
    const int exponent = std::max(magnitude > 0.0 ? std::ilogb(magnitude) : -14, -14);
    const double units = std::nearbyint(std::ldexp(magnitude, 10 - exponent));
    // A carry out of the mantissa steps into the next exponent by itself.
    best = static_cast<uint32_t>(units) + static_cast<uint32_t>(exponent + 14) * 1024u;
  }
  return static_cast<uint16_t>(best | (negative ? 0x8000u : 0u));
}

TEST_CASE("cache elements are rounded to the nearest f16, ties to even") {
  std::vector<float> values = RandomFloats(4000, 9, 100.0f);
  for (uint32_t half = 0; half < 0x7c00; half += 3) {
    // The number itself, the tie above it and the tie's neighbours.
    const float low = kernels::F32FromF16(static_cast<uint16_t>(half));
    const float high =
        half + 1 == 0x7c00u ? 65536.0f : kernels::F32FromF16(static_cast<uint16_t>(half + 1));
    const float tie = 0.5f * (low + high);
    for (const float v : {low, tie, std::nextafter(tie, 0.0f), std::nextafter(tie, 1e9f)}) {
      values.push_back(v);
      values.push_back(-v);
    }
  }
  for (const float v : {0.0f, -0.0f, 65519.0f, 65519.99f, 65520.0f, 1e30f, -1e30f, 1e-10f, 1e-45f,
                        std::numeric_limits<float>::infinity()}) {
    values.push_back(v);
  }
  ForEachTarget([&] {
    OddArray<uint16_t> stored(values.size());
    kernels::StoreKv(values.data(), values.size(), KvType::kF16, stored.data());
    size_t wrong = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      wrong += stored[i] == NearestF16(Wide(values[i])) ? 0 : 1;
    }
    CHECK(wrong == 0);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    kernels::StoreKv(&nan, 1, KvType::kF16, stored.data());
    CHECK(std::isnan(kernels::F32FromF16(stored[0])));
  });
}

TEST_CASE("cache elements in f32 are copies") {
  const std::vector<float> values = RandomFloats(33, 4);
  std::vector<float> stored(33);
  kernels::StoreKv(values.data(), values.size(), KvType::kF32, stored.data());
  CHECK(SameBits(stored, values));
}

// A cache of `length` positions at `stride`, in all types, with values that f16 and int8 hold
// exactly: integers. Each position of the int8 cache has a scale; powers of two, so that `scaled`
// holds the products exactly.
struct Cache {
  Cache(size_t length, size_t stride, size_t dim, uint32_t seed)
      : f32((length - 1) * stride + dim),
        f16(f32.size()),
        q8(f32.size()),
        scaled(f32.size()),
        scales(length) {
    const std::vector<float> values = RandomFloats(f32.size(), seed);
    for (size_t p = 0; p < length; ++p) scales[p] = std::ldexp(1.0f, -5 - int(p % 3));
    for (size_t i = 0; i < values.size(); ++i) {
      q8[i] = static_cast<int8_t>(std::clamp(std::nearbyint(values[i] * 40.0f), -127.0f, 127.0f));
      f32[i] = float(q8[i]) / 32.0f;
      f16[i] = kernels::F16FromF32(f32[i]);
      scaled[i] = float(q8[i]) * scales[std::min(i / stride, length - 1)];
    }
  }
  const void* data(KvType type) const {
    if (type == KvType::kQ8) return q8.data();
    return type == KvType::kF32 ? static_cast<const void*>(f32.data()) : f16.data();
  }
  // What the elements of `type` stand for.
  const float* meaning(KvType type) const {
    return type == KvType::kQ8 ? scaled.data() : f32.data();
  }
  OddArray<float> f32;
  OddArray<uint16_t> f16;
  OddArray<int8_t> q8;
  OddArray<float> scaled;
  OddArray<float> scales;
};

kernels::KvRows RowsOf(const Cache& keys, const Cache& values, KvType type, size_t stride) {
  kernels::KvRows rows{keys.data(type), values.data(type), type, stride};
  if (type == KvType::kQ8) {
    rows.key_scales = keys.scales.data();
    rows.value_scales = values.scales.data();
  }
  return rows;
}

void AttendAlone(const float* q, const kernels::KvRows& rows, size_t length, size_t dim,
                 float* scores, float* out) {
  const kernels::AttentionQuery query{q, length, scores, out};
  kernels::Attend({&query, 1}, rows, dim);
}

constexpr KvType kTypes[] = {KvType::kF32, KvType::kF16, KvType::kQ8};

// softmax(q . K) V
std::vector<double> Exact(const float* q, const float* keys, const float* values, size_t stride,
                          size_t length, size_t dim) {
  std::vector<double> weights(length), exact(dim);
  double total = 0.0;
  for (size_t p = 0; p < length; ++p) {
    double score = 0.0;
    for (size_t i = 0; i < dim; ++i) score += Wide(q[i]) * Wide(keys[p * stride + i]);
    total += weights[p] = std::exp(score);
  }
  for (size_t p = 0; p < length; ++p) {
    for (size_t i = 0; i < dim; ++i) {
      exact[i] += weights[p] / total * Wide(values[p * stride + i]);
    }
  }
  return exact;
}

TEST_CASE("attention of a head equals its formula for all cache types") {
  for (const size_t dim : {1u, 3u, 8u, 16u, 36u, 48u, 64u, 80u, 100u, 128u, 130u}) {
    for (const size_t length : {1u, 2u, 5u, 33u, 200u}) {
      const size_t stride = dim + dim % 5;
      const Cache keys(length, stride, dim, 1);
      const Cache values(length, stride, dim, 2);
      const OddArray<float> q(RandomFloats(dim, 3, 1.0f / std::sqrt(static_cast<float>(dim))));
      ForEachTarget([&] {
        std::vector<float> results[4];
        for (const KvType type : kTypes) {
          INFO("dim " << dim << " length " << length << " type " << int(type));
          const std::vector<double> exact =
              Exact(q.data(), keys.meaning(type), values.meaning(type), stride, length, dim);
          OddArray<float> scores(length), out(dim);
          AttendAlone(q.data(), RowsOf(keys, values, type, stride), length, dim, scores.data(),
                      out.data());
          for (size_t i = 0; i < dim; ++i) {
            // Values are of unit size, the sum of weights is one.
            REQUIRE(std::abs(Wide(out[i]) - exact[i]) <= 6e-6);
          }
          results[int(type)].assign(out.data(), out.data() + dim);
        }
        // The same numbers in either type: the same arithmetic.
        CHECK(SameBits(results[int(KvType::kF32)], results[int(KvType::kF16)]));
      });
    }
  }
}

TEST_CASE("a head in 8 bits: half a step off at most, its largest value exact") {
  for (const size_t dim : {1u, 7u, 64u, 128u}) {
    const std::vector<float> x = RandomFloats(dim, 9);
    std::vector<int8_t> stored(dim);
    const float scale = kernels::StoreKvQ8(x.data(), dim, stored.data());
    float largest = 0;
    for (const float v : x) largest = std::max(largest, std::abs(v));
    CHECK(scale == largest / 127.0f);
    int most = 0;
    for (size_t i = 0; i < dim; ++i) {
      CHECK(std::abs(float(stored[i]) * scale - x[i]) <= 0.5001f * scale);
      most = std::max(most, std::abs(int(stored[i])));
    }
    CHECK(most == 127);
  }
  std::vector<int8_t> stored(3, 1);
  CHECK(kernels::StoreKvQ8(std::vector<float>(3, 0.0f).data(), 3, stored.data()) == 0.0f);
  CHECK(stored == std::vector<int8_t>(3, 0));
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    const std::vector<float> x = {1.0f, bad, 2.0f};
    CHECK(std::isnan(kernels::StoreKvQ8(x.data(), 3, stored.data())));
    CHECK(stored == std::vector<int8_t>(3, 0));
  }
}

TEST_CASE("queries that attend together get the bits that each gets alone") {
  for (const size_t dim : {1u, 16u, 20u, 36u, 64u, 80u, 128u, 150u}) {
    for (const size_t length : {1u, 3u, 17u, 64u}) {
      const size_t stride = dim + 3, count = 7;
      const Cache keys(length + count, stride, dim, 1);
      const Cache values(length + count, stride, dim, 2);
      const std::vector<float> q = RandomFloats(count * dim, 3, 0.3f);
      ForEachTarget([&] {
        for (const KvType type : kTypes) {
          INFO("dim " << dim << " length " << length << " type " << int(type));
          const kernels::KvRows rows = RowsOf(keys, values, type, stride);
          std::vector<float> together(count * dim), alone(count * dim);
          std::vector<std::vector<float>> scores(count, std::vector<float>(length + count));
          std::vector<kernels::AttentionQuery> queries;
          for (size_t i = 0; i < count; ++i) {
            const size_t own = length + i * 5 % count;  // in no order
            const float* own_q = q.data() + i * dim;
            queries.push_back({own_q, own, scores[i].data(), together.data() + i * dim});
            std::vector<float> own_scores(own);
            AttendAlone(own_q, rows, own, dim, own_scores.data(), alone.data() + i * dim);
          }
          kernels::Attend(queries, rows, dim);
          CHECK(SameBits(together, alone));
        }
      });
    }
  }
}

TEST_CASE("attention with NaN or without positions does not go astray") {
  ForEachTarget([] {
    const size_t dim = 20;
    std::vector<float> cache(3 * dim, std::numeric_limits<float>::quiet_NaN());
    const std::vector<float> q(dim, 1.0f);
    std::vector<float> scores(3), out(dim, 5.0f);
    const kernels::KvRows rows{cache.data(), cache.data(), KvType::kF32, dim};
    AttendAlone(q.data(), rows, 3, dim, scores.data(), out.data());
    CHECK(std::isnan(out[0]));
    AttendAlone(q.data(), rows, 0, dim, scores.data(), out.data());
    CHECK(out == std::vector<float>(dim, 0.0f));
  });
}

}  // namespace
}  // namespace sdq::test
