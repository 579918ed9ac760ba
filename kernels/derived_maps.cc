#include "kernels/derived_maps.h"

#include <bit>

namespace sdq::kernels {

DerivedMaps::DerivedMaps(uint32_t mask)
    : derived(mask), complement(std::popcount(mask) % 2 == 0 ? 0xff : 0) {
  uint64_t back = 0;  // bits of the two bytes that bit 7 of the second is made from
  for (unsigned b = 0; b < 8; ++b) back |= uint64_t{derived >> b & 1} << (15 - b);
  for (unsigned k = 0; k < 8; ++k) {
    const uint64_t bits = back >> k;
    of_byte |= (bits >> 8) << (8 * k);
    of_before |= (bits & 255) << (8 * k);
  }
  // The product of the nibble with `derived`, as polynomials over GF(2), moved to where it stands.
  unsigned products[16] = {};
  for (unsigned n = 0; n < 16; ++n) {
    products[n] = products[n / 2] << 1 ^ (n % 2 != 0 ? derived : 0);
    low[n] = static_cast<uint8_t>(products[n] ^ complement);
    high[n] = static_cast<uint8_t>(products[n] << 4);
    low_next[n] = static_cast<uint8_t>(products[n] >> 8);
    high_next[n] = static_cast<uint8_t>(products[n] >> 4);
  }
}

}  // namespace sdq::kernels
