// Instructions of the segment kernels per 64 samples of a row and token: counted, not timed, by
// single-stepping. kernels/README.md has the table; tests/cross/count_instructions.sh counts what
// an emulator runs.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/stream_kernels.h"
#include "kernels/table_layout.h"
#include "tests/kernels/stream_fixture.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SDQ_INSTRUMENTED 1
#elif defined(__has_feature)
#define SDQ_INSTRUMENTED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SDQ_INSTRUMENTED 0
#endif

// Budgets are those of optimized code of g++, which kernels/README.md lists; clang 14 exceeds some.
#if defined(__x86_64__) && defined(__linux__) && defined(__OPTIMIZE__) && defined(NDEBUG) && \
    !defined(__clang__) && !SDQ_INSTRUMENTED
#define SDQ_SINGLE_STEP 1
#include <ucontext.h>

#include <csignal>
#else
#define SDQ_SINGLE_STEP 0
#endif

namespace sdq::kernels {
namespace {

// A segment of the greatest length, for 16 rows per tile. No tokens: as many as the target's
// kernels get at once.
struct Work {
  const char* name;
  SegmentKernel StreamKernels::*kernel;
  Packing packing;
  size_t tiles, tokens;
  TokenProduct StreamKernels::*token = nullptr;  // instead, if the target has it
};

constexpr std::array<Work, 4> kWorks = {{
    {"binary, decode", &StreamKernels::nibbles, Packing::kBinary, 4, 1,
     &StreamKernels::nibble_token},
    {"binary, prefill", &StreamKernels::nibbles, Packing::kBinary, 8, 0},
    {"packed, decode", &StreamKernels::trits, Packing::kTernaryPacked, 4, 1,
     &StreamKernels::trit_token},
    {"packed, prefill", &StreamKernels::trits, Packing::kTernaryPacked, 8, 0},
}};

// For the target in use.
Work WorkOf(size_t i) {
  Work work = kWorks[i];
  if (work.tokens == 0) work.tokens = ActiveStreamKernels().most_tokens;
  return work;
}

constexpr size_t SamplesPerByte(Packing packing) {
  return packing == Packing::kTernaryPacked ? 5 : 8;
}

constexpr size_t SegmentSamples(Packing packing) {
  return packing == Packing::kTernaryPacked ? kSegmentSamplesPacked : kSegmentSamples;
}

class SegmentProduct {
 public:
  explicit SegmentProduct(const Work& work)
      : kernel_(ActiveStreamKernels().*work.kernel),
        samples_(SegmentSamples(work.packing) * work.tiles * kTileRows * work.tokens),
        scales_(work.tokens * TokenBytes(work) / sizeof(float), 1.0f),
        acc_(work.tokens * work.tiles * kTileRows, 0.0f),
        bits_(work.tiles * TileBytes(work) / sizeof(float) + 16),
        tables_(work.tokens * TokenBytes(work) / sizeof(float)) {
    args_.bytes = TileBytes(work) / kTileRows;
    args_.tile_stride = TileBytes(work);
    args_.token_stride = TokenBytes(work);
    args_.tiles = work.tiles;
    args_.tokens = work.tokens;
    args_.acc_stride = work.tiles * kTileRows;
    args_.bits = Fill(bits_, work.tiles * TileBytes(work) + 64);
    args_.tables = Fill(tables_, work.tokens * TokenBytes(work));
    args_.scale = scales_.data();
    args_.acc = acc_.data();
    // Fetches what is there already, with the instructions that decode spends on it.
    args_.fetch_ahead = 64;
    if (work.token != nullptr) token_ = (ActiveStreamKernels().*work.token).kernel;
    segments_[0].bytes = segments_[1].bytes = static_cast<uint32_t>(args_.bytes);
    token_args_.bits = args_.bits;
    token_args_.tile_stride = args_.tile_stride;
    token_args_.segments = std::span(segments_.data(), 1);
    token_args_.tables = args_.tables;
    token_args_.table_offsets = offsets_.data();
    token_args_.scales = scales_.data();
    token_args_.tiles = args_.tiles;
    token_args_.acc = acc_.data();
    token_args_.row_bytes = args_.bytes;
    // As in the midst of strips.
    token_args_.next_bits = args_.bits + TileBytes(work);
    token_args_.next_stride = args_.tile_stride;
  }
  SegmentProduct(const SegmentProduct&) = delete;
  SegmentProduct& operator=(const SegmentProduct&) = delete;

  void Run() const {
    if (token_ != nullptr) return token_(token_args_);
    kernel_(args_);
  }
  const void* kernel_address() const {
    return token_ != nullptr ? reinterpret_cast<const void*>(token_)
                             : reinterpret_cast<const void*>(kernel_);
  }
  // With the samples derived from these, whose tables are the same.
  void RunWithDerived(TokenKernel kernel, const DerivedMaps& derived) const {
    TokenArgs args = token_args_;
    args.segments = segments_;
    args.derived = &derived;
    kernel(args);
  }
  double samples() const { return static_cast<double>(samples_); }

 private:
  static size_t TileBytes(const Work& work) {
    return SegmentSamples(work.packing) / SamplesPerByte(work.packing) * kTileRows;
  }
  static size_t TokenBytes(const Work& work) {
    return SegmentTableBytes(work.packing, TileBytes(work) / kTileRows);
  }
  // Bytes that are legal in every packing.
  static const uint8_t* Fill(const AlignedFloats& memory, size_t count) {
    uint8_t* bytes = reinterpret_cast<uint8_t*>(memory.data());
    for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(i * 7919u % 27u);
    return bytes;
  }

