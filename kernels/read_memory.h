// A plain read of memory, as fast as vectors and a page of prefetch make it: the yardstick that
// kernels limited by memory are measured against.
#ifndef SDQ_KERNELS_READ_MEMORY_H_
#define SDQ_KERNELS_READ_MEMORY_H_

#include <cstddef>
#include <cstdint>

namespace sdq::kernels {

// XOR of all words, so that every byte is read and no load can be left out.
uint64_t XorWords(const uint64_t* words, size_t count);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_READ_MEMORY_H_
