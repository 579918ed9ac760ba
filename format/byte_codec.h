// Little-endian numbers: byte-wise load and store, a bounded cursor to read, a sink to append.
//
// Byte-wise, so that neither alignment nor the host's byte order matters; compilers turn each of
// these into one load or store.
#ifndef SDQ_FORMAT_BYTE_CODEC_H_
#define SDQ_FORMAT_BYTE_CODEC_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace sdq::format {

// The unsigned integer that carries T's bits on disk.
template <typename T>
using DiskBits =
    std::conditional_t<sizeof(T) == 1, uint8_t,
                       std::conditional_t<sizeof(T) == 2, uint16_t,
                                          std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>>;

// T: an integer or floating type. `at` has sizeof(T) bytes.
template <typename T>
T LoadLe(const uint8_t* at) {
  static_assert(std::is_arithmetic_v<T>);
  uint64_t bits = 0;
  for (size_t i = 0; i < sizeof(T); ++i) bits |= uint64_t{at[i]} << (8 * i);
  return std::bit_cast<T>(static_cast<DiskBits<T>>(bits));
}

template <typename T>
void StoreLe(T value, uint8_t* at) {
  static_assert(std::is_arithmetic_v<T>);
  const uint64_t bits = std::bit_cast<DiskBits<T>>(value);
  for (size_t i = 0; i < sizeof(T); ++i) at[i] = static_cast<uint8_t>(bits >> (8 * i));
}

// Reads forward through a span and never past its end. After a failed read the cursor stays put.
class ByteCursor {
 public:
  explicit ByteCursor(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  size_t offset() const { return offset_; }
  size_t remaining() const { return bytes_.size() - offset_; }

  // False, with *value untouched, if fewer than sizeof(T) bytes remain.
  template <typename T>
  [[nodiscard]] bool Read(T* value) {
    if (remaining() < sizeof(T)) return false;
    *value = LoadLe<T>(bytes_.data() + offset_);
    offset_ += sizeof(T);
    return true;
  }
  // A view of the next `count` bytes. `count` may be any value a file can hold.
  [[nodiscard]] bool ReadText(uint64_t count, std::string_view* text) {
    if (remaining() < count) return false;
    *text = {reinterpret_cast<const char*>(bytes_.data()) + offset_, size_t(count)};
    offset_ += size_t(count);
    return true;
  }

 private:
  std::span<const uint8_t> bytes_;
  size_t offset_ = 0;
};

class ByteSink {
 public:
  template <typename T>
  void Append(T value) {
    uint8_t buffer[sizeof(T)];
    StoreLe(value, buffer);
    AppendBytes(buffer);
  }
  void AppendText(std::string_view text) {
    AppendBytes({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  void AppendBytes(std::span<const uint8_t> bytes);
  void AppendZeros(size_t count);

  size_t size() const { return bytes_.size(); }
  const std::vector<uint8_t>& bytes() const { return bytes_; }
  std::vector<uint8_t> Take() && { return std::move(bytes_); }

 private:
  std::vector<uint8_t> bytes_;
};

}  // namespace sdq::format

#endif  // SDQ_FORMAT_BYTE_CODEC_H_
