#include "format/checksum.h"

#include <xxhash.h>

namespace sdq::format {

uint64_t Checksum(std::span<const uint8_t> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace sdq::format
