#include "kernels/parallel.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <fstream>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(SDQ_OPENMP)
#include <omp.h>
#else
#include <mutex>

#include "kernels/idle_fetch.h"
#endif

namespace sdq::kernels {
namespace {

using ThreadBody = FunctionRef<size_t>;

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

// Waits until `value` differs from `old`, calling `idle` all the while at first; returns the new
// value. slept, if given: whether that was not enough.
template <typename T, typename Idle>
T AwaitChange(const std::atomic<T>& value, T old, const Idle& idle, bool* slept = nullptr) {
  if (slept != nullptr) *slept = false;
  for (int i = 0; i < kSpins; ++i) {
    const T now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    idle();
  }
  if (slept != nullptr) *slept = true;
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

#if defined(__linux__)
int CurrentProcessor() { return sched_getcpu(); }

// A thread that is woken is often put where its waker runs, although another processor is idle; if
// both then spin in turns, it can take many milliseconds until one of them is moved away. Moves
// this one at once, by taking it for a moment the permission to run on `processor`.
void LeaveProcessor(int processor) {
  cpu_set_t allowed;
  if (processor < 0 || sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  cpu_set_t others = allowed;
  CPU_CLR(static_cast<size_t>(processor), &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof(others), &others) != 0) return;
  (void)sched_setaffinity(0, sizeof(allowed), &allowed);
}
#else
int CurrentProcessor() { return -1; }
void LeaveProcessor(int) {}
#endif

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
    caller_processor_.store(CurrentProcessor(), std::memory_order_relaxed);
    const uint64_t number = (ticket_.load(std::memory_order_relaxed) >> kSizeBits) + 1;
    gate_.store(number << kSizeBits | kOpen, std::memory_order_release);
    Announce(size);
    inside_region = true;
    body(0);
    inside_region = false;
    uint64_t gate = gate_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
    while ((gate & kInside) != 0) gate = AwaitChange(gate_, gate, Pause);
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
    const auto idle = [&] {
      if (!FetchIdly(index)) Pause();
    };
    while (true) {
      bool slept = false;
      seen = AwaitChange(ticket_, seen, idle, &slept);
      const uint64_t size = seen & ((uint64_t{1} << kSizeBits) - 1);
      if (size == kStop) return;
      if (index >= size) continue;
      const int caller = caller_processor_.load(std::memory_order_relaxed);
      if (slept && CurrentProcessor() == caller) LeaveProcessor(caller);
      if (!Enter(seen >> kSizeBits)) continue;
      (*body_)(index);
      Leave();
    }
  }

  std::mutex region_;
  std::vector<std::thread> workers_;
  const ThreadBody* body_ = nullptr;
  std::atomic<int> caller_processor_{-1};
  std::atomic<uint64_t> ticket_{1};
  std::atomic<uint64_t> gate_{0};
};

void RunTeam(size_t size, const ThreadBody& body) {
  static Team team;
  team.Run(size, body);
}

#endif

struct Piece {
  size_t first, last;  // units
  bool more;           // the rest of the share follows at `last`
};

// Every thread has a share of the units and takes pieces from its front, large ones first: it reads
// forward, and small pieces are left to end together even where a core is busy elsewhere. Who has
// nothing left takes over the rear half of the largest share.
class Shares {
 public:
  Shares(size_t units, size_t team) : many_(team > kFew ? team : 0) {
    shares_ = team > kFew ? std::span(many_) : std::span(few_).first(team);
    for (size_t t = 0; t < team; ++t) {
      shares_[t].bounds = Pack(Begin(units, team, t), Begin(units, team, t + 1));
    }
  }

  bool Take(size_t thread, Piece* piece) {
    do {
      if (TakeFront(shares_[thread].bounds, piece)) return true;
    } while (TakeOver(thread));
    return false;
  }

  // The first unit of a thread.
  static size_t Begin(size_t units, size_t team, size_t thread) { return units * thread / team; }

