// Mapped and read files: equal bytes, slack behind the end, refusals.
#include "format/mapped_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>

#include "format/layout.h"
#include "format/reader.h"
#include "tests/format/sample_file.h"
#include "tests/support/files.h"

namespace sdq::test {
namespace {

using Catch::Contains;
using format::MappedFile;
using Mode = MappedFile::Mode;

std::vector<uint8_t> Pattern(size_t size) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = uint8_t(i * 7 + 1);
  return bytes;
}

constexpr size_t kHugePage = size_t{2} << 20;

TEST_CASE("mapped and read bytes are equal and 64 zero bytes follow") {
  const auto page = size_t(::sysconf(_SC_PAGESIZE));
  const TemporaryFolder folder;
  for (const size_t size : {size_t{1}, size_t{63}, page - 64, page - 63, page - 1, page, page + 1,
                            3 * page, 3 * page + 5, kHugePage}) {
    INFO("size " << size);
    const std::vector<uint8_t> bytes = Pattern(size);
    WriteBytes(folder / "file", bytes);
    for (const Mode mode : {Mode::kAuto, Mode::kMmap, Mode::kRead}) {
      const auto file = MappedFile::Open(folder / "file", mode);
      REQUIRE(file.ok());
      CHECK(file->is_mapped() == (mode != Mode::kRead));
      const auto span = file->bytes();
      REQUIRE(span.size() == size);
      CHECK(reinterpret_cast<uintptr_t>(span.data()) % kHugePage == 0);
      CHECK(std::equal(span.begin(), span.end(), bytes.begin()));
      CHECK(std::all_of(span.data() + size, span.data() + size + format::kReadSlack,
                        [](uint8_t byte) { return byte == 0; }));
    }
  }
}

TEST_CASE("forgotten parts of a file read as before") {
  const auto page = size_t(::sysconf(_SC_PAGESIZE));
  const TemporaryFolder folder;
  const std::vector<uint8_t> bytes = Pattern(4 * page + 5);
  WriteBytes(folder / "file", bytes);
  for (const Mode mode : {Mode::kMmap, Mode::kRead}) {
    const auto file = MappedFile::Open(folder / "file", mode);
    REQUIRE(file.ok());
    const auto span = file->bytes();
    for (const auto& part : {span, span.subspan(7, 2 * page), span.subspan(page, page),
                             span.subspan(3, 5), span.subspan(4 * page + 1), span.first(0)}) {
      file->Forget(part);
      CHECK(std::equal(span.begin(), span.end(), bytes.begin()));
      CHECK(std::all_of(span.data() + span.size(), span.data() + span.size() + format::kReadSlack,
                        [](uint8_t byte) { return byte == 0; }));
    }
  }
}

TEST_CASE("a file parses alike from a map and from memory") {
  const TemporaryFolder folder;
  WriteBytes(folder / "a.sdq", SampleBytes());
  for (const Mode mode : {Mode::kMmap, Mode::kRead}) {
    const auto mapped = MappedFile::Open(folder / "a.sdq", mode);
    REQUIRE(mapped.ok());
    const auto file = format::SdqFile::Parse(mapped->bytes(), "a.sdq");
    REQUIRE(file.ok());
    CHECK(file->VerifyAll().ok());
    CHECK(file->tensors().size() == 8);
  }
}

TEST_CASE("a moved file keeps its address; the source gives nothing back twice") {
  const TemporaryFolder folder;
  WriteBytes(folder / "file", Pattern(100));
  WriteBytes(folder / "other", Pattern(50));
  auto first = MappedFile::Open(folder / "file");
  auto second = MappedFile::Open(folder / "other");
  REQUIRE(first.ok());
  REQUIRE(second.ok());
  const uint8_t* address = first->bytes().data();
  MappedFile moved(*std::move(first));
  CHECK(moved.bytes().data() == address);
  *second = std::move(moved);
  CHECK(second->bytes().data() == address);
  CHECK(second->bytes().size() == 100);
  CHECK(second->bytes()[99] == Pattern(100)[99]);
}

TEST_CASE("what is not a readable, regular, non-empty file is refused with a reason") {
  const TemporaryFolder folder;
  const auto refusal = [](const std::string& path) {
    const auto file = MappedFile::Open(path);
    return std::string(StatusCodeName(file.status().code())) + ": " + file.status().message();
  };
  CHECK_THAT(refusal(folder / "absent"), Catch::StartsWith("not found"));
  CHECK_THAT(refusal(folder.path()), Contains("is a directory"));
  CHECK_THAT(refusal("/dev/null"), Contains("is a device"));
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK_THAT(refusal(folder / "pipe"), Contains("pipe"));
  WriteBytes(folder / "empty", {});
  CHECK_THAT(refusal(folder / "empty"), Contains("the file is empty"));
  WriteBytes(folder / "secret", Pattern(10));
  std::filesystem::permissions(folder / "secret", std::filesystem::perms::none);
  if (::geteuid() != 0) CHECK_THAT(refusal(folder / "secret"), Catch::StartsWith("io error"));
}

}  // namespace
}  // namespace sdq::test
