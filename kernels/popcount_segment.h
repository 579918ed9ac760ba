// What the popcount kernels of all targets share: all but the counting of bits.
#ifndef SDQ_KERNELS_POPCOUNT_SEGMENT_H_
#define SDQ_KERNELS_POPCOUNT_SEGMENT_H_

#include <cstddef>
#include <cstdint>

#include "kernels/stream_kernels.h"
#include "kernels/stream_layout.h"

namespace sdq::kernels {

// A token's planes of one segment, spread as the rows of a tile are: 16 bytes per stream byte, its
// eight planes twice. Zeros behind them up to a multiple of four stream bytes.
class SpreadPlanes {
 public:
  // planes: of the segment, with their header.
  SpreadPlanes(const uint8_t* planes, size_t bytes);

  const uint8_t* data() const { return data_; }
  size_t padded_bytes() const { return padded_bytes_; }
  int32_t total() const { return total_; }  // sum of all samples' values

 private:
  static constexpr size_t kMostBytes = kSegmentSamplesPacked / 5;
  static_assert(kMostBytes % 4 == 0 && kMostBytes >= kSegmentSamples / 8);
  alignas(64) uint8_t data_[kMostBytes * 16];
  size_t padded_bytes_;
  int32_t total_ = 0;
};

// sums[r] = sum of the values under the set bits of row r of a tile. Reads padded_bytes() of them.
// sums: 16, at a multiple of 64 bytes.
using MaskedSumsFunction = void (*)(const uint8_t* bits, const SpreadPlanes& planes, int32_t* sums);

// The segment kernels that follow from it: binary or two planes, packed trits.
void PopcountTiles(const SegmentArgs& args, MaskedSumsFunction masked_sums);
void PopcountTritTiles(const SegmentArgs& args, MaskedSumsFunction masked_sums);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_POPCOUNT_SEGMENT_H_
