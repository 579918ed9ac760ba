// Keys and values of one KV head, as attention reads them: keys in blocks of positions, so that a
// vector holds one element of many keys and no score is a sum over lanes; values as rows.
#ifndef SDQ_KERNELS_KV_CACHE_H_
#define SDQ_KERNELS_KV_CACHE_H_

#include <cstddef>
#include <cstdint>

namespace sdq::kernels {

// kQ8: int8, times one scale for each position of a head.
enum class KvType : uint8_t { kF32 = 1, kF16 = 2, kQ8 = 3 };

// Bytes of an element.
constexpr size_t KvElementBytes(KvType type) {
  return type == KvType::kF32 ? 4 : type == KvType::kF16 ? 2 : 1;
}

// Positions of a block of keys.
inline constexpr size_t kKeyBlock = 32;

// How far ahead keys and values are fetched, into the second cache, which takes more requests at a
// time than the first: two pages, since hardware prefetchers stop at the ends of pages. Line by
// line with what is read, but for the first two.
inline constexpr size_t kKvFetchAhead = 8192;

// Positions that a cache for `context` of them has room for: whole blocks. Saturates.
constexpr size_t KvPositions(size_t context) {
  return context > SIZE_MAX - kKeyBlock ? SIZE_MAX
                                        : (context + kKeyBlock - 1) / kKeyBlock * kKeyBlock;
}

// Put a head's `dim` floats into place. keys: [positions / kKeyBlock][dim][kKeyBlock] elements,
// values: [positions][dim]. f16 rounds to nearest even. kQ8: integers of at most 127 (nearest even)
// times the scale that is returned; a value that is not finite makes the scale NaN. Other types
// return 1.
float StoreKey(const float* src, size_t dim, KvType type, size_t position, void* keys);
float StoreValue(const float* src, size_t dim, KvType type, size_t position, void* values);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_KV_CACHE_H_
