#include "converter/gguf_types.h"

#include <fmt/format.h>

#include <array>
#include <bit>

#include "format/tensor.h"
#include "kernels/parallel.h"

namespace sdq::converter {
namespace {

constexpr size_t kSmallBlock = 32;   // Qx_0, Qx_1
constexpr size_t kSuperBlock = 256;  // Qx_K
constexpr size_t kScaleBytes = 12;   // of Q4_K and Q5_K
constexpr size_t kGrain = 1 << 16;   // elements per thread, at least

uint32_t Load(const uint8_t* p, size_t bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= uint32_t(p[i]) << (8 * i);
  return value;
}

float LoadHalf(const uint8_t* p) { return format::F16ToF32(uint16_t(Load(p, 2))); }

void DecodeF32(const uint8_t* p, float* out) { *out = std::bit_cast<float>(Load(p, 4)); }
void DecodeF16(const uint8_t* p, float* out) { *out = LoadHalf(p); }
void DecodeBf16(const uint8_t* p, float* out) { *out = format::BF16ToF32(uint16_t(Load(p, 2))); }

// Low nibbles hold the first half of the block, high nibbles the second.
int Nibble(const uint8_t* quants, size_t i) {
  constexpr size_t kHalf = kSmallBlock / 2;
  return i < kHalf ? quants[i] & 15 : quants[i - kHalf] >> 4;
}

void DecodeQ80(const uint8_t* p, float* out) {
  const float d = LoadHalf(p);
  for (size_t i = 0; i < kSmallBlock; ++i) out[i] = float(int8_t(p[2 + i])) * d;
}

void DecodeQ40(const uint8_t* p, float* out) {
  const float d = LoadHalf(p);
  for (size_t i = 0; i < kSmallBlock; ++i) out[i] = d * float(Nibble(p + 2, i) - 8);
}

void DecodeQ41(const uint8_t* p, float* out) {
  const float d = LoadHalf(p);
  const float m = LoadHalf(p + 2);
  for (size_t i = 0; i < kSmallBlock; ++i) out[i] = d * float(Nibble(p + 4, i)) + m;
}

// Bit i of `high` is the fifth bit of weight i.
int FiveBits(const uint8_t* quants, uint32_t high, size_t i) {
  return Nibble(quants, i) | int((high >> i & 1) << 4);
}

void DecodeQ50(const uint8_t* p, float* out) {
  const float d = LoadHalf(p);
  const uint32_t high = Load(p + 2, 4);
  for (size_t i = 0; i < kSmallBlock; ++i) out[i] = d * float(FiveBits(p + 6, high, i) - 16);
}

void DecodeQ51(const uint8_t* p, float* out) {
  const float d = LoadHalf(p);
  const float m = LoadHalf(p + 2);
  const uint32_t high = Load(p + 4, 4);
  for (size_t i = 0; i < kSmallBlock; ++i) out[i] = d * float(FiveBits(p + 8, high, i)) + m;
}

struct ScaleAndMinimum {
  int scale = 0;
  int minimum = 0;
};

// Eight pairs of 6-bit numbers in 12 bytes. The first four lie in the low bits of bytes 0-3 and
// 4-7; the others have their low nibbles in bytes 8-11 and their top bits above those of the first.
ScaleAndMinimum UnpackScale(const uint8_t* packed, size_t j) {
  if (j < 4) return {packed[j] & 63, packed[4 + j] & 63};
  const size_t i = j - 4;
  return {(packed[8 + i] & 15) | (packed[i] >> 6 << 4),
          (packed[8 + i] >> 4) | (packed[4 + i] >> 6 << 4)};
}

// Q4_K, and with `high` bits Q5_K: bit j of high[i] belongs to weight i of sub-block j.
void DecodeWithMinima(const uint8_t* p, const uint8_t* high, const uint8_t* quants, float* out) {
  const float d = LoadHalf(p);
  const float dmin = LoadHalf(p + 2);
  for (size_t j = 0; j < kSuperBlock / 32; ++j) {
    const auto [scale, minimum] = UnpackScale(p + 4, j);
    const float step = d * float(scale);
    const float offset = dmin * float(minimum);
    const uint8_t* bytes = quants + j / 2 * 32;  // two sub-blocks share 32 bytes
    for (size_t i = 0; i < 32; ++i) {
      int q = j % 2 == 0 ? bytes[i] & 15 : bytes[i] >> 4;
      if (high != nullptr) q |= (high[i] >> j & 1) << 4;
      *out++ = step * float(q) - offset;
    }
  }
}

void DecodeQ4K(const uint8_t* p, float* out) {
  DecodeWithMinima(p, nullptr, p + 4 + kScaleBytes, out);
}

void DecodeQ5K(const uint8_t* p, float* out) {
  const uint8_t* high = p + 4 + kScaleBytes;
  DecodeWithMinima(p, high, high + kSuperBlock / 8, out);
}

// Per half of 128 weights: 64 bytes of low nibbles, 32 bytes with four pairs of high bits each.
void DecodeQ6K(const uint8_t* p, float* out) {
  const uint8_t* low = p;
  const uint8_t* high = low + kSuperBlock / 2;
  const uint8_t* scales = high + kSuperBlock / 4;
  const float d = LoadHalf(scales + kSuperBlock / 16);
  for (size_t n = 0; n < kSuperBlock; ++n) {
    const size_t half = n / 128;
    const size_t group = n % 128 / 32;  // of 32 weights
    const uint8_t byte = low[half * 64 + group % 2 * 32 + n % 32];
    const int nibble = group < 2 ? byte & 15 : byte >> 4;
    const int top = high[half * 32 + n % 32] >> (2 * group) & 3;
    const float step = d * float(int8_t(scales[n / 16]));
    out[n] = step * float((nibble | top << 4) - 32);
  }
}

constexpr std::array<GgufTypeInfo, 11> kReadable = {{
    {0, "F32", 1, 4, DecodeF32},
    {1, "F16", 1, 2, DecodeF16},
    {30, "BF16", 1, 2, DecodeBf16},
    {8, "Q8_0", kSmallBlock, 34, DecodeQ80},
    {2, "Q4_0", kSmallBlock, 18, DecodeQ40},
    {3, "Q4_1", kSmallBlock, 20, DecodeQ41},
    {6, "Q5_0", kSmallBlock, 22, DecodeQ50},
    {7, "Q5_1", kSmallBlock, 24, DecodeQ51},
    {12, "Q4_K", kSuperBlock, 144, DecodeQ4K},
    {13, "Q5_K", kSuperBlock, 176, DecodeQ5K},
    {14, "Q6_K", kSuperBlock, 210, DecodeQ6K},
}};

struct TypeName {
  uint32_t id;
  const char* name;
};
// Not read: for messages.
constexpr TypeName kOthers[] = {
    {9, "Q8_1"},     {10, "Q2_K"},  {11, "Q3_K"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"},
    {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {23, "IQ4_XS"},
    {24, "I8"},      {25, "I16"},   {26, "I32"},    {27, "I64"},   {28, "F64"},     {29, "IQ1_M"},
    {34, "TQ1_0"},   {35, "TQ2_0"}, {39, "MXFP4"}};

}  // namespace

const GgufTypeInfo* FindGgufType(uint32_t id) {
  for (const GgufTypeInfo& type : kReadable) {
    if (type.id == id) return &type;
  }
  return nullptr;
}

std::string GgufTypeName(uint32_t id) {
  if (const GgufTypeInfo* type = FindGgufType(id)) return type->name;
  for (const TypeName& other : kOthers) {
    if (other.id == id) return other.name;
  }
  return fmt::format("type {}", id);
}

std::string ReadableGgufTypes() {
  std::string names;
  for (const GgufTypeInfo& type : kReadable) {
    names += (names.empty() ? "" : ", ") + std::string(type.name);
  }
  return names;
}

void DecodeGgufBlocks(const GgufTypeInfo& type, std::span<const uint8_t> blocks,
                      std::span<float> out) {
  const size_t grain = kGrain / type.block_elements;
  kernels::ParallelFor(
      out.size() / type.block_elements, grain, [&](size_t begin, size_t end, size_t) {
        for (size_t i = begin; i < end; ++i) {
          type.decode(blocks.data() + i * type.block_bytes, out.data() + i * type.block_elements);
        }
      });
}

}  // namespace sdq::converter
