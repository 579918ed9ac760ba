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
#if defined(_OPENMP)
#include <omp.h>
#else
#include <condition_variable>
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

#if defined(_OPENMP)

// body(0) .. body(size - 1), each once, also where fewer threads than asked for were granted.
void RunTeam(size_t size, const ThreadBody& body) {
#pragma omp parallel num_threads(static_cast <int>(size))
  {
    inside_region = true;
    const size_t granted = static_cast<size_t>(omp_get_num_threads());
    for (size_t t = static_cast<size_t>(omp_get_thread_num()); t < size; t += granted) body(t);
    inside_region = false;
  }
}

#else

// Sleeping workers that are woken for each region. Used where OpenMP is not wanted.
class Team {
 public:
  ~Team() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  void Run(size_t size, const ThreadBody& body) {
    const std::lock_guard region(region_);  // one region at a time
    while (workers_.size() + 1 < size) {
      const size_t index = workers_.size() + 1;
      workers_.emplace_back([this, index, seen = generation_] { Work(index, seen); });
    }
    {
      const std::lock_guard lock(mutex_);
      body_ = &body;
      size_ = size;
      pending_ = size - 1;
      ++generation_;
    }
    wake_.notify_all();
    inside_region = true;
    body(0);
    inside_region = false;
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return pending_ == 0; });
  }

 private:
  void Work(size_t index, uint64_t seen) {
    inside_region = true;
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
      if (stop_) return;
      seen = generation_;
      if (index >= size_) continue;
      const ThreadBody& body = *body_;
      lock.unlock();
      body(index);
      lock.lock();
      if (--pending_ == 0) done_.notify_one();
    }
  }

  std::mutex region_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  const ThreadBody* body_ = nullptr;
  size_t size_ = 0;
  size_t pending_ = 0;
  uint64_t generation_ = 0;
  bool stop_ = false;
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
  RunTeam(team, [&](size_t thread) {
    const size_t per_thread = units / team, extra = units % team;
    const size_t first = thread * per_thread + std::min(thread, extra);
    const size_t last = first + per_thread + (thread < extra ? 1 : 0);
    fn(first * grain, std::min(count, last * grain), thread);
  });
}

}  // namespace sdq::kernels
