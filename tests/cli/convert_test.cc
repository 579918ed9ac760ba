// sdq-convert: what it writes, and what it refuses.
#include <unistd.h>

#include <filesystem>

#include "tests/cli/programs.h"

namespace sdq::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

Json Info(const std::string& model) { return MustRunJson("sdq-info", {model, "--json"}); }

TEST_CASE("sdq-convert: trellis at OSR 2, and a model that still tells stories") {
  const std::string checkpoint = GENERATE("stories-llama-5m", "stories-opt-6m");
  const TemporaryFolder folder;
  const std::string model = folder / "model.sdq";
  const std::string report = MustRun(
      "sdq-convert", {BundledModel(checkpoint), "-o", model, "--osr", "2", "--calib", "none"});
  CHECK(Contains(report, "layers.5.ffn.down"));
  CHECK(Contains(report, "mean OSR 2.0000"));
  CHECK(Contains(report, model));

  const Json info = Info(model);
  CHECK(info["metadata"]["quantization.method"] == "trellis");
  CHECK(info["metadata"]["quantization.alphabet"] == "binary");
  CHECK(info["bits_per_weight"].get<double>() > 2.0);
  CHECK(info["bits_per_weight"].get<double>() < 2.1);

  const std::string text =
      MustRun("sdq-run", {model, "-p", "Once upon a time", "--temp", "0", "-n", "8", "-q"});
  CHECK(text.starts_with("Once upon a time, there was a"));
}

TEST_CASE("sdq-convert: the published method with calibration text, ternary by default") {
  const TemporaryFolder folder;
  const std::string model = folder / "model.sdq";
  WriteText(folder / "calib.txt", CalibrationText());
  const std::string report = MustRun(
      "sdq-convert", {BundledModel("stories-llama-5m"), "-o", model, "--method", "sdq", "--osr",
                      "2", "--calib", folder / "calib.txt", "--calib-tokens", "512"});
  CHECK(Contains(report, "layers.5.ffn.down"));
  CHECK_FALSE(Contains(report, "predicted KL"));  // rates as published: uniform, not measured
  const Json metadata = Info(model)["metadata"];
  CHECK(metadata["quantization.method"] == "sdq");
  CHECK(metadata["quantization.alphabet"] == "ternary");
  CHECK(metadata["quantization.calibration_tokens"] == 512);
  CHECK(metadata["quantization.calibration_source"] == "calib.txt");
  MustRun("sdq-run", {model, "-p", "Once", "-n", "2", "-q"});
}

TEST_CASE("sdq-convert: the same bytes again, with one thread and with two") {
  const TemporaryFolder folder;
  WriteText(folder / "calib.txt", CalibrationText());
  const auto convert = [&](const std::string& threads, const std::string& seed) {
    const std::string path = folder / "model.sdq";
    MustRun("sdq-convert", {BundledModel("stories-llama-5m"), "-o", path, "--osr", "1", "--calib",
                            folder / "calib.txt", "--calib-tokens", "512", "--scale-tries", "1",
                            "-t", threads, "--seed", seed, "-q"});
    return ReadBytes(path);
  };
  const std::vector<uint8_t> bytes = convert("1", "7");
  CHECK(convert("2", "7") == bytes);
  CHECK(convert("2", "7") == bytes);
  CHECK(convert("1", "8") != bytes);
}

TEST_CASE("sdq-convert: without a text the model writes its own, the same for any threads") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.sdq";
  const auto convert = [&](const Arguments& more) {
    Arguments arguments = {BundledModel("stories-llama-5m"), "-o", path, "--osr", "1", "-q"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    MustRun("sdq-convert", arguments);
    return ReadBytes(path);
  };
  const std::vector<uint8_t> bytes = convert({"--calib-tokens", "1024", "-t", "1"});
  const Json metadata = Info(path)["metadata"];
  CHECK(metadata["quantization.calibration_tokens"] == 1024);
  CHECK(metadata["quantization.calibration_source"] == "own text");
  CHECK(convert({"--calib-tokens", "1024", "-t", "2"}) == bytes);
  CHECK(convert({"--calib", "none"}) != bytes);
  CHECK(Info(path)["metadata"]["quantization.calibration_tokens"] == 0);
}

