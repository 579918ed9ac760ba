// Fetching memory into the caches before it is read. What is fetched may lie behind what exists,
// where that is harmless: hence distances in bytes (modulo 2^64) that are added to addresses, not
// to pointers. Nothing to fetch is distance 0, which is there already and cheaper than a branch.
#ifndef SDQ_KERNELS_FETCH_H_
#define SDQ_KERNELS_FETCH_H_

#include <cstddef>
#include <cstdint>

#include "hwy/base.h"

namespace sdq::kernels {

inline constexpr size_t kLineBytes = 64;

// Memory that is read in several places at once is read forward in strips of about so many bytes,
// one behind the other, one for each place.
inline constexpr size_t kStripBytes = size_t{64} << 10;

// The line `distance` behind `at`, into the first or second cache. Calls that are not inlined would
// be removed, since fetching has no effect that a compiler knows of.
template <int kCache>
HWY_INLINE void FetchLine(const void* at, size_t distance) {
#if defined(__GNUC__)
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(at) + distance), 0,
                     4 - kCache);
#endif
}

// The lines of `bytes` from there on.
template <int kCache>
HWY_INLINE void FetchLines(const void* at, size_t bytes, size_t distance) {
  for (size_t i = 0; i < bytes; i += kLineBytes) FetchLine<kCache>(at, distance + i);
}

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_FETCH_H_
