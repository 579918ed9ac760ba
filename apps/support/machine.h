// The machine that a measurement was made on, and how fast it reads memory.
#ifndef SDQ_APPS_SUPPORT_MACHINE_H_
#define SDQ_APPS_SUPPORT_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "format/status.h"

namespace sdq::apps {

// Short commit that the build was configured at, "unknown" outside a git checkout.
std::string BuildCommit();
// As the system names it, "unknown" if it does not.
std::string CpuModel();
// Bytes of the largest cache; 0 if unknown.
size_t LastLevelCacheBytes();

// Replaces {"all"} by every instruction set that this machine runs, best first, and nothing by the
// one in use. kInvalidArgument for a name that does not run here.
Status ResolveTargets(std::vector<std::string>* targets);

// Seconds of one call of fn: the median of at least `least_samples` samples over at least `seconds`
// in all, each long enough for the clock. The first call is not counted, unless it takes that long
// by itself.
double SecondsPerCall(const std::function<void()>& fn, double seconds, size_t least_samples = 3);

struct ReadBandwidth {
  size_t bytes = 0;     // of the buffer that was read
  bool cached = false;  // the buffer fits the largest cache
  double bytes_per_second = 0;
};

// How long that is measured, in seconds.
inline constexpr double kBandwidthSeconds = 0.8;

// How fast Threads() threads read, each its own part of one buffer in huge pages (where the system
// gives them): the fastest of several ways to read (kernels/read_memory.h), of each the median over
// passes. A working set that fits the largest cache is measured with a buffer of its size; a larger
// one with a buffer several times the cache, because what counts then is the memory behind it.
// bytes_per_second is 0 if there is no memory for the buffer.
ReadBandwidth MeasureReadBandwidth(uint64_t working_set);

}  // namespace sdq::apps

#endif  // SDQ_APPS_SUPPORT_MACHINE_H_