TEST_CASE("sdq-convert: quiet says nothing; the report says what was written") {
  const TemporaryFolder folder;
  const Arguments arguments = {BundledModel("stories-opt-6m"), "-o", folder / "model.sdq",
                               "--method", "float"};
  const ProcessResult loud = RunProgram("sdq-convert", arguments);
  CHECK(loud.exit_code == 0);
  CHECK(Contains(loud.out, std::to_string(fs::file_size(folder / "model.sdq")) + " bytes"));
  Arguments quiet = arguments;
  quiet.push_back("--quiet");
  const ProcessResult silent = RunProgram("sdq-convert", quiet);
  CHECK(silent.exit_code == 0);
  CHECK(silent.out == "");
  CHECK(silent.err == "");
}

TEST_CASE("sdq-convert: checkpoints that are none, and pickles with advice") {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& checkpoint, const std::string& message) {
    CheckFailure("sdq-convert", {checkpoint, "-o", folder / "out.sdq"}, 1, message);
    CHECK_FALSE(fs::exists(folder / "out.sdq"));
  };
  refused(folder / "missing", "no such folder");
  WriteText(folder / "file", "x");
  refused(folder / "file", "not a folder");
  const std::string checkpoint = folder / "checkpoint";
  fs::create_directory(checkpoint);
  refused(checkpoint, "config.json");
  const std::string bundled = BundledModel("stories-llama-5m");
  fs::copy_file(bundled + "/config.json", checkpoint + "/config.json");
  refused(checkpoint, "no weights");
  WriteText(checkpoint + "/pytorch_model.bin", "\x80\x02}q");
  refused(checkpoint, "save_pretrained");
  fs::copy_file(bundled + "/model.safetensors", checkpoint + "/model.safetensors");
  fs::resize_file(checkpoint + "/model.safetensors", 1000000);
  refused(checkpoint, "model.safetensors");
  fs::remove(checkpoint + "/pytorch_model.bin");
  fs::remove(checkpoint + "/model.safetensors");
  fs::copy_file(bundled + "/model.safetensors", checkpoint + "/model.safetensors");
  WriteText(checkpoint + "/config.json", "{\"model_type\": \"gpt_neox\"}");
  refused(checkpoint, "gpt_neox");
}

TEST_CASE("sdq-convert: output that cannot be written") {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& output, const std::string& message) {
    CheckFailure("sdq-convert",
                 {BundledModel("stories-llama-5m"), "-o", output, "--method", "float"}, 1, message);
  };
  refused(folder.path(), "is a directory");
  refused(folder / "missing/model.sdq", "No such file");
  refused(folder / "new/", "not a file");
  refused("/dev/full", "not a regular file");
  refused("", "empty");
  WriteText(folder / "file", "x");
  refused(folder / "file/model.sdq", "Not a directory");
  if (::geteuid() != 0) {
    fs::permissions(folder.path(), fs::perms::owner_read | fs::perms::owner_exec);
    refused(folder / "model.sdq", "Permission denied");
    fs::permissions(folder.path(), fs::perms::owner_all);
  }
  CHECK(NamesIn(folder.path()) == std::vector<std::string>{"file"});
}

TEST_CASE("sdq-convert: a failure half-way leaves the old file and nothing else") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.sdq";
  WriteText(path, "the old file");
  WriteText(folder / "calib.txt", "Too short.");
  CheckFailure(
      "sdq-convert",
      {BundledModel("stories-llama-5m"), "-o", path, "--calib", folder / "calib.txt", "-q"}, 1,
      "calibration text has");
  CHECK(ReadText(path) == "the old file");
  CHECK(NamesIn(folder.path()) == std::vector<std::string>{"calib.txt", "model.sdq"});
}

}  // namespace
}  // namespace sdq::test
