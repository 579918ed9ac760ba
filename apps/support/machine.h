// The machine that a measurement was made on, and how fast it reads memory.
#ifndef SDQ_APPS_SUPPORT_MACHINE_H_
#define SDQ_APPS_SUPPORT_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "format/status.h"
#include "kernels/read_memory.h"

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

// How fast Threads() threads read, each its own part of one buffer in huge pages (where the system
// gives them): the yardstick of decode. A working set that fits the largest cache is measured with
// a buffer of its size; a larger one with a buffer several times the cache, because what counts
// then is the memory behind it.
class ReadYardstick {
 public:
  // How long choosing takes, and one measurement, in seconds.
  static constexpr double kChoiceSeconds = 0.8;
  static constexpr double kWarmSeconds = 0.1;
  static constexpr double kReadSeconds = 0.2;

  // Chooses the fastest of several ways to read (kernels/read_memory.h), which take turns.
  explicit ReadYardstick(uint64_t working_set);

  // How fast memory is read that way now: all passes of kReadSeconds, after kWarmSeconds in which
  // the caches forget what ran before. 0 if there is no memory for the buffer.
  double BytesPerSecond();

  bool cached() const { return cached_; }  // the buffer fits the largest cache
  size_t bytes() const { return bytes_; }  // of the buffer

 private:
  struct Free {
    void operator()(uint64_t* p) const { std::free(p); }
  };

  void Read(kernels::ReadWay way);
  double BytesPerSecond(kernels::ReadWay way, double warm_seconds, double seconds);

  bool cached_ = false;
  size_t bytes_ = 0;
  std::unique_ptr<uint64_t, Free> buffer_;
  std::vector<uint64_t> sums_;  // of each thread, so that reading has a purpose
  kernels::ReadWay way_ = kernels::ReadWay::kForward;
};

}  // namespace sdq::apps

#endif  // SDQ_APPS_SUPPORT_MACHINE_H_
