#include "kernels/read_memory.h"

#include <catch2/catch.hpp>
#include <initializer_list>
#include <vector>

#include "kernels/dispatch.h"

namespace sdq::kernels {
namespace {

TEST_CASE("read memory: every word is read once, on every target") {
  const std::string target = GENERATE(from_range(AvailableTargets()));
  REQUIRE(ForceTarget(target));
  for (const size_t count :
       std::initializer_list<size_t>{0, 1, 3, 7, 8, 31, 32, 33, 100, 1000, 1031, 32769, 40000}) {
    std::vector<uint64_t> words(count + 1, ~uint64_t{0});  // one more, which must not count
    uint64_t expected = 0;
    for (size_t i = 0; i < count; ++i) {
      words[i] = (i + 1) * 0x9e3779b97f4a7c15u;
      expected ^= words[i];
    }
    for (const ReadWay way : kReadWays) {
      INFO(target << ", " << count << " words, way " << int(way));
      CHECK(XorWords(way, words.data(), count) == expected);
    }
  }
  ForceTarget("");
}

}  // namespace
}  // namespace sdq::kernels
