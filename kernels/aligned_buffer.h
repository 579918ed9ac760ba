// Scratch memory for vector kernels.
#ifndef SDQ_KERNELS_ALIGNED_BUFFER_H_
#define SDQ_KERNELS_ALIGNED_BUFFER_H_

#include <cstddef>
#include <new>

namespace sdq::kernels {

// `count` uninitialized floats at a 64-byte boundary. Throws std::bad_alloc as containers do.
class AlignedFloats {
 public:
  explicit AlignedFloats(size_t count)
      : data_(static_cast<float*>(::operator new(count * sizeof(float), kAlignment))) {}
  ~AlignedFloats() { ::operator delete(data_, kAlignment); }
  AlignedFloats(const AlignedFloats&) = delete;
  AlignedFloats& operator=(const AlignedFloats&) = delete;
  float* data() const { return data_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  float* data_;
};

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_ALIGNED_BUFFER_H_
