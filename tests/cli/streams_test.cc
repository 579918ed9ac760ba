// Streams that nobody reads, full disks, closed descriptors, Ctrl-C.
#include <signal.h>

#include "tests/cli/programs.h"

namespace sdq::test {
namespace {

// Slow enough that what happens during generation does happen during generation.
ProcessOptions Slow() {
  ProcessOptions options;
  options.environment = {{"SDQ_TARGET", "SCALAR"}};
  return options;
}

Arguments Endless(const std::string& model) {
  return {model, "-p", "Once upon a time", "-n", "1000", "--ignore-eos", "--temp", "0", "-t", "1"};
}

TEST_CASE("sdq-run: ends soon when the reader of its text leaves") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  ProcessOptions options = Slow();
  options.out = GENERATE(Sink::kClosedEarly, Sink::kClosedAtOnce);
  options.timeout_seconds = 20;  // all 1000 tokens would take far longer
  const ProcessResult result = RunProgram("sdq-run", Endless(model), options);
  INFO(result.err);
  CHECK_FALSE(result.timed_out);
  CHECK(result.exit_code == 1);
  CHECK(Contains(result.err, "sdq-run: error: cannot write to stdout: Broken pipe"));
}

TEST_CASE("programs: results that cannot be written are failures") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  WriteText(folder / "text.txt", kReferenceText);
  const std::pair<const char*, Arguments> runs[] = {
      {"sdq-run", {model, "-p", "x", "-n", "1", "-t", "1"}},
      {"sdq-run", {model, "-p", "x", "-n", "1", "-t", "1", "--json"}},
      {"sdq-info", {model}},
      {"sdq-info", {model, "--json"}},
      {"sdq-info", {"--help"}},
      {"sdq-info", {"--version"}},
      {"sdq-ppl", {model, "-f", folder / "text.txt", "-c", "8", "--chunks", "1", "-t", "1"}},
      {"sdq-convert",
       {BundledModel("stories-llama-5m"), "-o", folder / "new.sdq", "--method", "float"}},
  };
  for (const Sink sink : {Sink::kClosedAtOnce, Sink::kFull, Sink::kNone}) {
    for (const auto& [program, arguments] : runs) {
      ProcessOptions options;
      options.out = sink;
      const ProcessResult result = RunProgram(program, arguments, options);
      INFO(program << " " << arguments.back() << ", sink " << int(sink) << ": " << result.err);
      CHECK(result.exit_code == 1);
    }
  }
}

TEST_CASE("programs: nobody has to read the messages") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  for (const Sink sink : {Sink::kClosedAtOnce, Sink::kFull, Sink::kNone}) {
    ProcessOptions options;
    options.err = sink;
    const Arguments arguments = {model, "-p", "Once", "-n", "2", "--temp", "0", "-t", "1"};
    CHECK(MustRun("sdq-run", arguments, options) == "Once upon a\n");
    CHECK(RunProgram("sdq-run", {"missing.sdq"}, options).exit_code == 1);
    CHECK(RunProgram("sdq-run", {}, options).exit_code == 2);
  }
}

TEST_CASE("sdq-convert: no message goes into the file when descriptors are missing") {
  const TemporaryFolder folder;
  const std::string expected = FloatModel(folder, "stories-llama-5m");
  ProcessOptions options;
  options.no_input = true;
  options.out = Sink::kNone;
  options.err = Sink::kNone;
  const std::string path = folder / "new.sdq";
  // The report has nowhere to go, which is a failure; the file is whole.
  CHECK(RunProgram("sdq-convert",
                   {BundledModel("stories-llama-5m"), "-o", path, "--method", "float"}, options)
            .exit_code == 1);
  CHECK(ReadBytes(path) == ReadBytes(expected));
}

TEST_CASE("sdq-run: a prompt that cannot be read from stdin") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  ProcessOptions options;
  SECTION("a folder") { options.input_folder = folder.path(); }
  SECTION("no descriptor") { options.no_input = true; }
  CheckFailure("sdq-run", {model, "-t", "1"}, 1, "cannot read the prompt from stdin", options);
}

TEST_CASE("sdq-run: Ctrl-C during generation ends the text and says how fast it was") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  ProcessOptions options = Slow();
  options.signal_after = "there was";
  options.signal = GENERATE(SIGINT, SIGTERM);
  const ProcessResult result = RunProgram("sdq-run", Endless(model), options);
  INFO(result.err);
  CHECK(result.ended_by_signal == 0);
  CHECK(result.exit_code == 0);
  CHECK(result.out.starts_with("Once upon a time, there was"));
  CHECK(result.out.ends_with("\n"));
  CHECK(Contains(result.err, "ended by: interrupted"));
  CHECK(Contains(result.err, "tokens/s"));
}

TEST_CASE("sdq-convert: Ctrl-C leaves the old file, and what is finished, and says so") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.sdq";
  WriteText(path, "the old file");
  ProcessOptions options;
  options.signal_after = "mean OSR";  // the allocation, printed before the work begins
  options.signal = SIGINT;
  // A wide window, so that the work lasts.
  const ProcessResult result = RunProgram("sdq-convert",
                                          {BundledModel("stories-llama-5m"), "-o", path,
                                           "--calib-tokens", "1024", "--window", "10", "-t", "1"},
                                          options);
  INFO(result.err);
  CHECK(result.exit_code == 1);
  CHECK(Contains(result.err, "sdq-convert: error: interrupted; " + path + ".partial keeps"));
  CHECK(Contains(result.err, "--resume"));
  CHECK(ReadText(path) == "the old file");
  CHECK(NamesIn(folder.path()) == std::vector<std::string>{"model.sdq", "model.sdq.partial"});
}

}  // namespace
}  // namespace sdq::test
