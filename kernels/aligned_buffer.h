// Scratch memory for vector kernels.
#ifndef SDQ_KERNELS_ALIGNED_BUFFER_H_
#define SDQ_KERNELS_ALIGNED_BUFFER_H_

#include <cstddef>
#include <new>
#include <vector>

namespace sdq::kernels {

// The boundary of a cache line and of the widest vectors.
inline constexpr std::align_val_t kAlignment{64};

template <class T>
struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <class U>
  AlignedAllocator(const AlignedAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), kAlignment)); }
  void deallocate(T* p, size_t) { ::operator delete(p, kAlignment); }
  template <class U>
  bool operator==(const AlignedAllocator<U>&) const {
    return true;
  }
};

template <class T>
using AlignedVector = std::vector<T, AlignedAllocator<T> >;

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
  float* data_;
};

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_ALIGNED_BUFFER_H_
