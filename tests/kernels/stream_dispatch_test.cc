#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/idle_fetch.h"
#include "kernels/parallel.h"
#include "tests/kernels/stream_fixture.h"

namespace sdq::kernels {

TEST_CASE("every listed target can be forced and says its name") {
  const test::KernelState restore;
  const std::vector<std::string> targets = AvailableTargets();
  REQUIRE(!targets.empty());
  CHECK(targets.back() == "SCALAR");
  for (const std::string& target : targets) {
    CHECK(std::count(targets.begin(), targets.end(), target) == 1);
    CHECK(ForceTarget(target));
    CHECK(TargetName() == target);
  }
  CHECK(ActiveExtension() == Extension::kReference);
  CHECK_FALSE(ForceTarget("no such target"));
  CHECK(TargetName() == "SCALAR");
  CHECK(ForceTarget(""));
  CHECK(TargetName() == targets.front());
}

TEST_CASE("ParallelFor covers its range once, in ranges cut at multiples of the grain") {
  const test::KernelState restore;
  for (const size_t threads : {1u, 2u, 3u, 5u, 16u}) {
    SetThreads(threads);
    REQUIRE(Threads() == threads);
    for (const size_t count : {0u, 1u, 2u, 7u, 16u, 33u, 100u}) {
      for (const size_t grain : {0u, 1u, 3u, 16u, 200u}) {
        std::vector<std::atomic<int>> visits(count);
        std::atomic<bool> well_cut{true};
        ParallelFor(count, grain, [&](size_t begin, size_t end, size_t thread) {
          if (thread >= threads || begin >= end || end > count) well_cut = false;
          if (grain != 0 && begin % grain != 0) well_cut = false;
          for (size_t i = begin; i < end; ++i) ++visits[i];
        });
        CHECK(well_cut);
        CHECK(std::all_of(visits.begin(), visits.end(), [](const auto& n) { return n == 1; }));
      }
    }
  }
}

TEST_CASE(
    "ParallelForward covers its range once, and a piece begins where another says that more "
    "follows") {
  const test::KernelState restore;
  const size_t threads = GENERATE(1u, 2u, 3u, 8u), count = GENERATE(1u, 2u, 7u, 64u, 1001u);
  SetThreads(threads);
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::vector<std::atomic<int>> visits(count), begins(count + 1), ends(count + 1);
    ParallelForward(count, 1, [&](size_t begin, size_t end, bool more) {
      for (size_t i = begin; i < end; ++i) ++visits[i];
      ++begins[begin];
      if (more) ++ends[end];
    });
    for (size_t i = 0; i < count; ++i) REQUIRE(visits[i] == 1);
    REQUIRE(ends[count] == 0);  // nothing follows the last
    for (size_t i = 0; i < count; ++i) REQUIRE(ends[i] <= begins[i]);
  }
}

TEST_CASE("threads begin ParallelForward where ShareOf says") {
  const test::KernelState restore;
  const size_t threads = GENERATE(1u, 2u, 3u, 8u), count = GENERATE(0u, 1u, 7u, 64u, 1001u);
  const size_t grain = GENERATE(0u, 1u, 5u);
  SetThreads(threads);
  size_t end = 0;
  std::vector<size_t> begins;
  for (size_t thread = 0; thread < threads + 2; ++thread) {
    const ForwardShare share = ShareOf(count, grain, thread);
    if (share.begin == share.end) continue;
    CHECK(share.begin == end);
    begins.push_back(share.begin);
    end = share.end;
  }
  CHECK(end == count);
  // Whoever runs the pieces, a share's first one begins where it does.
  std::vector<std::atomic<int>> pieces(count + 1);
  ParallelForward(count, grain, [&](size_t begin, size_t, bool) { ++pieces[begin]; });
  for (const size_t begin : begins) CHECK(pieces[begin] == 1);
}

TEST_CASE("idle fetching ends, and starts anew with what was said last") {
  const std::vector<uint8_t> bytes(4096);
  const size_t thread = kMaxThreads - 1;  // nobody's
  CHECK(!FetchIdly(thread));
  const auto calls = [&] {
    size_t count = 0;
    while (FetchIdly(thread)) ++count;
    return count;
  };
  SetIdleFetch(thread, bytes.data(), 1024, 4, 1024);
  const size_t all = calls();
  CHECK(all > 0);
  CHECK(!FetchIdly(thread));
  SetIdleFetch(thread, bytes.data(), 1024, 4, 1024);
  CHECK(FetchIdly(thread));
  SetIdleFetch(thread, bytes.data() + 512, 1024, 2, 512);
  CHECK(calls() == (all + 1) / 2);
  SetIdleFetch(thread, bytes.data(), 0, 0, 0);
  CHECK(!FetchIdly(thread));
  SetIdleFetch(kMaxThreads, bytes.data(), 1024, 4, 1024);  // no such thread
  CHECK(!FetchIdly(kMaxThreads));
}

TEST_CASE("regions in quick succession run once each, with teams of any size") {
  const test::KernelState restore;
  for (size_t region = 0; region < 3000; ++region) {
    SetThreads(1 + region % 5);
    std::vector<size_t> values(1 + region % 11, 0);  // plain: what a region wrote is seen after it
    ParallelFor(values.size(), 1, [&](size_t begin, size_t end, size_t) {
      for (size_t i = begin; i < end; ++i) values[i] += region + i;
    });
    bool right = true;
    for (size_t i = 0; i < values.size(); ++i) right = right && values[i] == region + i;
    REQUIRE(right);
  }
}

TEST_CASE("nested ParallelFor runs on the calling thread") {
  const test::KernelState restore;
  SetThreads(3);
  std::atomic<int> total{0};
  std::atomic<bool> serial{true};
  ParallelFor(6, 1, [&](size_t begin, size_t end, size_t) {
    for (size_t i = begin; i < end; ++i) {
      ParallelFor(10, 1, [&](size_t b, size_t e, size_t thread) {
        if (b != 0 || e != 10 || thread != 0) serial = false;
        total += static_cast<int>(e - b);
      });
    }
  });
  CHECK(serial);
  CHECK(total == 60);
}

TEST_CASE("thread counts are clamped") {
  const test::KernelState restore;
  CHECK(DefaultThreads() >= 1);
  SetThreads(0);
  CHECK(Threads() == DefaultThreads());
  SetThreads(100000);
  CHECK(Threads() == 256);
}

}  // namespace sdq::kernels
