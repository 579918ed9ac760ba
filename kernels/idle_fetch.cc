#include "kernels/idle_fetch.h"

#include <array>
#include <atomic>

#include "kernels/fetch.h"
#include "kernels/parallel.h"

namespace sdq::kernels {
namespace {

constexpr size_t kLinesAtOnce = 4;  // of each strip

// Where a thread is in the first strip. Written by two threads; what one reads while the other
// writes may not belong together, which fetches a few lines in vain.
struct alignas(64) Place {
  std::atomic<uintptr_t> at{0}, end{0};
  std::atomic<size_t> stride{0}, strips{0};
};

std::array<Place, kMaxThreads> places;

}  // namespace

void SetIdleFetch(size_t thread, const uint8_t* bits, size_t stride, size_t strips, size_t bytes) {
  if (thread >= kMaxThreads) return;
  Place& place = places[thread];
  const uintptr_t first = reinterpret_cast<uintptr_t>(bits);
  place.stride.store(stride, std::memory_order_relaxed);
  place.strips.store(strips, std::memory_order_relaxed);
  place.end.store(first + bytes, std::memory_order_relaxed);
  place.at.store(first, std::memory_order_release);
}

bool FetchIdly(size_t thread) {
  if (thread >= kMaxThreads) return false;
  Place& place = places[thread];
  uintptr_t at = place.at.load(std::memory_order_acquire);
  if (at >= place.end.load(std::memory_order_relaxed)) return false;
  const size_t stride = place.stride.load(std::memory_order_relaxed);
  const size_t strips = place.strips.load(std::memory_order_relaxed);
  for (size_t line = 0; line < kLinesAtOnce; ++line) {
    for (size_t strip = 0; strip < strips; ++strip) {
      FetchLine<2>(nullptr, at + line * kLineBytes + strip * stride);
    }
  }
  // Unless it was set anew in the meantime.
  place.at.compare_exchange_strong(at, at + kLinesAtOnce * kLineBytes, std::memory_order_relaxed);
  return true;
}

}  // namespace sdq::kernels
