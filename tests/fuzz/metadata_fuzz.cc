// Any bytes as metadata: refused, or decoded to something that encodes to the same bytes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "format/metadata.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto decoded = sdq::format::Metadata::Decode({data, size});
  if (!decoded.ok()) {
    if (decoded.status().message().empty()) std::abort();
    return 0;
  }
  if (!decoded->Validate().ok()) std::abort();
  const std::vector<uint8_t> encoded = decoded->Encode();
  if (!std::equal(encoded.begin(), encoded.end(), data, data + size)) std::abort();
  return 0;
}
