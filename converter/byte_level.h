// The visible alphabet of byte-level BPE: every byte written as one printable character (GPT-2).
#ifndef SDQ_CONVERTER_BYTE_LEVEL_H_
#define SDQ_CONVERTER_BYTE_LEVEL_H_

#include <string>
#include <string_view>

namespace sdq::converter {

// The bytes that `visible` (UTF-8) stands for. False if a character is none of the 256.
bool BytesOfVisible(std::string_view visible, std::string* bytes);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_BYTE_LEVEL_H_
