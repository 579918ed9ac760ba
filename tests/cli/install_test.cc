// cmake --install gives programs that run from where they are put.
#include <filesystem>

#include "tests/cli/programs.h"

namespace sdq::test {
namespace {

TEST_CASE("install: the programs, working") {
  const TemporaryFolder folder;
  const std::string prefix = folder / "usr";
  const ProcessResult install =
      RunProcess({SDQ_CMAKE_PATH, "--install", SDQ_BUILD_FOLDER, "--prefix", prefix});
  INFO(install.out << install.err);
  REQUIRE(install.exit_code == 0);
  for (const std::string program : {"sdq-convert", "sdq-run", "sdq-ppl", "sdq-info"}) {
    const ProcessResult version = RunProcess({prefix + "/bin/" + program, "--version"});
    CHECK(version.exit_code == 0);
    CHECK(version.out == program + " " + SDQ_VERSION + "\n");
  }
  const std::string model = folder / "model.sdq";
  CHECK(RunProcess({prefix + "/bin/sdq-convert", BundledModel("stories-llama-5m"), "-o", model,
                    "--method", "float", "-q"})
            .exit_code == 0);
  const ProcessResult run = RunProcess(
      {prefix + "/bin/sdq-run", model, "-p", "Once", "-n", "3", "--temp", "0", "-q", "-t", "1"});
  CHECK(run.out == "Once upon a time\n");
}

}  // namespace
}  // namespace sdq::test
