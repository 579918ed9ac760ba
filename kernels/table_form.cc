#include "kernels/table_form.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/parallel.h"
#include "kernels/stream_kernels.h"
#include "kernels/table_layout.h"

namespace sdq::kernels {
namespace {

using Clock = std::chrono::steady_clock;
using Nanoseconds = std::chrono::nanoseconds;

constexpr Nanoseconds kValidFor = std::chrono::milliseconds(100);
constexpr int kTries = 8;  // the unit needs a few to wake up

// A segment of zeros: eight tiles of rows by as many tokens as a kernel takes.
class Sample {
 public:
  Sample()
      : bits_(kTiles * kBytes * kTileRows + 64),
        tables_(kMostTileTokens * kTokenBytes / sizeof(float)) {
    std::fill_n(tables_.data(), kMostTileTokens * kTokenBytes / sizeof(float), 0.0f);
    args_.bits = bits_.data();
    args_.tile_stride = kBytes * kTileRows;
    args_.bytes = kBytes;
    args_.tiles = kTiles;
    args_.tables = reinterpret_cast<const uint8_t*>(tables_.data());
    args_.scale = tables_.data();
    args_.token_stride = kTokenBytes;
    args_.tokens = kMostTileTokens;
    args_.acc = acc_;
    args_.acc_stride = kTiles * kTileRows;
  }

  Nanoseconds Time(SegmentKernel kernel) const {
    const Clock::time_point start = Clock::now();
    kernel(args_);
    return Clock::now() - start;
  }

 private:
  static constexpr size_t kTiles = 8, kBytes = kSegmentSamples / 8;
  static constexpr size_t kTokenBytes = kBytes / 4 * kNibbleGroupBytes;

  std::vector<uint8_t> bits_;
  AlignedFloats tables_;
  float acc_[kMostTileTokens * kTiles * kTileRows] = {};
  SegmentArgs args_;
};

// On all threads at once, since they may share cores.
bool TilesAreFaster(const StreamKernels& kernels) {
  std::vector<Nanoseconds> gain(Threads(), Nanoseconds(0));
  ParallelFor(gain.size(), 1, [&](size_t begin, size_t end, size_t) {
    const Sample sample;
    for (size_t i = begin; i < end; ++i) {
      Nanoseconds look_up = Nanoseconds::max(), tiles = Nanoseconds::max();
      for (int n = 0; n < kTries; ++n) {
        look_up = std::min(look_up, sample.Time(kernels.nibbles));
        tiles = std::min(tiles, sample.Time(kernels.tile_nibbles));
      }
      gain[i] = look_up - tiles;
    }
  });
  Nanoseconds sum{0};
  for (const Nanoseconds g : gain) sum += g;
  return sum > Nanoseconds(0);
}

}  // namespace

bool HasTiles() { return ActiveStreamKernels().tile_nibbles != nullptr; }

TableForm FasterTableForm(size_t tokens) {
  if (tokens < kLeastTileTokens || !HasTiles()) return TableForm::kLookUp;
  static std::atomic<Clock::rep> valid_until{0};
  static std::atomic<TableForm> faster{TableForm::kTiles};
  const Clock::duration now = Clock::now().time_since_epoch();
  if (now.count() >= valid_until.load(std::memory_order_relaxed)) {
    valid_until.store((now + kValidFor).count(), std::memory_order_relaxed);
    faster.store(TilesAreFaster(ActiveStreamKernels()) ? TableForm::kTiles : TableForm::kLookUp,
                 std::memory_order_relaxed);
  }
  return faster.load(std::memory_order_relaxed);
}

}  // namespace sdq::kernels
