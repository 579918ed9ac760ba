// Plain reads of memory by vectors: the yardstick that kernels limited by memory are measured
// against.
#ifndef SDQ_KERNELS_READ_MEMORY_H_
#define SDQ_KERNELS_READ_MEMORY_H_

#include <cstddef>
#include <cstdint>

namespace sdq::kernels {

// Which of them is fastest depends on the processor, and on how many threads read. Forward, or in
// four strips of 64 KB at once, one behind the other, as decode reads; left to the processor's
// prefetchers, or with every line fetched about a page ahead.
enum class ReadWay { kForward, kForwardFetched, kStrips, kStripsFetched };
inline constexpr ReadWay kReadWays[] = {ReadWay::kForward, ReadWay::kForwardFetched,
                                        ReadWay::kStrips, ReadWay::kStripsFetched};

// XOR of all words, so that every byte is read and no load can be left out.
uint64_t XorWords(ReadWay way, const uint64_t* words, size_t count);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_READ_MEMORY_H_
