// Memory for kernels: one aligned allocation, carved into arrays by a cursor that also measures.
#ifndef SDQ_RUNTIME_ALIGNED_BUFFER_H_
#define SDQ_RUNTIME_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>

namespace sdq {

inline constexpr size_t kBufferAlignment = 64;

// a * b and a + b, SIZE_MAX where that does not fit: a size that no allocation can satisfy.
inline size_t SaturatingMul(size_t a, size_t b) {
  constexpr size_t kMax = std::numeric_limits<size_t>::max();
  return a != 0 && b > kMax / a ? kMax : a * b;
}
inline size_t SaturatingAdd(size_t a, size_t b) {
  constexpr size_t kMax = std::numeric_limits<size_t>::max();
  return b > kMax - a ? kMax : a + b;
}

// Uninitialized bytes at a 64-byte boundary. Pages that are never written cost no memory.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  // Throws std::bad_alloc; Session::Create and Append turn that into kResourceExhausted.
  explicit AlignedBuffer(size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    if (bytes > std::numeric_limits<size_t>::max() - kBufferAlignment) throw std::bad_alloc();
    const size_t rounded = (bytes + kBufferAlignment - 1) & ~(kBufferAlignment - 1);
    data_.reset(static_cast<uint8_t*>(std::aligned_alloc(kBufferAlignment, rounded)));
    if (data_ == nullptr) throw std::bad_alloc();
  }

  uint8_t* data() const { return data_.get(); }
  size_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  std::unique_ptr<uint8_t, Free> data_;
  size_t bytes_ = 0;
};

// Hands out consecutive aligned arrays. Over a null base it only measures: running the same carve
// function first with null and then over a buffer of `used()` bytes cannot disagree with itself.
class Carver {
 public:
  explicit Carver(uint8_t* base) : base_(base) {}

  uint8_t* Bytes(size_t count) {
    uint8_t* result = base_ == nullptr ? nullptr : base_ + used_;
    const size_t padding = (kBufferAlignment - count % kBufferAlignment) % kBufferAlignment;
    used_ = SaturatingAdd(used_, SaturatingAdd(count, padding));
    return result;
  }
  float* Floats(size_t rows, size_t columns) {
    const size_t bytes = SaturatingMul(SaturatingMul(rows, columns), sizeof(float));
    return reinterpret_cast<float*>(Bytes(bytes));
  }
  size_t used() const { return used_; }

 private:
  uint8_t* base_;
  size_t used_ = 0;
};

}  // namespace sdq

#endif  // SDQ_RUNTIME_ALIGNED_BUFFER_H_
