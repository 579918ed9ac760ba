// Element types of GGUF tensors and their exact values in f32.
//
// Formats: github.com/ggml-org/ggml, docs/gguf.md and the block layouts of ggml-common.h. All are
// little endian. Every value is one or two f32 operations on exact small integers and f16 scales,
// in the order of the reference, so that results agree bit for bit:
//   Q8_0  d q                     32 weights in 34 bytes
//   Q4_0, Q5_0  d (q - 8), d (q - 16)          18, 22 bytes
//   Q4_1, Q5_1  d q + m                        20, 24 bytes
//   Q4_K, Q5_K  (d s_j) q - (dmin m_j)    256 weights in 144, 176 bytes, 6-bit s and m per 32
//   Q6_K  (d s_j) (q - 32)                210 bytes, 8-bit s per 16
#ifndef SDQ_CONVERTER_GGUF_TYPES_H_
#define SDQ_CONVERTER_GGUF_TYPES_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace sdq::converter {

struct GgufTypeInfo {
  uint32_t id = 0;  // as files number it
  const char* name = "";
  size_t block_elements = 1;
  size_t block_bytes = 0;
  // One block to block_elements floats.
  void (*decode)(const uint8_t* block, float* out) = nullptr;
};

// nullptr for a type that this build does not read.
const GgufTypeInfo* FindGgufType(uint32_t id);

// "Q2_K" for known types, readable or not; "type 99" for others.
std::string GgufTypeName(uint32_t id);

// "F32, F16, ...": what FindGgufType finds.
std::string ReadableGgufTypes();

// out.size() is a multiple of block_elements; blocks holds as many whole blocks.
void DecodeGgufBlocks(const GgufTypeInfo& type, std::span<const uint8_t> blocks,
                      std::span<float> out);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_GGUF_TYPES_H_
