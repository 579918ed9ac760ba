#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/attention.h"
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
    kernels::StoreValue(values.data(), values.size(), KvType::kF16, 0, stored.data());
    size_t wrong = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      wrong += stored[i] == NearestF16(Wide(values[i])) ? 0 : 1;
    }
    CHECK(wrong == 0);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    kernels::StoreValue(&nan, 1, KvType::kF16, 0, stored.data());
    CHECK(std::isnan(kernels::F32FromF16(stored[0])));
  });
}

TEST_CASE("cache elements in f32 are copies") {
  const std::vector<float> values = RandomFloats(33, 4);
  std::vector<float> stored(33);
  kernels::StoreValue(values.data(), values.size(), KvType::kF32, 0, stored.data());
  CHECK(SameBits(stored, values));
}

// A head's `length` positions of small integers, which every type holds exactly, each position with
// a power of two as its scale: `f32` and `scaled` are what the elements mean without and with it.
struct Cache {
  Cache(size_t length, size_t head_dim, uint32_t seed)
      : dim(head_dim), f32(length * dim), scaled(length * dim), scales(length) {
    const std::vector<float> values = RandomFloats(f32.size(), seed);
    for (size_t p = 0; p < length; ++p) scales[p] = std::ldexp(1.0f, -5 - int(p % 3));
    for (size_t i = 0; i < values.size(); ++i) {
      const float integer = std::clamp(std::nearbyint(values[i] * 40.0f), -127.0f, 127.0f);
      f32[i] = integer / 32.0f;
      scaled[i] = integer * scales[i / dim];
    }
  }
  // Elements in the order of keys or of values, and NaN (int8: 127) where there is no position.
  std::vector<uint8_t> Stored(KvType type, bool keys) const {
    const size_t length = scales.size(), bytes = kernels::KvElementBytes(type);
    const size_t room = kernels::KvPositions(length);
    std::vector<uint8_t> stored((keys ? room : length) * dim * bytes,
                                type == KvType::kQ8 ? 127 : 255);
    for (size_t i = 0; i < length * dim; ++i) {
      const size_t p = i / dim, block = p / kernels::kKeyBlock;
      const size_t at =
          keys ? (block * dim + i % dim) * kernels::kKeyBlock + p % kernels::kKeyBlock : i;
      const uint16_t half = kernels::F16FromF32(f32[i]);
      const int8_t integer = static_cast<int8_t>(std::lround(f32[i] * 32.0f));
      const void* from = &f32[i];
      if (type == KvType::kF16) from = &half;
      if (type == KvType::kQ8) from = &integer;
      std::memcpy(&stored[at * bytes], from, bytes);
    }
    return stored;
  }
  // What the elements of `type` stand for.
  const float* meaning(KvType type) const {
    return type == KvType::kQ8 ? scaled.data() : f32.data();
  }
  size_t dim;
  std::vector<float> f32;
  std::vector<float> scaled;
  OddArray<float> scales;
};

// Keys and values of a head in memory that begins at odd addresses.
struct Head {
  Head(const Cache& k, const Cache& v, KvType type)
      : keys(Padded(k.Stored(type, true))), values(Padded(v.Stored(type, false))) {
    rows = {keys.data() + kOdd, values.data() + kOdd, type};
    if (type == KvType::kQ8) {
      rows.key_scales = k.scales.data();
      rows.value_scales = v.scales.data();
    }
  }
  static constexpr size_t kOdd = 12;  // of every type whole elements
  static std::vector<uint8_t> Padded(std::vector<uint8_t> bytes) {
    bytes.insert(bytes.begin(), kOdd, 0);
    return bytes;
  }
  std::vector<uint8_t> keys, values;
  kernels::KvRows rows;
};

void AttendAlone(const float* q, const kernels::KvRows& rows, size_t length, size_t dim,
                 float* scores, float* out) {
  const kernels::AttentionQuery query{q, length, scores, out};
  kernels::Attend({&query, 1}, rows, dim);
}

constexpr KvType kTypes[] = {KvType::kF32, KvType::kF16, KvType::kQ8};

// softmax(q . K) V
std::vector<double> Exact(const float* q, const float* keys, const float* values, size_t length,
                          size_t dim) {
  std::vector<double> weights(length), exact(dim);
  double total = 0.0;
  for (size_t p = 0; p < length; ++p) {
    double score = 0.0;
    for (size_t i = 0; i < dim; ++i) score += Wide(q[i]) * Wide(keys[p * dim + i]);
    total += weights[p] = std::exp(score);
  }
  for (size_t p = 0; p < length; ++p) {
    for (size_t i = 0; i < dim; ++i) {
      exact[i] += weights[p] / total * Wide(values[p * dim + i]);
    }
  }
  return exact;
}

