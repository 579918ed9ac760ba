#include "apps/support/machine.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "apps/support/app.h"
#include "apps/support/statistics.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "kernels/dispatch.h"
#include "kernels/parallel.h"
#include "kernels/read_memory.h"

namespace sdq::apps {
namespace {

constexpr double kSampleSeconds = 2e-3;  // shortest sample that the clock and a switch leave exact
constexpr size_t kSmallestBuffer = size_t{256} << 20;  // for memory
constexpr size_t kLargestBuffer = size_t{1} << 30;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kGrainWords = 512;  // threads meet at page borders

// To be freed; nullptr if there is none. Pages are touched by the threads that will read them.
uint64_t* MakeBuffer(size_t bytes) {
  const size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  auto* buffer = static_cast<uint64_t*>(std::aligned_alloc(kHugePage, rounded));
  if (buffer == nullptr) return buffer;
#if defined(__linux__)
  ::madvise(buffer, rounded, MADV_HUGEPAGE);
#endif
  kernels::ParallelFor(bytes / sizeof(uint64_t), kGrainWords,
                       [&](size_t begin, size_t end, size_t) {
                         std::memset(buffer + begin, 0x5a, (end - begin) * sizeof(uint64_t));
                       });
  return buffer;
}

}  // namespace

std::string BuildCommit() { return SDQ_COMMIT; }

std::string CpuModel() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

size_t LastLevelCacheBytes() {
#if defined(_SC_LEVEL3_CACHE_SIZE)
  for (const int name : {_SC_LEVEL4_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE, _SC_LEVEL2_CACHE_SIZE}) {
    const long bytes = ::sysconf(name);
    if (bytes > 0) return size_t(bytes);
  }
#endif
  // sysconf knows nothing on many Arm boards, where the kernel does.
  size_t largest = 0;
  for (int index = 0; index < 8; ++index) {
    std::ifstream file(fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}/size", index));
    size_t kibibytes = 0;
    if (file >> kibibytes && kibibytes < size_t{1} << 30) {
      largest = std::max(largest, kibibytes << 10);
    }
  }
  return largest;
}

Status ResolveTargets(std::vector<std::string>* targets) {
  const std::vector<std::string> available = kernels::AvailableTargets();
  if (targets->empty()) *targets = {kernels::TargetName()};
  if (*targets == std::vector<std::string>{"all"}) *targets = available;
  for (const std::string& target : *targets) {
    if (std::find(available.begin(), available.end(), target) != available.end()) continue;
    return Status::InvalidArgument(
        fmt::format("'{}' is no instruction set of this machine: it runs {}", target,
                    fmt::join(available, ", ")));
  }
  return Status::Ok();
}

double SecondsPerCall(const std::function<void()>& fn, double seconds, size_t least_samples) {
  const Stopwatch all;
  fn();
  if (all.seconds() > seconds) return all.seconds();  // too long for a cold start to matter
  size_t calls = 1;
  std::vector<double> samples;
  while (samples.size() < least_samples || all.seconds() < seconds) {
    const Stopwatch watch;
    for (size_t i = 0; i < calls; ++i) fn();
    const double elapsed = watch.seconds();
    if (elapsed < kSampleSeconds && samples.empty()) {
      calls *= elapsed > kSampleSeconds / 64 ? 2 : 32;
      continue;
    }
    samples.push_back(elapsed / double(calls));
  }
  return Summarize(samples).median;
}

ReadYardstick::ReadYardstick(uint64_t working_set) {
  const size_t cache = LastLevelCacheBytes();
  cached_ = working_set <= cache;
  bytes_ = cached_ ? std::max<size_t>(working_set, 4096)
                   : std::clamp<size_t>(4 * cache, kSmallestBuffer, kLargestBuffer);
  buffer_.reset(MakeBuffer(bytes_));
  constexpr size_t kWays = std::size(kernels::kReadWays), kTurns = 3;
  std::vector<double> rates[kWays];
  for (size_t turn = 0; turn < kTurns; ++turn) {
    for (size_t way = 0; way < kWays; ++way) {
      rates[way].push_back(
          BytesPerSecond(kernels::kReadWays[way], 0, kChoiceSeconds / (kWays * kTurns)));
    }
  }
  double fastest = 0;
  for (size_t way = 0; way < kWays; ++way) {
    const double rate = Summarize(rates[way]).median;
    if (rate <= fastest) continue;
    fastest = rate;
    way_ = kernels::kReadWays[way];
  }
}

double ReadYardstick::BytesPerSecond() { return BytesPerSecond(way_, kWarmSeconds, kReadSeconds); }

void ReadYardstick::Read(kernels::ReadWay way) {
  kernels::ParallelFor(
      bytes_ / sizeof(uint64_t), kGrainWords, [&](size_t begin, size_t end, size_t thread) {
        sums_[thread] ^= kernels::XorWords(way, buffer_.get() + begin, end - begin);
      });
}

double ReadYardstick::BytesPerSecond(kernels::ReadWay way, double warm_seconds, double seconds) {
  if (buffer_ == nullptr) return 0;
  sums_.resize(std::max(sums_.size(), kernels::Threads()));
  const Stopwatch warm;
  do {
    Read(way);
  } while (warm.seconds() < warm_seconds);
  // The clock is looked at ever more rarely, as a small buffer is read in less than a microsecond.
  const Stopwatch watch;
  size_t passes = 0;
  double elapsed = 0;
  for (size_t more = 1; elapsed < seconds; more = std::max<size_t>(1, passes / 4)) {
    for (size_t pass = 0; pass < more; ++pass) Read(way);
    passes += more;
    elapsed = watch.seconds();
  }
  return double(passes) * double(bytes_) / elapsed;
}

}  // namespace sdq::apps
