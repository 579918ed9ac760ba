// Makes the seeds of the fuzzers: format_tests "[.corpus]" with SDQ_CORPUS=tests/fuzz/corpus.
#include <catch2/catch.hpp>
#include <cstdlib>

#include "tests/format/sample_file.h"
#include "tests/support/files.h"

namespace sdq::test {
namespace {

TEST_CASE("make the fuzz corpus", "[.corpus]") {
  const char* folder = std::getenv("SDQ_CORPUS");
  REQUIRE(folder != nullptr);
  const std::string root = folder;
  WriteBytes(root + "/sdq_file/all", SampleBytes());
  WriteBytes(root + "/sdq_file/empty", EmptyFileBytes());
  for (OwnedStream& stream : AllStreams()) {
    stream.view.rows = 2;  // small seeds are mutated more often where it matters
    OwnedStream small = SampleStream(stream.view, true, true);
    WriteBytes(root + "/sdq_file/" + small.view.name, BytesWith(small.Finish()));
  }
  WriteBytes(root + "/metadata/all", SampleMetadata().Encode());
  WriteBytes(root + "/metadata/empty", format::Metadata().Encode());
}

}  // namespace
}  // namespace sdq::test
