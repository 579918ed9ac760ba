// Reader of GGUF files, versions 2 and 3, little endian.
//
// Layout (github.com/ggml-org/ggml, docs/gguf.md): magic "GGUF", u32 version, u64 tensor count, u64
// key count; the keys (gguf_metadata.h); per tensor its name, u32 dimensions, u64 each (fastest
// first), u32 type, u64 offset into the data; then the data, from the next multiple of
// "general.alignment" (default 32) on, every tensor at such a multiple.
#ifndef SDQ_CONVERTER_GGUF_FILE_H_
#define SDQ_CONVERTER_GGUF_FILE_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "converter/gguf_metadata.h"
#include "converter/gguf_types.h"
#include "format/status.h"

namespace sdq::converter {

inline constexpr uint32_t kMaxGgufDimensions = 4;
inline constexpr uint64_t kMaxGgufAlignment = 1 << 16;
inline constexpr uint64_t kMaxGgufKeyBytes = 65535;
inline constexpr uint64_t kMaxGgufNameBytes = 256;  // of a tensor

struct GgufTensor {
  std::string name;
  const GgufTypeInfo* type = nullptr;
  std::vector<uint64_t> dimensions;  // fastest first: columns, rows; at least one, each > 0
  uint64_t elements = 0;             // whole blocks per row
  std::span<const uint8_t> bytes;    // into the file
};

struct GgufContents {
  GgufMetadata metadata;
  std::map<std::string, GgufTensor, std::less<>> tensors;
};

// Do these bytes begin like a GGUF file?
bool LooksLikeGguf(std::span<const uint8_t> file);

// Checks the whole structure; views of the result need no further checks. `file` must outlive
// them, `name` is for messages. kUnsupported for other versions, big-endian files, nested arrays
// and tensor types that are not read; kCorrupt for everything else that violates the layout: cut
// short anywhere, counts and lengths beyond what remains, sizes that overflow, offsets that are not
// aligned, overlap, or leave more room than padding; duplicate keys and names.
Result<GgufContents> ParseGguf(std::span<const uint8_t> file, const std::string& name);

// The whole tensor in f32. kCorrupt with name and index for a value that is not finite,
// kResourceExhausted if memory does not suffice.
Status ReadGgufTensor(const GgufTensor& tensor, std::vector<float>* out);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_GGUF_FILE_H_
