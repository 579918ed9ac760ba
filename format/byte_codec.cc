#include "format/byte_codec.h"

namespace sdq::format {

void ByteSink::AppendBytes(std::span<const uint8_t> bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

void ByteSink::AppendZeros(size_t count) { bytes_.resize(bytes_.size() + count); }

}  // namespace sdq::format
