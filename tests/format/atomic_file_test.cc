// What was appended in pieces of any size is in the file that appears.
#include "format/atomic_file.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "tests/support/files.h"

namespace sdq::test {
namespace {

using format::AtomicFile;

constexpr size_t kTogether = size_t{2} << 20;  // what the file writes at a time

std::vector<uint8_t> Pattern(size_t size, unsigned seed) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = uint8_t(i * 31 + i / 251 + seed);
  return bytes;
}

TEST_CASE("pieces of any size follow each other in the file") {
  const TemporaryFolder folder;
  auto file = AtomicFile::Create(folder / "file");
  REQUIRE(file.ok());
  std::vector<uint8_t> expected;
  unsigned seed = 0;
  for (const size_t size : {size_t{5}, size_t{0}, kTogether - 6, size_t{1}, kTogether, size_t{3},
                            3 * kTogether + 7, kTogether - 10, size_t{100}}) {
    const std::vector<uint8_t> piece = Pattern(size, ++seed);
    REQUIRE((*file)->Append(piece).ok());
    expected.insert(expected.end(), piece.begin(), piece.end());
    CHECK((*file)->size() == expected.size());
  }
  // Once in what has been written and once in what may not have been.
  for (const size_t at : {size_t{3}, expected.size() - 20}) {
    const std::vector<uint8_t> piece = Pattern(17, ++seed);
    REQUIRE((*file)->Overwrite(at, piece).ok());
    std::copy(piece.begin(), piece.end(), expected.begin() + std::ptrdiff_t(at));
  }
  const std::vector<uint8_t> last = Pattern(9, ++seed);
  REQUIRE((*file)->Append(last).ok());
  expected.insert(expected.end(), last.begin(), last.end());
  REQUIRE((*file)->Commit().ok());
  CHECK(ReadBytes(folder / "file") == expected);
}

}  // namespace
}  // namespace sdq::test
