// Memory that sdq-run states before it starts, and apps/start.sh, which measures it.
#include <filesystem>

#include "tests/cli/programs.h"

namespace sdq::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

TEST_CASE("sdq-run: holds no more memory than it says before it starts, with the context full") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  std::string prompt;
  for (int i = 0; i < 4; ++i) prompt += std::string(kReferenceText) + " ";
  const Json run = MustRunJson("sdq-run", {model, "-p", prompt, "-n", "1000", "-c", "512", "-t",
                                           "2", "--ignore-eos", "--seed", "1", "--json"});
  CHECK(run["finish_reason"] == "context full");
  if (SDQ_SANITIZED != 0) return;  // sanitizers hold memory of their own
  const auto bytes = [&](const char* key) { return run[key].get<uint64_t>(); };
  CHECK(bytes("file_bytes") == fs::file_size(model));
  CHECK(bytes("resident_limit_bytes") > bytes("file_bytes") + bytes("kv_bytes"));
  CHECK(bytes("resident_limit_bytes") < bytes("file_bytes") + bytes("kv_bytes") + 32000000);
  CHECK(bytes("resident_peak_bytes") > bytes("kv_bytes"));
  CHECK(bytes("resident_peak_bytes") <= bytes("resident_limit_bytes"));
}

TEST_CASE("start.sh: prints both figures, and refuses what it cannot run") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  const std::string script = std::string(SDQ_SOURCE_DIR) + "/apps/start.sh";
  const std::string programs = fs::path(ProgramPath("sdq-run")).parent_path().string();
  const ProcessResult result =
      RunProcess({script, "-b", programs, "-r", "2", "-t", "1", "-c", "64", model});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(Contains(result.out, "| first token, without its prefill | "));
  CHECK(Contains(result.out, "| resident, stated before the start | "));
  CHECK(Contains(result.out, "1 threads, medians of 2 runs, context of 64."));
  CHECK(RunProcess({script, "-b", programs, folder / "none.sdq"}).exit_code == 1);
  CHECK(RunProcess({script, "-r", "0", model}).exit_code == 2);
  CHECK(RunProcess({script}).exit_code == 2);
}

}  // namespace
}  // namespace sdq::test