TEST_CASE("attention of a head equals its formula for all cache types") {
  for (const size_t dim : {1u, 3u, 8u, 16u, 36u, 48u, 64u, 80u, 100u, 128u, 130u}) {
    for (const size_t length : {1u, 2u, 5u, 33u, 200u}) {
      const Cache keys(length, dim, 1);
      const Cache values(length, dim, 2);
      const OddArray<float> q(RandomFloats(dim, 3, 1.0f / std::sqrt(static_cast<float>(dim))));
      ForEachTarget([&] {
        std::vector<float> results[4];
        for (const KvType type : kTypes) {
          INFO("dim " << dim << " length " << length << " type " << int(type));
          const std::vector<double> exact =
              Exact(q.data(), keys.meaning(type), values.meaning(type), length, dim);
          OddArray<float> scores(kernels::KvPositions(length)), out(dim);
          Head head(keys, values, type);
          head.rows.fetch = length % 2 == 0;
          AttendAlone(q.data(), head.rows, length, dim, scores.data(), out.data());
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
    const float scale = kernels::StoreValue(x.data(), dim, KvType::kQ8, 0, stored.data());
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
  const auto store = [&](const std::vector<float>& x) {
    return kernels::StoreValue(x.data(), 3, KvType::kQ8, 0, stored.data());
  };
  CHECK(store(std::vector<float>(3, 0.0f)) == 0.0f);
  CHECK(stored == std::vector<int8_t>(3, 0));
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    CHECK(std::isnan(store({1.0f, bad, 2.0f})));
    CHECK(stored == std::vector<int8_t>(3, 0));
  }
}

TEST_CASE("keys are the numbers that values would be, in blocks of positions") {
  const size_t positions = 2 * kernels::kKeyBlock;
  for (const size_t dim : {1u, 36u, 64u, 130u}) {
    for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kQ8}) {
      INFO("dim " << dim << " type " << int(type));
      const size_t bytes = kernels::KvElementBytes(type);
      std::vector<uint8_t> keys(positions * dim * bytes), row(dim * bytes);
      for (const size_t p : {size_t{0}, size_t{5}, kernels::kKeyBlock, positions - 1}) {
        const std::vector<float> x = RandomFloats(dim, uint32_t(p));
        const float scale = kernels::StoreKey(x.data(), dim, type, p, keys.data());
        CHECK(scale == kernels::StoreValue(x.data(), dim, type, 0, row.data()));
        const size_t first =
            p / kernels::kKeyBlock * dim * kernels::kKeyBlock + p % kernels::kKeyBlock;
        for (size_t i = 0; i < dim; ++i) {
          const uint8_t* key = &keys[(first + i * kernels::kKeyBlock) * bytes];
          REQUIRE(std::equal(key, key + bytes, &row[i * bytes]));
        }
      }
    }
  }
}

TEST_CASE("queries that attend together get the bits that each gets alone") {
  for (const size_t dim : {1u, 16u, 20u, 36u, 64u, 80u, 128u, 150u}) {
    for (const size_t length : {1u, 3u, 17u, 64u}) {
      const size_t count = 8 + 4 + 2 + 1, room = kernels::KvPositions(length + count);
      const Cache keys(length + count, dim, 1);
      const Cache values(length + count, dim, 2);
      const std::vector<float> q = RandomFloats(count * dim, 3, 0.3f);
      ForEachTarget([&] {
        for (const KvType type : kTypes) {
          INFO("dim " << dim << " length " << length << " type " << int(type));
          const Head head(keys, values, type);
          const kernels::KvRows& rows = head.rows;
          std::vector<float> together(count * dim), alone(count * dim);
          std::vector<std::vector<float>> scores(count, std::vector<float>(room));
          std::vector<kernels::AttentionQuery> queries;
          for (size_t i = 0; i < count; ++i) {
            const size_t own = length + i * 7 % count;  // in no order
            const float* own_q = q.data() + i * dim;
            queries.push_back({own_q, own, scores[i].data(), together.data() + i * dim});
            std::vector<float> own_scores(kernels::KvPositions(own));
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
    std::vector<float> cache(kernels::kKeyBlock * dim, std::numeric_limits<float>::quiet_NaN());
    const std::vector<float> q(dim, 1.0f);
    std::vector<float> scores(kernels::kKeyBlock), out(dim, 5.0f);
    const kernels::KvRows rows{cache.data(), cache.data(), KvType::kF32};
    AttendAlone(q.data(), rows, 3, dim, scores.data(), out.data());
    CHECK(std::isnan(out[0]));
    AttendAlone(q.data(), rows, 0, dim, scores.data(), out.data());
    CHECK(out == std::vector<float>(dim, 0.0f));
  });
}

}  // namespace
}  // namespace sdq::test
