// sdq-run: prompts that are not plain text.
#include "tests/cli/programs.h"

namespace sdq::test {
namespace {

using Json = nlohmann::json;
using std::string_literals::operator""s;

Json RunPrompt(const std::string& model, const std::string& prompt, const Arguments& more = {}) {
  Arguments all = {model, "--json", "--temp", "0", "-n", "2", "-t", "1", "-q"};
  all.insert(all.end(), more.begin(), more.end());
  ProcessOptions options;
  options.input = prompt;
  return MustRunJson("sdq-run", all, options);
}

TEST_CASE("sdq-run: an empty prompt starts a text") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  const Json json = RunPrompt(model, "");
  CHECK(json["prompt_tokens"] == 1);
  CHECK(json["text"] == "Once upon");
  CHECK(MustRun("sdq-run", {model, "-p", "", "-n", "3", "--temp", "0", "-q", "-t", "1"}) ==
        "Once upon a\n");
  const std::string opt = FloatModel(folder, "stories-opt-6m", "opt.sdq");
  CHECK(MustRun("sdq-run", {opt, "-p", "", "-n", "3", "--temp", "0", "-q", "-t", "1"}) ==
        "Once upon a\n");
}

TEST_CASE("sdq-run: NUL bytes and invalid UTF-8 in a prompt") {
  const TemporaryFolder folder;
  const std::string checkpoint = GENERATE("stories-llama-5m", "stories-opt-6m");
  const std::string model = FloatModel(folder, checkpoint);
  // The text goes on behind a NUL: more tokens than before it.
  const Json nul = RunPrompt(model, "a\0b c d"s);
  CHECK(nul["prompt"] == "a\0b c d"s);
  CHECK(nul["prompt_tokens"] > RunPrompt(model, "a")["prompt_tokens"]);
  CHECK(nul["tokens"].size() == 2);

  // One U+FFFD for each of the two bytes; JSON must be valid whatever came in.
  const Json invalid = RunPrompt(model, "a \xff\xfe b");
  CHECK(invalid["prompt"] == "a \xef\xbf\xbd\xef\xbf\xbd b");
  CHECK(invalid["tokens"].size() == 2);
  CHECK(invalid["tokens"] == RunPrompt(model, "a \xef\xbf\xbd\xef\xbf\xbd b")["tokens"]);

  // A file takes the same way.
  WriteText(folder / "prompt.bin", "a\0b c d"s);
  CHECK(RunPrompt(model, "", {"-f", folder / "prompt.bin"})["tokens"] == nul["tokens"]);
}

TEST_CASE("sdq-run: control tokens written in a prompt stay text unless asked for") {
  const TemporaryFolder folder;
  const std::string checkpoint = GENERATE("stories-llama-5m", "stories-opt-6m");
  const std::string model = FloatModel(folder, checkpoint);
  const Json text = RunPrompt(model, "</s></s>");
  CHECK(text["prompt_tokens"] >= 7);  // <, /, s and > at least, twice, but for merged pairs
  const Json control = RunPrompt(model, "</s></s>", {"--parse-special"});
  CHECK(control["prompt_tokens"] == 3);
}

TEST_CASE("sdq-run: shown text is valid UTF-8 though tokens are single bytes") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  // At this temperature all tokens are about equally likely, the 256 byte tokens among them.
  const std::string out =
      MustRun("sdq-run", {model, "-p", "x", "-n", "300", "-q", "-t", "1", "-s", "1", "--ignore-eos",
                          "--temp", "100", "--top-k", "0", "--top-p", "1", "--min-p", "0"});
  CHECK(Contains(out, "\xef\xbf\xbd"));
  CHECK_NOTHROW(Json(out).dump());  // strict: throws on invalid UTF-8
}

}  // namespace
}  // namespace sdq::test
