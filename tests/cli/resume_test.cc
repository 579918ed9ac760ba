// sdq-convert --resume, after the process was ended from outside.
#include <csignal>

#include "tests/cli/programs.h"

namespace sdq::test {
namespace {

TEST_CASE("sdq-convert: --resume after a kill gives the same file") {
  const TemporaryFolder folder;
  const std::string whole = folder / "whole.sdq";
  const std::string path = folder / "model.sdq";
  const auto arguments = [](const std::string& output, const Arguments& more) {
    Arguments all = {
        BundledModel("stories-llama-5m"), "-o", output, "--calib-tokens", "1024", "--osr", "1"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  MustRun("sdq-convert", arguments(whole, {"-q"}));
  CHECK(NamesIn(folder.path()) == std::vector<std::string>{"whole.sdq"});

  ProcessOptions options;
  options.signal_after = "mean OSR";  // the allocation, printed before the layers begin
  options.signal = SIGKILL;
  const ProcessResult cut = RunProgram("sdq-convert", arguments(path, {"-t", "1"}), options);
  CHECK(cut.ended_by_signal == SIGKILL);
  REQUIRE(!ReadBytes(path + ".partial").empty());

  CheckFailure("sdq-convert", arguments(path, {"--resume", "--seed", "5", "-q"}), 1,
               "--seed was not given, now it is '5'");
  WriteText(folder / "rates", "layers.0.attn.* 1\n");
  CheckFailure("sdq-convert", arguments(path, {"--resume", "--osr-file", folder / "rates", "-q"}),
               1, "--osr-file was not given, now it is 'rates, checksum ");
  const ProcessResult rest = RunProgram("sdq-convert", arguments(path, {"--resume", "-t", "2"}));
  INFO(rest.err);
  REQUIRE(rest.exit_code == 0);
  CHECK(Contains(rest.err, "going on from " + path + ".partial"));
  CHECK(Contains(rest.out, "predicted KL"));
  CHECK(ReadBytes(path) == ReadBytes(whole));
  for (const std::string& name : NamesIn(folder.path())) CHECK_FALSE(Contains(name, "partial"));
}

TEST_CASE("sdq-convert: --resume without anything to go on from converts") {
  const TemporaryFolder folder;
  MustRun("sdq-convert", {BundledModel("stories-llama-5m"), "-o", folder / "m.sdq", "--osr", "1",
                          "--calib", "none", "--resume", "-q"});
  CHECK(NamesIn(folder.path()) == std::vector<std::string>{"m.sdq"});
}

}  // namespace
}  // namespace sdq::test
