// Is this text UTF-8?
#ifndef SDQ_FORMAT_UTF8_H_
#define SDQ_FORMAT_UTF8_H_

#include <string_view>

namespace sdq::format {

// Well formed by Unicode table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF.
bool IsUtf8(std::string_view text);

}  // namespace sdq::format

#endif  // SDQ_FORMAT_UTF8_H_
