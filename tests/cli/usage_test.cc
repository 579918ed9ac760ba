// Misuse ends with exit code 2 and a hint; files that are not what they should be with 1.
#include "tests/cli/programs.h"

namespace sdq::test {
namespace {

const char* const kPrograms[] = {"sdq-convert", "sdq-run", "sdq-ppl", "sdq-info"};

TEST_CASE("programs: help and version") {
  for (const char* program : kPrograms) {
    const std::string help = MustRun(program, {"--help"});
    CHECK(Contains(help, program));
    CHECK(Contains(help, "--version"));
    CHECK(MustRun(program, {"-h"}) == help);
    CHECK(MustRun(program, {"--version"}) == std::string(program) + " " + SDQ_VERSION + "\n");
  }
}

TEST_CASE("programs: unknown flags, missing arguments and surplus ones") {
  for (const char* program : kPrograms) {
    CheckFailure(program, {}, 2, "is required");
    CheckFailure(program, {"--no-such-flag"}, 2, "--no-such-flag");
    CheckFailure(program, {"a", "-o", "b", "-f", "c", "d", "e"}, 2, "not expected");
  }
  CheckFailure("sdq-run", {"m.sdq", "-p"}, 2, "--prompt");
  CheckFailure("sdq-run", {"m.sdq", "-p", "x", "-n"}, 2, "--predict");
  CheckFailure("sdq-run", {"m.sdq", "-p", "x", "-f", "y"}, 2, "excludes");
  CheckFailure("sdq-run", {"m.sdq", "--temp", "1", "--temp", "2"}, 2, "--temp");
  CheckFailure("sdq-convert", {"folder"}, 2, "--output is required");
  CheckFailure("sdq-ppl", {"m.sdq"}, 2, "--file is required");
}

TEST_CASE("sdq-run: numbers out of range, NaN, negative counts, words") {
  const std::pair<const char*, const char*> cases[] = {
      {"-t", "0"},
      {"-t", "-1"},
      {"-t", "257"},
      {"-t", "two"},
      {"-t", ""},
      {"-n", "-2"},
      {"-n", "5x"},
      {"-n", "1.5"},
      {"-n", "99999999999999999999"},
      {"-c", "-1"},
      {"-c", "16777217"},
      {"-c", "-18446744073709551615"},
      {"-b", "0"},
      {"-b", "4097"},
      {"-s", "-2"},
      {"-s", "4294967296"},
      {"--temp", "nan"},
      {"--temp", "inf"},
      {"--temp", "hot"},
      {"--top-p", "1.5"},
      {"--top-p", "-0.1"},
      {"--top-p", "nan"},
      {"--min-p", "nan"},
      {"--min-p", "2"},
      {"--top-k", "many"},
      {"--top-k", "3e20"},
      {"--repeat-penalty", "0"},
      {"--kv", "f8"},
      {"--prefill", "int4"},
      {"--prefill", ""},
      {"--repeat-penalty", "nan"},
      {"--repeat-penalty", "inf"},
      {"--repeat-last-n", "-2"},
  };
  // Misuse is found before the model is looked for.
  for (const auto& [option, value] : cases) {
    CheckFailure("sdq-run", {"missing.sdq", "-p", "x", option, value}, 2, "");
  }
}

TEST_CASE("sdq-convert, sdq-ppl: numbers out of range, NaN, negative counts, words") {
  const std::pair<const char*, const char*> convert[] = {
      {"--osr", "nan"},        {"--osr", "0"},
      {"--osr", "-1"},         {"--osr", "16.5"},
      {"--osr", "inf"},        {"--window", "0"},
      {"--window", "17"},      {"--window", "-8"},
      {"--order", "3"},        {"--block", "7"},
      {"--block", "4097"},     {"--damping", "nan"},
      {"--damping", "-0.1"},   {"--seed", "-1"},
      {"--seed", "1e3"},       {"--calib-tokens", "-5"},
      {"--calib-tokens", "0"}, {"--method", "gptq"},
      {"--method", "0"},       {"--alphabet", "quaternary"},
      {"--embeddings", "q4"},  {"--threads", "0"},
  };
  for (const auto& [option, value] : convert) {
    CheckFailure("sdq-convert", {"missing", "-o", "x.sdq", option, value}, 2, option);
  }
  const std::pair<const char*, const char*> ppl[] = {
      {"-c", "1"},  {"-c", "-512"},     {"-c", "nan"},      {"--chunks", "0"},
      {"-b", "-1"}, {"--chunks", "-1"}, {"--threads", "0"}, {"--prefill", "8"},
  };
  for (const auto& [option, value] : ppl) {
    CheckFailure("sdq-ppl", {"missing.sdq", "-f", "x", option, value}, 2, "");
  }
}

TEST_CASE("programs: model files that are missing, folders, empty, cut short or something else") {
  const TemporaryFolder folder;
  const std::string good = FloatModel(folder, "stories-llama-5m");
  const std::vector<uint8_t> bytes = ReadBytes(good);
  WriteBytes(folder / "short.sdq", {bytes.begin(), bytes.begin() + 5000});
  WriteBytes(folder / "header.sdq", {bytes.begin(), bytes.begin() + 100});
  WriteBytes(folder / "almost.sdq", {bytes.begin(), bytes.end() - 1});
  WriteText(folder / "empty.sdq", "");
  WriteText(folder / "text.sdq", std::string(5000, 'x'));
  WriteText(folder / "text.txt", "Once upon a time.");
  const std::pair<std::string, const char*> cases[] = {
      {folder / "missing.sdq", "No such file"},
      {folder.path(), "is a directory"},
      {folder / "short.sdq", "cut short"},
      {folder / "header.sdq", "header"},
      {folder / "almost.sdq", "cut short"},
      {folder / "empty.sdq", "the file is empty"},
      {folder / "text.sdq", "not an .sdq file"},
      {BundledModel("stories-llama-5m") + "/model.safetensors", "not an .sdq file"},
      {"/dev/null", "a regular file is expected"},
      {"", "No such file"},
  };
  for (const auto& [path, message] : cases) {
    CheckFailure("sdq-run", {path, "-p", "x"}, 1, message);
    CheckFailure("sdq-info", {path}, 1, message);
    CheckFailure("sdq-ppl", {path, "-f", folder / "text.txt"}, 1, message);
    if (path.empty()) continue;  // an empty --reference is none
    CheckFailure("sdq-ppl", {good, "-f", folder / "text.txt", "--reference", path}, 1, message);
  }
}

TEST_CASE("programs: text files that are missing, folders or empty") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  const std::string checkpoint = BundledModel("stories-llama-5m");
  WriteText(folder / "empty.txt", "");
  const std::pair<std::string, const char*> cases[] = {
      {folder / "missing.txt", "No such file"},
      {folder.path(), "is a directory"},
      {folder / "empty.txt", "is empty"},
  };
  for (const auto& [path, message] : cases) {
    CheckFailure("sdq-run", {model, "-f", path}, 1, message);
    CheckFailure("sdq-ppl", {model, "-f", path}, 1, message);
    CheckFailure("sdq-convert", {checkpoint, "-o", folder / "new.sdq", "--calib", path, "-q"}, 1,
                 message);
  }
  CHECK(NamesIn(folder.path()) == std::vector<std::string>{"empty.txt", "float.sdq"});
}

}  // namespace
}  // namespace sdq::test
