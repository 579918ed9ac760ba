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

// A cache of `length` positions at `stride`, in both types, with the values that f16 holds.
struct Cache {
  Cache(size_t length, size_t stride, size_t dim, uint32_t seed)
      : f32((length - 1) * stride + dim), f16((length - 1) * stride + dim) {
    const std::vector<float> values = RandomFloats(f32.size(), seed);
    for (size_t i = 0; i < values.size(); ++i) {
      f16[i] = kernels::F16FromF32(values[i]);
      f32[i] = kernels::F32FromF16(f16[i]);
    }
  }
  const void* data(KvType type) const {
    return type == KvType::kF32 ? static_cast<const void*>(f32.data()) : f16.data();
  }
  OddArray<float> f32;
  OddArray<uint16_t> f16;
};

TEST_CASE("attention of a head equals its formula for both cache types") {
  for (const size_t dim : {1u, 3u, 8u, 16u, 36u, 48u, 64u, 80u, 100u, 128u, 130u}) {
    for (const size_t length : {1u, 2u, 5u, 33u, 200u}) {
      const size_t stride = dim + dim % 5;
      const Cache keys(length, stride, dim, 1);
      const Cache values(length, stride, dim, 2);
      const OddArray<float> q(RandomFloats(dim, 3, 1.0f / std::sqrt(static_cast<float>(dim))));
      std::vector<double> weights(length), exact(dim);
      double total = 0.0;
      for (size_t p = 0; p < length; ++p) {
        double score = 0.0;
        for (size_t i = 0; i < dim; ++i) score += Wide(q[i]) * Wide(keys.f32[p * stride + i]);
        total += weights[p] = std::exp(score);
      }
      for (size_t p = 0; p < length; ++p) {
        for (size_t i = 0; i < dim; ++i) {
          exact[i] += weights[p] / total * Wide(values.f32[p * stride + i]);
        }
      }
      ForEachTarget([&] {
        std::vector<float> results[2];
        for (const KvType type : {KvType::kF32, KvType::kF16}) {
          INFO("dim " << dim << " length " << length << " type " << int(type));
          OddArray<float> scores(length), out(dim);
          kernels::AttendHead(q.data(), keys.data(type), values.data(type), type, stride, length,
                              dim, scores.data(), out.data());
          for (size_t i = 0; i < dim; ++i) {
            // Values are of unit size, the sum of weights is one.
            REQUIRE(std::abs(Wide(out[i]) - exact[i]) <= 4e-6);
          }
          results[type == KvType::kF16].assign(out.data(), out.data() + dim);
        }
        // The same numbers in either type: the same arithmetic.
        CHECK(SameBits(results[0], results[1]));
      });
    }
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
        for (const KvType type : {KvType::kF32, KvType::kF16}) {
          INFO("dim " << dim << " length " << length << " type " << int(type));
          std::vector<float> together(count * dim), alone(count * dim);
          std::vector<std::vector<float>> scores(count, std::vector<float>(length + count));
          std::vector<kernels::AttentionQuery> queries;
          for (size_t i = 0; i < count; ++i) {
            const size_t own = length + i * 5 % count;  // in no order
            const float* own_q = q.data() + i * dim;
            queries.push_back({own_q, own, scores[i].data(), together.data() + i * dim});
            std::vector<float> own_scores(own);
            kernels::AttendHead(own_q, keys.data(type), values.data(type), type, stride, own, dim,
                                own_scores.data(), alone.data() + i * dim);
          }
          kernels::Attend(queries, keys.data(type), values.data(type), type, stride, dim);
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
    kernels::AttendHead(q.data(), cache.data(), cache.data(), KvType::kF32, dim, 3, dim,
                        scores.data(), out.data());
    CHECK(std::isnan(out[0]));
    kernels::AttendHead(q.data(), cache.data(), cache.data(), KvType::kF32, dim, 0, dim,
                        scores.data(), out.data());
    CHECK(out == std::vector<float>(dim, 0.0f));
  });
}

}  // namespace
}  // namespace sdq::test
