#include "kernels/parallel.h"

#include <algorithm>
#include <atomic>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <utility>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(SDQ_OPENMP)
#include <omp.h>
#else
#include <mutex>
#include <vector>
#endif

namespace sdq::kernels {
namespace {

constexpr size_t kMaxThreads = 256;

using ThreadBody = std::function<void(size_t)>;

thread_local bool inside_region = false;

#if defined(__linux__)
long ReadTopology(int cpu, const char* field) {
  std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/" + field);
  long value = -1;
  return file >> value ? value : -1;
}

size_t CountPhysicalCores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof(mask), &mask) != 0) return std::thread::hardware_concurrency();
  std::set<std::pair<long, long>> cores;
  size_t unknown = 0;  // without a readable topology every logical processor counts as a core
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(static_cast<size_t>(cpu), &mask)) continue;
    const long package = ReadTopology(cpu, "physical_package_id");
    const long core = ReadTopology(cpu, "core_id");
    if (package < 0 || core < 0) {
      ++unknown;
    } else {
      cores.emplace(package, core);
    }
  }
  return cores.size() + unknown;
}
#else
size_t CountPhysicalCores() { return std::thread::hardware_concurrency(); }
#endif

std::atomic<size_t>& ThreadCount() {
  static std::atomic<size_t> count{DefaultThreads()};
  return count;
}

#if defined(SDQ_OPENMP)

// body(0) and some of body(1) .. body(size - 1), each at most once.
void RunTeam(size_t size, const ThreadBody& body) {
#pragma omp parallel num_threads(static_cast <int>(size))
  {
    inside_region = true;
    body(static_cast<size_t>(omp_get_thread_num()));
    inside_region = false;
  }
}

#else

// Pauses while waiting before a thread goes to sleep: less than a millisecond. Waking a sleeper
// costs a virtual machine far more than the serial code between two regions of a decoded token, and
// with 500 pauses two threads decoded a small model several times slower than one; a barrier that
// spins for many milliseconds, on the other hand, burns the time of a core that somebody else has
// taken.
constexpr int kSpins = 10000;

void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until `value` differs from `old`, spinning first; returns the new value.
template <typename T>
T AwaitChange(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i) {
    const T now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    Pause();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

// Workers that live as long as the process; one region at a time. A region belongs to those who
// come in time: when the caller finds no work left it shuts the gate and waits for the workers that
// are inside, not for one that is still asleep or whose core is busy elsewhere.
class Team {
 public:
  ~Team() {
    Announce(kStop);
    for (std::thread& worker : workers_) worker.join();
  }

  void Run(size_t size, const ThreadBody& body) {
    const std::lock_guard region(region_);
    while (workers_.size() + 1 < size) {
      const size_t index = workers_.size() + 1;
      const uint64_t seen = ticket_.load(std::memory_order_relaxed);
      workers_.emplace_back([this, index, seen] { Work(index, seen); });
    }
    body_ = &body;
    const uint64_t number = (ticket_.load(std::memory_order_relaxed) >> kSizeBits) + 1;
    gate_.store(number << kSizeBits | kOpen, std::memory_order_release);
    Announce(size);
    inside_region = true;
    body(0);
    inside_region = false;
    uint64_t gate = gate_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
    while ((gate & kInside) != 0) gate = AwaitChange(gate_, gate);
  }

 private:
  // A ticket is a region's number and its team size, so that workers outside the team need to read
  // nothing else.
  static constexpr uint64_t kSizeBits = 16;
  static constexpr uint64_t kStop = 0;
  // The gate is a region's number, whether it is open, and how many workers are inside.
  static constexpr uint64_t kOpen = uint64_t{1} << (kSizeBits - 1);
  static constexpr uint64_t kInside = kOpen - 1;

  bool Enter(uint64_t number) {
    uint64_t gate = gate_.load(std::memory_order_acquire);
    while (gate >> kSizeBits == number && (gate & kOpen) != 0) {
      if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) return true;
    }
    return false;
  }

  void Leave() {
    const uint64_t gate = gate_.fetch_sub(1, std::memory_order_acq_rel);
    if ((gate & (kOpen | kInside)) == 1) gate_.notify_all();  // the last one, and awaited
  }

  void Announce(uint64_t size) {
    const uint64_t number = (ticket_.load(std::memory_order_relaxed) >> kSizeBits) + 1;
    ticket_.store(number << kSizeBits | size, std::memory_order_release);
    ticket_.notify_all();
  }

  void Work(size_t index, uint64_t seen) {
    inside_region = true;
    while (true) {
      seen = AwaitChange(ticket_, seen);
      const uint64_t size = seen & ((uint64_t{1} << kSizeBits) - 1);
      if (size == kStop) return;
      if (index >= size || !Enter(seen >> kSizeBits)) continue;
      (*body_)(index);
      Leave();
    }
  }

  std::mutex region_;
  std::vector<std::thread> workers_;
  const ThreadBody* body_ = nullptr;
  std::atomic<uint64_t> ticket_{1};
  std::atomic<uint64_t> gate_{0};
};

void RunTeam(size_t size, const ThreadBody& body) {
  static Team team;
  team.Run(size, body);
}

#endif

}  // namespace

size_t DefaultThreads() {
  static const size_t cores = std::clamp<size_t>(CountPhysicalCores(), 1, kMaxThreads);
  return cores;
}

size_t Threads() { return ThreadCount().load(std::memory_order_relaxed); }

void SetThreads(size_t threads) {
  if (threads == 0) threads = DefaultThreads();
  ThreadCount().store(std::min(threads, kMaxThreads), std::memory_order_relaxed);
}

void ParallelFor(size_t count, size_t grain,
                 const std::function<void(size_t begin, size_t end, size_t thread)>& fn) {
  if (count == 0) return;
  grain = std::max<size_t>(grain, 1);
  const size_t units = (count - 1) / grain + 1;
  const size_t team = std::min(Threads(), units);
  if (team <= 1 || inside_region) {
    fn(0, count, 0);
    return;
  }
  // Each piece is a share of what is left: large ones first, small ones to end together even where
  // a thread's core is busy elsewhere.
  std::atomic<size_t> next{0};
  RunTeam(team, [&](size_t thread) {
    size_t first = next.load(std::memory_order_relaxed);
    while (first < units) {
      const size_t last = first + std::max<size_t>(1, (units - first) / (2 * team));
      if (!next.compare_exchange_weak(first, last, std::memory_order_relaxed)) continue;
      fn(first * grain, std::min(count, last * grain), thread);
      first = next.load(std::memory_order_relaxed);
    }
  });
}

}  // namespace sdq::kernels
