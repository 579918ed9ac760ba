// The four programs and what the tests of the command line share.
#ifndef SDQ_TESTS_CLI_PROGRAMS_H_
#define SDQ_TESTS_CLI_PROGRAMS_H_

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/files.h"
#include "tests/support/process.h"

namespace sdq::test {

using Arguments = std::vector<std::string>;

// One of "sdq-convert", "sdq-run", "sdq-ppl", "sdq-info" as it was built.
std::string ProgramPath(const std::string& program);

// Runs one of them.
ProcessResult RunProgram(const std::string& program, const Arguments& arguments,
                         const ProcessOptions& options = {});

// The same, for runs that must succeed: requires exit code 0 and gives stdout.
std::string MustRun(const std::string& program, const Arguments& arguments,
                    const ProcessOptions& options = {});
nlohmann::json MustRunJson(const std::string& program, const Arguments& arguments,
                           const ProcessOptions& options = {});

// Checks a run that must fail with `exit_code`: one message on stderr that begins with the
// program's name and holds `message`, nothing on stdout.
void CheckFailure(const std::string& program, const Arguments& arguments, int exit_code,
                  const std::string& message, const ProcessOptions& options = {});

// Converts a bundled checkpoint in float mode to a file of that name in `folder`; gives its path.
std::string FloatModel(const TemporaryFolder& folder, const std::string& checkpoint,
                       const std::string& name = "float.sdq");

// Some thousand tokens of plain English, two documents.
std::string CalibrationText();

// ref.json of a bundled checkpoint.
nlohmann::json Reference(const std::string& checkpoint);

// The text of the 64 prompt ids of both ref.json files, and of the first 16 of them.
extern const char* const kReferenceText;
extern const char* const kReferencePrompt;

bool Contains(const std::string& text, const std::string& part);
std::string ReadText(const std::string& path);
void WriteText(const std::string& path, const std::string& text);
// Names in a folder, hidden ones too.
std::vector<std::string> NamesIn(const std::string& folder);

}  // namespace sdq::test

#endif  // SDQ_TESTS_CLI_PROGRAMS_H_
