// The writer's promises: all or nothing, and no illegal tensor.
#include "format/writer.h"

#include <sys/resource.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <filesystem>

#include "format/mapped_file.h"
#include "tests/format/sample_file.h"
#include "tests/support/files.h"

namespace sdq::test {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;
using format::SdqWriter;
using format::StreamView;

size_t FilesIn(const TemporaryFolder& folder) {
  return size_t(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()));
}

const std::vector<uint8_t> kOld = {'o', 'l', 'd'};

TEST_CASE("a destroyed writer leaves the old file and no temporary one") {
  const TemporaryFolder folder;
  WriteBytes(folder / "a.sdq", kOld);
  {
    auto writer = SdqWriter::Create(folder / "a.sdq");
    REQUIRE(writer.ok());
    REQUIRE((*writer)->Add(SampleDense("d", format::DenseType::kF32, 9, 9, true).Finish()).ok());
    CHECK(FilesIn(folder) == 2);
    CHECK(ReadBytes(folder / "a.sdq") == kOld);
  }
  CHECK(ReadBytes(folder / "a.sdq") == kOld);
  CHECK(FilesIn(folder) == 1);
}

TEST_CASE("finishing replaces the old file; its readers keep seeing it whole") {
  const TemporaryFolder folder;
  WriteBytes(folder / "a.sdq", kOld);
  const auto reader = format::MappedFile::Open(folder / "a.sdq");
  REQUIRE(reader.ok());
  auto writer = SdqWriter::Create(folder / "a.sdq");
  REQUIRE(writer.ok());
  REQUIRE((*writer)->Finish(SampleMetadata()).ok());
  CHECK(ReadBytes(folder / "a.sdq") == EmptyFileBytes());
  CHECK(std::equal(kOld.begin(), kOld.end(), reader->bytes().begin(), reader->bytes().end()));
  CHECK(FilesIn(folder) == 1);
}

TEST_CASE("two writers to one target: the later one wins, both files are whole") {
  const TemporaryFolder folder;
  auto first = SdqWriter::Create(folder / "a.sdq");
  auto second = SdqWriter::Create(folder / "a.sdq");
  REQUIRE(first.ok());
  REQUIRE(second.ok());
  REQUIRE((*second)->Finish(SampleMetadata()).ok());
  CHECK(ReadBytes(folder / "a.sdq") == EmptyFileBytes());
  REQUIRE((*first)->Finish(format::Metadata()).ok());
  CHECK(Damage(ReadBytes(folder / "a.sdq")).Verify().ok());
  CHECK(FilesIn(folder) == 1);
}

TEST_CASE("a target that cannot be a file is refused at once") {
  const TemporaryFolder folder;
  CHECK_THAT(SdqWriter::Create(folder.path()).status().message(), Contains("is a directory"));
  CHECK_THAT(SdqWriter::Create(folder / "new/").status().message(), Contains("directory"));
  CHECK_THAT(SdqWriter::Create("/dev/full").status().message(), Contains("not a regular file"));
  CHECK_THAT(SdqWriter::Create("").status().message(), Contains("empty"));
  CHECK(SdqWriter::Create(folder / "no/such/a.sdq").status().code() == StatusCode::kNotFound);
  CHECK(SdqWriter::Create(folder / "a.sdq", 0).status().code() == StatusCode::kInvalidArgument);
  CHECK(SdqWriter::Create(folder / "a.sdq", 96).status().code() == StatusCode::kInvalidArgument);
  CHECK(FilesIn(folder) == 0);
}

TEST_CASE("a folder without write permission is reported") {
  if (::geteuid() == 0) {
    // Nothing is forbidden to root but a pseudo file system.
    CHECK_FALSE(SdqWriter::Create("/proc/a.sdq").ok());
    return;
  }
  const TemporaryFolder folder;
  fs::permissions(folder.path(), fs::perms::owner_read | fs::perms::owner_exec);
  CHECK(SdqWriter::Create(folder / "a.sdq").status().code() == StatusCode::kIoError);
  fs::permissions(folder.path(), fs::perms::owner_all);
}

// Files of this process may not grow beyond `bytes` while it lives: a disk that is full.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    rlimit limit = old_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    (void)std::signal(SIGXFSZ, handler_);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

 private:
  rlimit old_ = {};
  void (*handler_)(int);
};

