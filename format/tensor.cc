// Geometry of a bitstream: blocks, samples, bytes.
#include "format/tensor.h"

#include <algorithm>
#include <bit>

namespace sdq::format {
namespace {

uint32_t FullBlock(const DecimatorSpec& decimator, uint32_t columns) {
  return decimator.block == 0 ? columns : std::min(decimator.block, columns);
}

}  // namespace

uint32_t DerivedReach(const DecimatorSpec& decimator) {
  return decimator.derived == 0 ? 0 : uint32_t(std::bit_width(decimator.derived)) - 1;
}

uint32_t PhaseTaps(const DecimatorSpec& decimator) {
  const uint32_t window = decimator.window;
  return decimator.derived == 0 ? window : 2 * window - DerivedReach(decimator);
}

uint32_t BlockCount(const DecimatorSpec& decimator, uint32_t columns) {
  const uint32_t block = FullBlock(decimator, columns);
  return columns / block + (columns % block != 0 ? 1 : 0);
}

uint32_t BlockColumns(const DecimatorSpec& decimator, uint32_t columns, uint32_t block_index) {
  const uint32_t block = FullBlock(decimator, columns);
  return std::min(block, columns - block_index * block);
}

uint32_t BlockSamples(const DecimatorSpec& decimator, uint32_t columns, uint32_t block_index) {
  const uint64_t length = BlockColumns(decimator, columns, block_index);
  return static_cast<uint32_t>(decimator.lead + length * decimator.osr_num / decimator.osr_den);
}

uint64_t RowSamples(const DecimatorSpec& decimator, uint32_t columns) {
  const uint32_t last = BlockCount(decimator, columns) - 1;
  return uint64_t{last} * BlockSamples(decimator, columns, 0) +
         BlockSamples(decimator, columns, last);
}

uint64_t RowBytes(const DecimatorSpec& decimator, Alphabet alphabet, uint32_t columns) {
  const uint32_t last = BlockCount(decimator, columns) - 1;
  return last * BytesForSamples(alphabet, BlockSamples(decimator, columns, 0)) +
         BytesForSamples(alphabet, BlockSamples(decimator, columns, last));
}

uint64_t BitstreamBytes(const DecimatorSpec& decimator, Alphabet alphabet, uint32_t rows,
                        uint32_t columns) {
  const uint64_t tiles = (uint64_t{rows} + kTileRows - 1) / kTileRows;
  const uint64_t planes = alphabet == Alphabet::kTernaryPlanes ? 2 : 1;
  return tiles * planes * RowBytes(decimator, alphabet, columns) * kTileRows;
}

uint64_t DenseElementBytes(DenseType type) {
  switch (type) {
    case DenseType::kF32:
      return 4;
    case DenseType::kF16:
    case DenseType::kBF16:
      return 2;
    case DenseType::kQ8:
      return 1;
  }
  return 0;
}

uint64_t DenseBytes(DenseType type, uint32_t rows, uint32_t columns) {
  return uint64_t{rows} * columns * DenseElementBytes(type);
}

const std::string& NameOf(const DenseView& view) { return view.name; }
const std::string& NameOf(const StreamView& view) { return view.name; }

}  // namespace sdq::format
