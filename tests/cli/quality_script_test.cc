// apps/quality.sh: the table that the README's quality figures come from.
#include <filesystem>
#include <sstream>

#include "tests/cli/programs.h"

namespace sdq::test {
namespace {

namespace fs = std::filesystem;

std::string Script() { return std::string(SDQ_SOURCE_DIR) + "/apps/quality.sh"; }

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> Cells(const std::string& row) {
  std::vector<std::string> cells;
  std::istringstream stream(row);
  for (std::string cell; std::getline(stream, cell, '|');) cells.push_back(cell);
  return cells;
}

TEST_CASE("quality.sh: a row per list of arguments, the float model agrees with itself") {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 12; ++i) text += std::string(kReferenceText) + "\n<|endoftext|>\n";
  WriteText(folder / "text.txt", text);
  std::string other;
  for (int i = 0; i < 40; ++i) {
    other += "Tim had a red ball. He threw it to his dog in the park.\n<|endoftext|>\n";
  }
  WriteText(folder / "other.txt", other);
  fs::create_directory(folder / "kept");
  const ProcessResult result =
      RunProcess({Script(), "-b", fs::path(ProgramPath("sdq-convert")).parent_path().string(), "-c",
                  "32", "-n", "2", "-t", "1", "-o", folder / "kept", "-r", "--method float", "-r",
                  "--osr 1 --calib-tokens 512", BundledModel("stories-llama-5m"),
                  folder / "other.txt", folder / "text.txt"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);

  const std::vector<std::string> lines = Lines(result.out);
  REQUIRE(lines.size() == 6);  // heading, rule, two rows, an empty line, the float model
  const std::vector<std::string> same = Cells(lines[2]);
  const std::vector<std::string> coarse = Cells(lines[3]);
  REQUIRE(same.size() == 9);
  REQUIRE(coarse.size() == 9);
  CHECK(same[2] == " `--method float` ");
  CHECK(same[6] == " 0.0000 ");
  CHECK(same[7] == " 100.0% ");
  CHECK(coarse[2] == " `--osr 1 --calib-tokens 512` ");
  CHECK(std::stod(coarse[3]) > 1.0);
  CHECK(std::stoull(coarse[4]) == fs::file_size(folder / "kept/row2.sdq"));
  CHECK(std::stod(coarse[5]) > std::stod(same[5]));
  CHECK(std::stod(coarse[6]) > 0.1);
  CHECK(lines[5] == "Perplexity of the float model:" + same[5].substr(0, same[5].size() - 1));
}

TEST_CASE("quality.sh: says what is missing") {
  const ProcessResult few = RunProcess({Script(), "one"});
  CHECK(few.exit_code == 2);
  CHECK(Contains(few.err, "CHECKPOINT CALIBRATION_TEXT EVALUATION_TEXT"));
  const ProcessResult unbuilt = RunProcess({Script(), "-b", "/nowhere", "a", "b", "c"});
  CHECK(unbuilt.exit_code == 2);
  CHECK(Contains(unbuilt.err, "no sdq-convert in /nowhere"));
}

}  // namespace
}  // namespace sdq::test