TEST_CASE("a full disk is reported, the old file stays, and the writer takes nothing more") {
  const TemporaryFolder folder;
  WriteBytes(folder / "a.sdq", kOld);
  OwnedDense dense = SampleDense("d", format::DenseType::kF32, 1024, 1024, false);
  const format::DenseView& view = dense.Finish();
  {
    auto writer = SdqWriter::Create(folder / "a.sdq");
    REQUIRE(writer.ok());
    Status failed;
    {
      const FullDisk disk(4096);
      failed = (*writer)->Add(view);
    }
    CHECK(failed.code() == StatusCode::kResourceExhausted);
    CHECK_THAT(failed.message(), Contains("a.sdq: cannot write"));
    // There is room again, but the file has a gap.
    CHECK((*writer)->Add(view).code() == StatusCode::kResourceExhausted);
    CHECK((*writer)->Finish(format::Metadata()).code() == StatusCode::kResourceExhausted);
  }
  CHECK(ReadBytes(folder / "a.sdq") == kOld);
  CHECK(FilesIn(folder) == 1);
}

TEST_CASE("a finished writer takes nothing more") {
  const TemporaryFolder folder;
  auto writer = SdqWriter::Create(folder / "a.sdq");
  REQUIRE(writer.ok());
  REQUIRE((*writer)->Finish(format::Metadata()).ok());
  OwnedDense dense = SampleDense("d", format::DenseType::kF32, 1, 1, false);
  CHECK((*writer)->Add(dense.Finish()).code() == StatusCode::kInvalidArgument);
  CHECK((*writer)->Finish(format::Metadata()).code() == StatusCode::kInvalidArgument);
}

// What Add says to a changed sample stream; afterwards the writer must still be usable.
template <typename Change>
std::string AddChanged(size_t stream, const Change& change) {
  const TemporaryFolder folder;
  auto writer = SdqWriter::Create(folder / "a.sdq");
  REQUIRE(writer.ok());
  OwnedStream good = std::move(AllStreams()[stream]);
  StreamView view = good.Finish();
  change(&view);
  const uint64_t before = (*writer)->bytes_written();
  const Status status = (*writer)->Add(view);
  CHECK((*writer)->bytes_written() == before);
  CHECK((*writer)->Add(good.view).ok());
  CHECK((*writer)->Finish(SampleMetadata()).ok());
  CHECK(Damage(ReadBytes(folder / "a.sdq")).Verify().ok());
  return std::string(StatusCodeName(status.code())) + ": " + status.message();
}

TEST_CASE("an illegal stream is refused before anything is written") {
  using Catch::StartsWith;
  const auto check = [](size_t stream, const char* message, const auto& change) {
    const std::string refusal = AddChanged(stream, change);
    CHECK_THAT(refusal, StartsWith("invalid argument") && Contains(message));
  };
  check(0, "name has 64 bytes", [](StreamView* v) { v->name = std::string(64, 'n'); });
  check(0, "not printable", [](StreamView* v) { v->name = "a\nb"; });
  check(0, "implies", [](StreamView* v) { v->bits = v->bits.first(v->bits.size() - 1); });
  check(0, "implies", [](StreamView* v) { v->rows = 33; });
  check(0, "18 scales", [](StreamView* v) { v->scales_f16 = v->scales_f16.first(18); });
  check(0, "bias", [](StreamView* v) { v->bias = v->bias.first(3); });
  check(0, "taps", [](StreamView* v) { v->decimator.taps.pop_back(); });
  check(0, "dimensions", [](StreamView* v) { v->columns = 0; });
  check(1, "means", [](StreamView* v) { v->means_f16 = v->means_f16.first(1); });
  check(2, "rotation block", [](StreamView* v) { v->rotation.block = 38; });
  std::vector<uint8_t> bits = AllStreams()[2].bits;
  bits[5] = 27;
  check(2, "byte 5 of the packed trits", [&](StreamView* v) { v->bits = bits; });
}

TEST_CASE("names must be unique across kinds") {
  const TemporaryFolder folder;
  auto writer = SdqWriter::Create(folder / "a.sdq");
  REQUIRE(writer.ok());
  OwnedStream stream = std::move(AllStreams()[0]);
  OwnedDense dense = SampleDense("stream.binary", format::DenseType::kF32, 1, 1, false);
  REQUIRE((*writer)->Add(stream.Finish()).ok());
  CHECK_THAT((*writer)->Add(dense.Finish()).message(), Contains("already added"));
}

}  // namespace
}  // namespace sdq::test
