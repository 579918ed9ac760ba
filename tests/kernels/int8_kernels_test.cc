// Int8 products: the multiplication of each unit that a machine may have, against plain code.
#include "kernels/int8_kernels.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <initializer_list>
#include <random>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/dispatch.h"
#include "kernels/tile_session.h"
#include "tests/kernels/stream_fixture.h"

namespace sdq::kernels {
namespace {

// A panel with the extreme values among its factors.
class Panel {
 public:
  Panel(std::mt19937_64& random, size_t tiles, size_t groups, size_t tokens)
      : tiles_(tiles),
        groups_(groups),
        tokens_(tokens),
        padded_((tokens + kInt8TokenStep - 1) / kInt8TokenStep * kInt8TokenStep),
        weights_(tiles * groups * kInt8GroupBytes / sizeof(float)),
        x_(padded_ * groups),
        scales_(test::RandomFloats(random, padded_)) {
    int8_t* weights = reinterpret_cast<int8_t*>(weights_.data());
    for (size_t i = 0; i < tiles * groups * kInt8GroupBytes; ++i) {
      weights[i] = random() % 8 == 0 ? int8_t{-127} : static_cast<int8_t>(random() % 255 - 127);
    }
    uint8_t* x = reinterpret_cast<uint8_t*>(x_.data());
    for (size_t i = 0; i < padded_ * groups * 4; ++i) {
      x[i] = random() % 8 == 0 ? uint8_t{255} : static_cast<uint8_t>(random());
    }
    for (size_t i = 0; i < tiles * kTileRows; ++i) {
      bias_.push_back(static_cast<int32_t>(random() % 2000000) - 1000000);
    }
  }

  // Sums of the tokens alone, of a block and of one more that adds to it.
  std::vector<float> Multiply(const Int8Kernels& kernels) const {
    const AlignedFloats acc(padded_ * kInt8Rows);
    Int8MultiplyArgs args;
    args.weights = reinterpret_cast<const int8_t*>(weights_.data());
    args.bias = bias_.data();
    args.tiles = tiles_;
    args.groups = groups_;
    args.x = reinterpret_cast<const uint8_t*>(x_.data());
    args.scale = scales_.data();
    args.tokens = tokens_;
    args.acc = acc.data();
    kernels.multiply(args);
    args.add = true;
    kernels.multiply(args);
    std::vector<float> sums;
    for (size_t t = 0; t < tokens_; ++t) {
      const float* of_token = acc.data() + t * kInt8Rows;
      sums.insert(sums.end(), of_token, of_token + tiles_ * kTileRows);
    }
    return sums;
  }

 private:
  size_t tiles_, groups_, tokens_, padded_;
  AlignedFloats weights_, x_;
  std::vector<float> scales_;
  std::vector<int32_t> bias_;
};

std::vector<const Int8Kernels*> KernelsOfThisMachine() {
  std::vector<const Int8Kernels*> kernels;
#if defined(__x86_64__)
  if (HasExtension(Extension::kVbmi)) kernels.push_back(&VnniInt8Kernels());
  if (HasExtension(Extension::kAmx)) kernels.push_back(&AmxInt8Kernels());
#endif
  return kernels;
}

}  // namespace

TEST_CASE("int8 kernels: every unit's sums are those of plain code") {
  const test::KernelState restore;
  ForceTarget("");
  std::mt19937_64 random(11);
  for (const size_t tokens : std::initializer_list<size_t>{1, 5, 6, 15, 16, 17, 32, 33, 64, 71}) {
    for (size_t tiles = 1; tiles <= kInt8Tiles; ++tiles) {
      for (const size_t steps : std::initializer_list<size_t>{1, 3, 16}) {
        const Panel panel(random, tiles, steps * (kInt8DepthStep / Int8Plan::kGroup), tokens);
        const std::vector<float> wanted = panel.Multiply(ReferenceInt8Kernels());
        for (const Int8Kernels* kernels : KernelsOfThisMachine()) {
          INFO(kernels->name << ": " << tokens << " tokens, " << tiles << " tiles, depth "
                             << steps * kInt8DepthStep);
          const std::vector<float> sums = panel.Multiply(*kernels);
          CHECK(std::memcmp(sums.data(), wanted.data(), wanted.size() * sizeof(float)) == 0);
        }
      }
    }
  }
}

}  // namespace sdq::kernels
