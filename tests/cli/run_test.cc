// sdq-run: what it writes for what it is asked.
#include "tests/cli/programs.h"

namespace sdq::test {
namespace {

using Json = nlohmann::json;

TEST_CASE("sdq-run: greedy text and ids of the float models are the reference's") {
  const std::string checkpoint = GENERATE("stories-llama-5m", "stories-opt-6m");
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, checkpoint);
  const Json reference = Reference(checkpoint);
  const std::vector<int> ids = reference["greedy_ids_from_first_16"];
  const Arguments arguments = {model, "-p", kReferencePrompt, "--temp", "0", "-n", "64", "-q"};

  CHECK(MustRun("sdq-run", arguments) == reference["greedy_text"].get<std::string>() + "\n");

  Arguments as_json = arguments;
  as_json.insert(as_json.end(), {"--json", "-t", "1"});
  const Json json = MustRunJson("sdq-run", as_json);
  CHECK(json["prompt"] == kReferencePrompt);
  CHECK(json["prompt"].get<std::string>() + json["text"].get<std::string>() ==
        reference["greedy_text"].get<std::string>());
  CHECK(json["prompt_tokens"] == 16);
  CHECK(json["tokens"] == std::vector<int>(ids.begin() + 16, ids.end()));
  CHECK(json["finish_reason"] == "length");
  for (const char* key : {"load_ms", "first_token_ms", "prefill_tokens_per_second",
                          "decode_tokens_per_second", "gigabytes_per_second"}) {
    INFO(key);
    CHECK(json[key].get<double>() > 0);
  }
}

TEST_CASE("sdq-run: prompt from an option, a file or stdin, shown or not") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  const std::string prompt = "Once upon a time";
  const Arguments common = {model, "--temp", "0", "-n", "4", "-q", "-t", "1"};
  const auto with = [&](const Arguments& more) {
    Arguments all = common;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const std::string expected = "Once upon a time, there was a\n";
  CHECK(MustRun("sdq-run", with({"-p", prompt})) == expected);
  CHECK(MustRun("sdq-run", with({"--prompt=" + prompt})) == expected);

  // The newline at the end of the last line is not part of the prompt.
  ProcessOptions options;
  options.input = prompt + "\n";
  CHECK(MustRun("sdq-run", common, options) == expected);
  WriteText(folder / "prompt.txt", prompt + "\n");
  CHECK(MustRun("sdq-run", with({"-f", folder / "prompt.txt"})) == expected);

  CHECK(MustRun("sdq-run", with({"-p", prompt, "--no-display-prompt"})) == ", there was a\n");
  CHECK(MustRun("sdq-run", {"-q", "-n", "0", "--model", model, "-p", prompt}) == prompt + "\n");
}

TEST_CASE("sdq-run: a reverse prompt ends the text, inside a token too") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  const Arguments common = {model, "-p", "Once upon a time", "--temp", "0", "-t", "1"};
  const auto run = [&](const Arguments& first) {
    Arguments all = first;
    all.insert(all.end(), common.begin(), common.end());
    all.push_back("--json");
    return MustRunJson("sdq-run", all);
  };
  // An option with one value: the model may stand behind it.
  const Json json = run({"-r", "girl"});
  CHECK(json["text"] == ", there was a little girl");
  CHECK(json["finish_reason"] == "reverse prompt");
  CHECK(run({"-r", "[no]", "-r", "a,b", "-r", "gi"})["text"] == ", there was a little gi");
  CHECK(run({"-r", "tle gir"})["text"] == ", there was a little gir");

  Arguments streamed = common;
  streamed.insert(streamed.end(), {"-q", "-r", "never said", "--reverse-prompt", "named L"});
  CHECK(MustRun("sdq-run", streamed) == "Once upon a time, there was a little girl named L\n");
}

TEST_CASE("sdq-run: a seed gives the same text again, another seed another") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-opt-6m");
  const auto run = [&](const std::string& seed, const std::string& threads) {
    return MustRun("sdq-run", {model, "-p", "The", "-n", "40", "-q", "-s", seed, "-t", threads,
                               "--temp", "1.5", "--top-k", "0", "--top-p", "1", "--min-p", "0"});
  };
  const std::string text = run("5", "1");
  CHECK(run("5", "1") == text);
  CHECK(run("5", "2") == text);
  CHECK(run("6", "1") != text);
  CHECK(run("-1", "1") != run("-1", "1"));
}

TEST_CASE("sdq-run: the text ends at the model's end unless that is ignored") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  const Arguments arguments = {model, "-p", "Once upon a time", "--temp", "0", "--json", "-t", "1"};
  const Json ended = MustRunJson("sdq-run", arguments);
  CHECK(ended["finish_reason"] == "eos");
  const size_t length = ended["tokens"].size();
  REQUIRE(length > 50);
  REQUIRE(length < 900);

  Arguments on = arguments;
  on.insert(on.end(), {"--ignore-eos", "-n", std::to_string(length + 2)});
  const Json further = MustRunJson("sdq-run", on);
  CHECK(further["finish_reason"] == "length");
  REQUIRE(further["tokens"].size() == length + 2);
  CHECK(further["tokens"][length] == 2);  // the end that was passed over; it has no text
  CHECK(further["text"].get<std::string>().starts_with(ended["text"].get<std::string>()));
  CHECK_FALSE(Contains(further["text"], "</s>"));
  on.push_back("--special");
  CHECK(Contains(MustRunJson("sdq-run", on)["text"], "</s>"));
}