  SegmentKernel kernel_;
  size_t samples_;
  std::vector<float> scales_, acc_;
  AlignedFloats bits_, tables_;
  SegmentArgs args_;
  TokenKernel token_ = nullptr;
  TokenArgs token_args_;
  std::array<Segment, 2> segments_ = {};
  std::array<size_t, 2> offsets_ = {};
};

// A segment and the one of its derived samples, as decode takes them.
class DerivedProduct {
 public:
  DerivedProduct() : kernel_(ActiveStreamKernels().derived_token.kernel), stored_(kWorks[0]) {}

  void Run() const { stored_.RunWithDerived(kernel_, maps_); }
  const void* kernel_address() const { return reinterpret_cast<const void*>(kernel_); }
  double samples() const { return stored_.samples(); }

 private:
  TokenKernel kernel_;
  SegmentProduct stored_;
  DerivedMaps maps_{0x4b};  // of the learned decimators
};

#if SDQ_SINGLE_STEP

volatile std::sig_atomic_t steps = 0;

void CountStep(int) { steps = steps + 1; }

// The processor's trap flag makes every instruction raise SIGTRAP.
void ToggleTrapFlag(int, siginfo_t*, void* context) {
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] ^= 0x100;
}

class TrapHandlers {
 public:
  TrapHandlers() {
    struct sigaction count = {}, toggle = {};
    count.sa_handler = CountStep;
    toggle.sa_sigaction = ToggleTrapFlag;
    toggle.sa_flags = SA_SIGINFO;
    sigaction(SIGTRAP, &count, &old_trap_);
    sigaction(SIGUSR1, &toggle, &old_user_);
  }
  ~TrapHandlers() {
    sigaction(SIGTRAP, &old_trap_, nullptr);
    sigaction(SIGUSR1, &old_user_, nullptr);
  }
  TrapHandlers(const TrapHandlers&) = delete;
  TrapHandlers& operator=(const TrapHandlers&) = delete;

 private:
  struct sigaction old_trap_ = {}, old_user_ = {};
};

template <class Function>
int CountInstructions(const Function& function) {
  const TrapHandlers handlers;
  steps = 0;
  std::raise(SIGUSR1);
  function();
  std::raise(SIGUSR1);
  return steps;
}

// Instructions per 64 (stored) samples, of kWorks in their order, and of DerivedProduct. A target
// that is not listed has none.
struct Budget {
  const char* target;
  std::array<double, kWorks.size()> most;
  double with_derived;
};

const Budget kBudgets[] = {
    {"AVX3_VBMI", {1.8, 0.85, 3.4, 1.5}, 3.9},  //
    {"AVX3", {2.4, 1.5, 5.7, 3}, 5.5},          //
    {"AVX2_GFNI", {3.9, 2.6, 10.5, 5.4}, 8.6},  //
    {"AVX2", {4.1, 2.6, 10.5, 5.4}, 10.5},      //
    {"SSE4", {9, 6, 25, 13}, 24},               //
    {"SSSE3", {9, 6, 25, 13}, 24},
};

#endif  // SDQ_SINGLE_STEP

}  // namespace

#if SDQ_SINGLE_STEP
TEST_CASE("segment kernels keep their budgets of instructions") {
  const test::KernelState restore;
  const int around = CountInstructions([] {});
  if (around == 0) {
    WARN("this machine does not single-step");
    return;
  }
  for (const Budget& budget : kBudgets) {
    if (!ForceTarget(budget.target)) continue;
    for (size_t i = 0; i < kWorks.size(); ++i) {
      const SegmentProduct product(WorkOf(i));
      const int count = CountInstructions([&] { product.Run(); }) - around;
      const double per_64 = count * 64 / product.samples();
      INFO(budget.target << ", " << kWorks[i].name << ": " << count << " instructions, " << per_64
                         << " per 64 samples");
      CHECK(per_64 <= budget.most[i]);
      CHECK(per_64 > 0.1);  // it was the kernel that was counted
    }
    const DerivedProduct product;
    const int count = CountInstructions([&] { product.Run(); }) - around;
    INFO(budget.target << ", with derived samples: " << count << " instructions, "
                       << count * 64 / product.samples() << " per 64 samples");
    CHECK(count * 64 / product.samples() <= budget.with_derived);
  }
}

TEST_CASE("the tile unit's kernel keeps its budget of instructions") {
  const test::KernelState restore;
  const int around = CountInstructions([] {});
  if (around == 0 || !ForceTarget("AVX3_AMX")) {
    WARN("this machine does not single-step, or has no tile unit");
    return;
  }
  const SegmentProduct product(
      {"binary, tiles", &StreamKernels::tile_nibbles, Packing::kBinary, 8, kMostTileTokens});
  const int count = CountInstructions([&] { product.Run(); }) - around;
  const double per_64 = count * 64 / product.samples();
  INFO(count << " instructions, " << per_64 << " per 64 samples");
  CHECK(per_64 <= 0.4);
  CHECK(per_64 > 0.03);
}
#endif

// Runs what the section (-c) names, once, with the target that SDQ_TARGET names.
TEST_CASE("one segment, for counting its instructions", "[.][count]") {
  for (size_t i = 0; i < kWorks.size(); ++i) {
    DYNAMIC_SECTION(kWorks[i].name) {
      const SegmentProduct product(WorkOf(i));
      product.Run();
      WARN("kernels " << product.kernel_address() << " samples "
                      << static_cast<size_t>(product.samples()));
    }
  }
  SECTION("with derived samples") {
    const DerivedProduct product;
    product.Run();
    WARN("kernels " << product.kernel_address() << " samples "
                    << static_cast<size_t>(product.samples()));
  }
}

}  // namespace sdq::kernels
