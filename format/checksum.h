// The checksum of headers, tables and sections: XXH3, 64 bits, seed 0.
#ifndef SDQ_FORMAT_CHECKSUM_H_
#define SDQ_FORMAT_CHECKSUM_H_

#include <cstdint>
#include <span>

namespace sdq::format {

uint64_t Checksum(std::span<const uint8_t> bytes);

}  // namespace sdq::format

#endif  // SDQ_FORMAT_CHECKSUM_H_
