#include "converter/dense_tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "converter/encoder.h"
#include "kernels/parallel.h"

namespace sdq::converter {
namespace {

using format::DenseType;

constexpr size_t kGrain = 1 << 16;  // elements per parallel chunk

std::vector<uint8_t> RoundToHalf(const std::vector<float>& values, uint16_t (*round)(float)) {
  std::vector<uint8_t> bytes(values.size() * 2);
  kernels::ParallelFor(values.size(), kGrain, [&](size_t begin, size_t end, size_t) {
    for (size_t i = begin; i < end; ++i) {
      const uint16_t h = round(values[i]);
      std::memcpy(&bytes[2 * i], &h, 2);
    }
  });
  return bytes;
}

struct EightBitRows {
  std::vector<uint8_t> data;  // int8
  std::vector<uint16_t> scales_f16;
  float scale_base = 1.0f;
};

EightBitRows RoundToEightBits(const std::vector<float>& values, size_t rows, size_t columns) {
  EightBitRows q;
  std::vector<float> scales(rows);
  kernels::ParallelFor(rows, 16, [&](size_t begin, size_t end, size_t) {
    for (size_t r = begin; r < end; ++r) {
      float largest = 0;
      for (size_t c = 0; c < columns; ++c) {
        largest = std::max(largest, std::fabs(values[r * columns + c]));
      }
      scales[r] = largest / 127.0f;
    }
  });
  PackScales(scales, &q.scales_f16, &q.scale_base);
  q.data.resize(values.size());
  kernels::ParallelFor(rows, 16, [&](size_t begin, size_t end, size_t) {
    for (size_t r = begin; r < end; ++r) {
      const float scale = q.scale_base * format::F16ToF32(q.scales_f16[r]);
      for (size_t c = 0; c < columns; ++c) {
        const float x = scale > 0 ? std::nearbyint(values[r * columns + c] / scale) : 0.0f;
        q.data[r * columns + c] = uint8_t(int8_t(std::clamp(x, -127.0f, 127.0f)));
      }
    }
  });
  return q;
}

}  // namespace

Status WriteDense(format::SdqWriter& writer, const std::string& name, uint32_t rows,
                  uint32_t columns, const std::vector<float>& values, DenseType type,
                  const std::vector<float>& bias) {
  format::DenseView view;
  view.name = name;
  view.type = type;
  view.rows = rows;
  view.columns = columns;
  view.bias = bias;
  std::vector<uint8_t> half;
  EightBitRows eight;
  switch (type) {
    case DenseType::kF32:
      view.data = {reinterpret_cast<const uint8_t*>(values.data()), values.size() * 4};
      break;
    case DenseType::kF16:
      half = RoundToHalf(values, format::F32ToF16);
      view.data = half;
      break;
    case DenseType::kBF16:
      half = RoundToHalf(values, format::F32ToBF16);
      view.data = half;
      break;
    case DenseType::kQ8:
      eight = RoundToEightBits(values, rows, columns);
      view.data = eight.data;
      view.scales_f16 = eight.scales_f16;
      view.scale_base = eight.scale_base;
      break;
  }
  return writer.Add(view);
}

DenseType DenseTypeFromName(const std::string& name) {
  if (name == "f16") return DenseType::kF16;
  if (name == "bf16") return DenseType::kBF16;
  return DenseType::kF32;
}

}  // namespace sdq::converter