  static constexpr size_t kMostUnits = size_t{1} << 31;

 private:
  // First and last unit, in one word. Units are taken once, so that no value comes back.
  using Bounds = std::atomic<uint64_t>;
  struct alignas(64) Share {
    Bounds bounds{0};
  };

  static uint64_t Pack(size_t first, size_t last) { return uint64_t{first} << 32 | last; }
  static size_t First(uint64_t bounds) { return bounds >> 32; }
  static size_t Last(uint64_t bounds) { return bounds & 0xffffffffu; }
  static size_t Left(uint64_t bounds) { return Last(bounds) - First(bounds); }

  static bool TakeFront(Bounds& share, Piece* piece) {
    uint64_t bounds = share.load(std::memory_order_relaxed);
    while (Left(bounds) > 0) {
      const size_t first = First(bounds), last = Last(bounds);
      const size_t next = first + std::max<size_t>(1, (last - first) / 4);
      if (share.compare_exchange_weak(bounds, Pack(next, last), std::memory_order_relaxed)) {
        *piece = {first, next, next < last};
        return true;
      }
    }
    return false;
  }

  // Only the thread itself gives its empty share new units.
  bool TakeOver(size_t thread) {
    while (true) {
      Bounds* largest = nullptr;
      uint64_t bounds = 0;
      for (Share& share : shares_) {
        const uint64_t other = share.bounds.load(std::memory_order_relaxed);
        if (Left(other) <= Left(bounds)) continue;
        largest = &share.bounds;
        bounds = other;
      }
      if (largest == nullptr) return false;
      const size_t middle = First(bounds) + Left(bounds) / 2;
      if (largest->compare_exchange_strong(bounds, Pack(First(bounds), middle),
                                           std::memory_order_relaxed)) {
        shares_[thread].bounds.store(Pack(middle, Last(bounds)), std::memory_order_relaxed);
        return true;
      }
    }
  }

  static constexpr size_t kFew = 8;  // need no memory from the heap
  std::array<Share, kFew> few_;
  std::vector<Share> many_;
  std::span<Share> shares_;
};

// How [0, count), which is not empty, is cut: units of `grain`, the threads' shares of them.
struct Cut {
  Cut(size_t count, size_t least_grain) : grain(std::max<size_t>(least_grain, 1)) {
    while ((count - 1) / grain + 1 > Shares::kMostUnits) grain *= 2;
    units = (count - 1) / grain + 1;
    team = std::min(Threads(), units);
  }
  size_t grain, units, team;
};

// fn(first, last, more, thread) on all of [0, count).
template <class Function>
void RunPieces(size_t count, size_t least_grain, const Function& fn) {
  if (count == 0) return;
  const Cut cut(count, least_grain);
  if (cut.team <= 1 || inside_region) return fn(0, count, false, 0);
  Shares shares(cut.units, cut.team);
  RunTeam(cut.team, [&](size_t thread) {
    for (Piece piece; shares.Take(thread, &piece);) {
      fn(piece.first * cut.grain, std::min(count, piece.last * cut.grain), piece.more, thread);
    }
  });
}

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

void ParallelFor(size_t count, size_t grain, FunctionRef<size_t, size_t, size_t> fn) {
  RunPieces(count, grain,
            [&](size_t begin, size_t end, bool, size_t thread) { fn(begin, end, thread); });
}

void ParallelForward(size_t count, size_t grain, FunctionRef<size_t, size_t, bool> fn) {
  RunPieces(count, grain,
            [&](size_t begin, size_t end, bool more, size_t) { fn(begin, end, more); });
}

ForwardShare ShareOf(size_t count, size_t grain, size_t thread) {
  if (count == 0) return {};
  const Cut cut(count, grain);
  if (thread >= cut.team) return {};
  const auto begin = [&](size_t t) {
    return std::min(count, Shares::Begin(cut.units, cut.team, t) * cut.grain);
  };
  return {begin(thread), begin(thread + 1)};
}

}  // namespace sdq::kernels
