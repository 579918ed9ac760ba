// The segment kernels' sums where they are nearest to their limits.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/stream_kernels.h"
#include "kernels/table_layout.h"
#include "tests/kernels/stream_fixture.h"

namespace sdq::kernels {
namespace {

struct Entries {
  uint8_t low, high;
};

constexpr size_t kTiles = 3;  // a pair of tiles and one that is alone

// acc of a segment whose byte k gives the entries `entries_of(k)` in every row, whatever its bits,
// for so many tokens.
template <class EntriesOf>
std::vector<float> SegmentSums(Packing packing, size_t bytes, size_t tokens,
                               const EntriesOf& entries_of) {
  const bool packed = packing == Packing::kTernaryPacked;
  const size_t group_bytes = packed ? kTritGroupBytes : kNibbleGroupBytes;
  const size_t table_bytes = SegmentTableBytes(packing, bytes);
  const AlignedFloats tables(table_bytes / sizeof(float));
  uint8_t* table = reinterpret_cast<uint8_t*>(tables.data());
  std::fill(table, table + table_bytes, uint8_t{128});
  for (size_t k = 0; k < bytes; ++k) {
    uint8_t* first = table + k / 4 * group_bytes + k % 4 * 16;
    const Entries entries = entries_of(k);
    for (size_t low = 0; low < group_bytes - 64; low += 64) {
      std::fill(first + low, first + low + 16, entries.low);
    }
    std::fill(first + group_bytes - 64, first + group_bytes - 48, entries.high);
  }
  const StreamKernels kernels = ActiveStreamKernels();
  if (packed && kernels.arrange_trits != nullptr) kernels.arrange_trits(Groups(bytes), table);
  std::vector<uint8_t> bits(kTiles * bytes * kTileRows + 64);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint8_t>(i * 7919u % 243u);
  const float scale = 1.0f;
  std::vector<float> acc(tokens * kTiles * kTileRows, 0.0f);
  SegmentArgs args;
  args.bits = bits.data();
  args.tile_stride = bytes * kTileRows;
  args.bytes = bytes;
  args.tiles = kTiles;
  args.tables = table;
  args.scale = &scale;
  args.token_stride = 0;  // the same for all
  args.tokens = tokens;
  args.acc = acc.data();
  args.acc_stride = kTiles * kTileRows;
  (packed ? kernels.trits : kernels.nibbles)(args);
  return acc;
}

template <class EntriesOf>
void CheckEveryTarget(const EntriesOf& entries_of) {
  for (const Packing packing : {Packing::kBinary, Packing::kTernaryPacked}) {
    const size_t most = packing == Packing::kBinary ? kSegmentSamples / 8  //
                                                    : kSegmentSamplesPacked / 5;
    for (const size_t bytes : {most, most - 4, most - 8, most - 11, size_t{1}}) {
      int expected = 0;
      for (size_t k = 0; k < bytes; ++k) {
        const Entries entries = entries_of(k);
        expected += entries.low + entries.high - 256;
      }
      for (const std::string& target : AvailableTargets()) {
        INFO(target << ", packing " << int(packing) << ", " << bytes << " bytes");
        REQUIRE(ForceTarget(target));
        for (const size_t tokens : {1u, 5u, 17u}) {  // kernels of one, few and many tokens
          const std::vector<float> sums = SegmentSums(packing, bytes, tokens, entries_of);
          CHECK(sums == std::vector<float>(sums.size(), static_cast<float>(expected)));
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("sums are exact for the least, the greatest and mixed entries") {
  const test::KernelState restore;
  CheckEveryTarget([](size_t) { return Entries{1, 1}; });
  CheckEveryTarget([](size_t) { return Entries{255, 255}; });
  CheckEveryTarget([](size_t k) { return k % 2 == 0 ? Entries{255, 1} : Entries{1, 255}; });
  CheckEveryTarget([](size_t k) { return k < 64 ? Entries{255, 255} : Entries{1, 1}; });
}

TEST_CASE("sums are exact where averages round up at every level") {
  // Averages of two, rounded up: 2, 3, 3, 4, of these 3 and 4, of these 4. Exact: 2.5.
  constexpr std::array<Entries, 4> kWorst = {{{2, 1}, {4, 1}, {4, 1}, {6, 1}}};
  const test::KernelState restore;
  // Bytes of one block that a vector of 16, 32, 64 bytes brings together.
  for (const size_t stride : {1u, 2u, 4u}) {
    CheckEveryTarget([&](size_t k) { return kWorst[k / stride % 4]; });
    CheckEveryTarget([&](size_t k) {
      const Entries small = kWorst[k / stride % 4];
      return Entries{static_cast<uint8_t>(small.low + 248), static_cast<uint8_t>(small.high + 248)};
    });
  }
}

}  // namespace sdq::kernels
