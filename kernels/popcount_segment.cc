#include "kernels/popcount_segment.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/table_layout.h"

namespace sdq::kernels {
namespace {

// Planes of a tile's rows: plus and, where there is one, minus.
void FinishTile(const SegmentArgs& args, size_t tile, size_t token, const uint8_t* plus,
                const uint8_t* minus, const SpreadPlanes& planes, MaskedSumsFunction masked_sums) {
  alignas(64) int32_t sums[kTileRows];
  masked_sums(plus, planes, sums);
  if (minus == nullptr) {  // +-1: twice the sum under the bits, minus the sum of all
    for (int32_t& sum : sums) sum = 2 * sum - planes.total();
  } else {
    alignas(64) int32_t minus_sums[kTileRows];
    masked_sums(minus, planes, minus_sums);
    for (size_t r = 0; r < kTileRows; ++r) sums[r] -= minus_sums[r];
  }
  AccumulateTile(sums, TokenScale(args, token),
                 args.acc + token * args.acc_stride + tile * kTileRows);
}

// UnpackTrits of every byte.
struct TritPlanes {
  std::array<uint8_t, 256> plus{}, minus{};
  TritPlanes() {
    for (size_t byte = 0; byte < 256; ++byte) {
      UnpackTrits(static_cast<uint8_t>(byte), &plus[byte], &minus[byte]);
    }
  }
};

}  // namespace

SpreadPlanes::SpreadPlanes(const uint8_t* planes, size_t bytes)
    : padded_bytes_((bytes + 3) / 4 * 4) {
  std::memcpy(&total_, planes, sizeof(total_));
  for (size_t k = 0; k < bytes; ++k) {
    for (size_t half = 0; half < 16; half += 8) {
      std::memcpy(data_ + 16 * k + half, planes + kPlaneHeaderBytes + 8 * k, 8);
    }
  }
  std::memset(data_ + 16 * bytes, 0, 16 * (padded_bytes_ - bytes));
}

void PopcountTiles(const SegmentArgs& args, MaskedSumsFunction masked_sums) {
  for (size_t token = 0; token < args.tokens; ++token) {
    const SpreadPlanes planes(args.tables + token * args.token_stride, args.bytes);
    for (size_t tile = 0; tile < args.tiles; ++tile) {
      const uint8_t* bits = args.bits + tile * args.tile_stride;
      const uint8_t* minus = args.plane_stride == 0 ? nullptr : bits + args.plane_stride;
      FinishTile(args, tile, token, bits, minus, planes, masked_sums);
    }
  }
}

void PopcountTritTiles(const SegmentArgs& args, MaskedSumsFunction masked_sums) {
  static const TritPlanes unpacked;
  constexpr size_t kMostBytes = kSegmentSamplesPacked / 5 * kTileRows;
  uint8_t plus[kMostBytes], minus[kMostBytes];
  const size_t end = args.bytes * kTileRows, padded = (args.bytes + 3) / 4 * 4 * kTileRows;
  // What the kernels read and count for nothing.
  std::fill(plus + end, plus + padded, uint8_t{0});
  std::fill(minus + end, minus + padded, uint8_t{0});
  for (size_t tile = 0; tile < args.tiles; ++tile) {
    const uint8_t* bits = args.bits + tile * args.tile_stride;
    for (size_t i = 0; i < end; ++i) {
      plus[i] = unpacked.plus[bits[i]];
      minus[i] = unpacked.minus[bits[i]];
    }
    for (size_t token = 0; token < args.tokens; ++token) {
      const SpreadPlanes planes(args.tables + token * args.token_stride, args.bytes);
      FinishTile(args, tile, token, plus, minus, planes, masked_sums);
    }
  }
}

}  // namespace sdq::kernels
