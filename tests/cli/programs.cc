#include "tests/cli/programs.h"

#include <algorithm>
#include <filesystem>

namespace sdq::test {

const char* const kReferenceText =
    "Once upon a time, there was a little girl named Lily. She loved to dance to the rhythm of the "
    "music her mommy played. One day, Lily saw a bird whistle really loud and she became curious "
    "about it. She asked her mommy, \"Why can't that whistle sing like the bird";
const char* const kReferencePrompt =
    "Once upon a time, there was a little girl named Lily. She loved";

std::string ProgramPath(const std::string& program) {
  if (program == "sdq-convert") return SDQ_CONVERT_PATH;
  if (program == "sdq-run") return SDQ_RUN_PATH;
  if (program == "sdq-ppl") return SDQ_PPL_PATH;
  return SDQ_INFO_PATH;
}

ProcessResult RunProgram(const std::string& program, const Arguments& arguments,
                         const ProcessOptions& options) {
  Arguments all = {ProgramPath(program)};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return RunProcess(all, options);
}

std::string MustRun(const std::string& program, const Arguments& arguments,
                    const ProcessOptions& options) {
  const ProcessResult result = RunProgram(program, arguments, options);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result.out;
}

nlohmann::json MustRunJson(const std::string& program, const Arguments& arguments,
                           const ProcessOptions& options) {
  const std::string out = MustRun(program, arguments, options);
  INFO(out);
  REQUIRE(out.ends_with("}\n"));
  return nlohmann::json::parse(out);  // throws, and fails the test, on anything else
}

void CheckFailure(const std::string& program, const Arguments& arguments, int exit_code,
                  const std::string& message, const ProcessOptions& options) {
  const ProcessResult result = RunProgram(program, arguments, options);
  std::string line = program;
  for (const std::string& argument : arguments) line += " " + argument;
  INFO(line << "\nstderr: " << result.err << "expected: " << message);
  CHECK(result.exit_code == exit_code);
  CHECK(result.out == "");
  CHECK(Contains(result.err, program + ": error: "));
  CHECK(Contains(result.err, message));
  CHECK(Contains(result.err, "Try '" + program + " --help'") == (exit_code == 2));
}

std::string FloatModel(const TemporaryFolder& folder, const std::string& checkpoint,
                       const std::string& name) {
  const std::string path = folder / name;
  MustRun("sdq-convert",
          {BundledModel(checkpoint), "-o", path, "--method", "float", "-q", "-t", "1"});
  return path;
}

std::string CalibrationText() {
  std::string text;
  for (int i = 0; i < 24; ++i) {
    text += std::string(kReferenceText) + " number " + std::to_string(i) + "?\"\n";
    if (i == 6) text += "<|endoftext|>\n";
  }
  return text;
}

nlohmann::json Reference(const std::string& checkpoint) {
  return nlohmann::json::parse(ReadText(BundledModel(checkpoint) + "/ref.json"));
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string ReadText(const std::string& path) {
  const std::vector<uint8_t> bytes = ReadBytes(path);
  return {bytes.begin(), bytes.end()};
}

void WriteText(const std::string& path, const std::string& text) {
  WriteBytes(path, {text.begin(), text.end()});
}

std::vector<std::string> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace sdq::test
