// How bytes of derived samples are made from bytes of stored ones.
#ifndef SDQ_KERNELS_DERIVED_MAPS_H_
#define SDQ_KERNELS_DERIVED_MAPS_H_

#include <cstdint>

namespace sdq::kernels {

// Bit i of a derived byte is the product of the samples i - b of its row for all bits b of
// `derived` (MapSpec::derived, below 256). As bits, that is the sum modulo 2 of some bits of the
// stored byte and of the one before it, complemented if they are even in number: a linear map of
// each of the two bytes, over GF(2), and of each of their nibbles.
struct DerivedMaps {
  explicit DerivedMaps(uint32_t derived);

  uint32_t derived;
  uint8_t complement;  // all bits, or none
  // As GF2P8AFFINEQB takes them: byte 7 - i names the bits whose sum is bit i.
  uint64_t of_byte = 0, of_before = 0;
  // What a byte's low and high nibble make of its own derived byte, the complement included, and of
  // the next one.
  alignas(16) uint8_t low[16], high[16], low_next[16], high_next[16];
};

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_DERIVED_MAPS_H_
