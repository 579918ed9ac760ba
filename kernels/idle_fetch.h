// What threads fetch while they wait for work: the beginning of what they will read next, since
// memory has nothing else to do. Hints: results never depend on them.
#ifndef SDQ_KERNELS_IDLE_FETCH_H_
#define SDQ_KERNELS_IDLE_FETCH_H_

#include <cstddef>
#include <cstdint>

namespace sdq::kernels {

// Bytes that are worth it: as many as come while a token's activation is prepared, and a small part
// of a second cache.
inline constexpr size_t kIdleFetchBytes = size_t{128} << 10;

// `thread`, of a region's team, will read forward in `strips` places, `stride` bytes apart, the
// first at `bits`: `bytes` of each. Replaces what was said before; may be called while the thread
// fetches that. Nothing is dereferenced, so that the memory may be gone by then.
void SetIdleFetch(size_t thread, const uint8_t* bits, size_t stride, size_t strips, size_t bytes);

// Fetches the next few lines of it into the second cache, which takes a fraction of a microsecond.
// By the thread itself. False if there are none left.
bool FetchIdly(size_t thread);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_IDLE_FETCH_H_