TEST_CASE("sdq-run: the context ends the text; a prompt beyond it is refused") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  const Arguments arguments = {model, "-p", "Once", "--temp", "0", "-t", "1", "--json", "-c", "4"};
  const Json json = MustRunJson("sdq-run", arguments);
  CHECK(json["finish_reason"] == "context full");
  CHECK(json["prompt_tokens"] == 2);
  CHECK(json["text"] == " upon a time");  // the last token needs no position of its own

  CheckFailure("sdq-run", {model, "-p", "Once upon a time there was", "-c", "3", "-t", "1"}, 1,
               "the prompt has 7 tokens but the context holds 3");
  CheckFailure("sdq-run", {model, "-p", "x", "-c", "1025"}, 1, "the model has 1024 positions");
  std::string long_text;
  for (int i = 0; i < 2000; ++i) long_text += "Once upon a time. ";
  ProcessOptions options;
  options.input = long_text;
  CheckFailure("sdq-run", {model}, 1, "but the context holds 1024", options);
}

TEST_CASE("sdq-run: memory and speed on stderr, unless quiet") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  const Arguments arguments = {model, "-p", "Once", "-n", "3", "--temp", "0", "-t", "1"};
  const ProcessResult result = RunProgram("sdq-run", arguments);
  CHECK(result.exit_code == 0);
  CHECK(result.out == "Once upon a time\n");
  for (const char* part : {"KV cache", "1 thread,", "load ", "prefill ", "decode ", "tokens/s",
                           "GB/s", "ended by: length"}) {
    INFO(part << " in " << result.err);
    CHECK(Contains(result.err, part));
  }
  Arguments quiet = arguments;
  quiet.push_back("-q");
  CHECK(RunProgram("sdq-run", quiet).err == "");
}

TEST_CASE(
    "sdq-run: --prefill int8 says what becomes of it and keeps to the memory that it states") {
  const TemporaryFolder folder;
  const std::string exact = FloatModel(folder, "stories-llama-5m");
  const std::string stream = folder / "stream.sdq";
  MustRun("sdq-convert",
          {BundledModel("stories-llama-5m"), "-o", stream, "--osr", "2", "--calib", "none", "-q"});
  ProcessOptions scalar;  // has int8 kernels everywhere
  scalar.environment = {{"SDQ_TARGET", "SCALAR"}};
  const auto run = [&](const std::string& model, const char* prefill) {
    return RunProgram("sdq-run",
                      {model, "-p", std::string(kReferenceText), "-n", "1", "--temp", "0", "-t",
                       "1", "--json", "--prefill", prefill},
                      scalar);
  };
  CHECK_FALSE(Contains(run(stream, "exact").err, "; prefill"));
  CHECK(Contains(run(exact, "int8").err, "; prefill exact: no bitstreams that int8 kernels can"));
  const ProcessResult result = run(stream, "int8");
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(Contains(result.err, "; prefill int8\n"));
  const Json json = Json::parse(result.out);
  CHECK(json["prompt_tokens"].get<int>() >= 32);
  CHECK(json["resident_peak_bytes"].get<uint64_t>() <=
        json["resident_limit_bytes"].get<uint64_t>());
}

TEST_CASE("sdq-run: threads beyond the cores, both kinds of KV cache, small batches") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  const auto run = [&](const Arguments& more) {
    Arguments all = {model, "-p", kReferencePrompt, "--temp", "0", "-n", "8", "-q"};
    all.insert(all.end(), more.begin(), more.end());
    return MustRun("sdq-run", all);
  };
  const std::string text = run({"-t", "1"});
  CHECK(run({"-t", "64"}) == text);
  CHECK(run({"-t", "1", "--kv", "f32"}) == text);
  CHECK(run({"-t", "1", "--kv", "q8"}) == text);
  CHECK(run({"-t", "1", "-b", "3"}) == text);
}

TEST_CASE("programs: a forced target is used; an unknown one is reported") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  const Arguments arguments = {model, "-p", "Once", "-n", "2", "--temp", "0", "-t", "1"};
  ProcessOptions scalar;
  scalar.environment = {{"SDQ_TARGET", "SCALAR"}};
  const ProcessResult forced = RunProgram("sdq-run", arguments, scalar);
  CHECK(forced.out == "Once upon a\n");
  CHECK(Contains(forced.err, "1 thread, SCALAR\n"));
  CHECK_FALSE(Contains(forced.err, "warning"));

  ProcessOptions unknown;
  unknown.environment = {{"SDQ_TARGET", "ABACUS"}};
  const ProcessResult ignored = RunProgram("sdq-run", arguments, unknown);
  CHECK(ignored.exit_code == 0);
  CHECK(ignored.out == "Once upon a\n");
  CHECK(Contains(ignored.err, "sdq-run: warning: SDQ_TARGET=ABACUS is unknown"));
  CHECK(Contains(ignored.err, "SCALAR"));  // what there is instead
}

}  // namespace
}  // namespace sdq::test
