// Sizes and rates as a user asks for them: --bpw, --target-size, --allocate.
#include <filesystem>
#include <map>
#include <set>

#include "tests/cli/programs.h"

namespace sdq::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::string Convert(const std::string& model, const Arguments& more) {
  Arguments arguments = {BundledModel("stories-llama-5m"), "-o", model};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return MustRun("sdq-convert", arguments);
}

Json Info(const std::string& model) { return MustRunJson("sdq-info", {model, "--json"}); }

// OSR by name of the linear.
std::map<std::string, double> Rates(const std::string& model) {
  std::map<std::string, double> rates;
  const Json info = Info(model);
  for (const Json& tensor : info["tensors"]) {
    if (tensor["kind"] == "stream") rates[tensor["name"]] = tensor["osr"];
  }
  return rates;
}

TEST_CASE("sdq-convert: bits per weight, met from below to a thousandth") {
  const TemporaryFolder folder;
  const std::string model = folder / "model.sdq";
  const std::string bits = GENERATE("1.1", "1.379");
  const std::string report = Convert(model, {"--bpw", bits, "--calib", "none"});
  const double stored = Info(model)["bits_per_weight"];
  CHECK(stored <= std::stod(bits));
  CHECK(stored >= 0.999 * std::stod(bits));
  CHECK(Contains(report, "bits per weight in quantized linears"));
}

TEST_CASE(
    "sdq-convert: a size in bytes, MiB or percent is never exceeded, nor missed by more than"
    " a thousandth") {
  const TemporaryFolder folder;
  const std::string model = folder / "model.sdq";
  // 5475584 parameters at two bytes: 20% are 2190233 bytes.
  const std::pair<const char*, double> sizes[] = {{"2000000", 2000000},
                                                  {"1.9MiB", 1.9 * 1048576},
                                                  {"1900KiB", 1900.0 * 1024},
                                                  {"20%", 2190233}};
  for (const auto& [text, bytes] : sizes) {
    INFO(text);
    const std::string report = Convert(model, {"--target-size", text, "--calib", "none"});
    const auto size = double(fs::file_size(model));
    CHECK(size <= bytes);
    CHECK(size >= 0.999 * bytes);
    CHECK(Contains(report, std::to_string(fs::file_size(model)) + " bytes"));
  }
  MustRun("sdq-run", {model, "-p", "Once", "-n", "2", "-q"});
}

TEST_CASE("sdq-convert: allocation uniform, sigma or by sensitivity, at the same size") {
  const TemporaryFolder folder;
  const std::string model = folder / "model.sdq";
  WriteText(folder / "calib.txt", CalibrationText());
  const auto convert = [&](const std::string& allocation, const std::string& text) {
    const std::string report = Convert(model, {"--allocate", allocation, "--target-size", "2000000",
                                               "--calib", text, "--calib-tokens", "512"});
    const auto size = double(fs::file_size(model));
    CHECK(size <= 2000000);
    CHECK(size >= 0.999 * 2000000);
    CHECK(Contains(report, "predicted KL") == (allocation == "sensitivity"));
    return Rates(model);
  };
  const auto uniform = convert("uniform", "none");
  const auto sigma = convert("sigma", "none");
  const auto sensitivity = convert("sensitivity", folder / "calib.txt");
  CHECK(uniform.size() == 42);
  std::set<double> rates;
  for (const auto& [name, osr] : uniform) rates.insert(osr);
  CHECK(*rates.rbegin() - *rates.begin() <= 0.25);
  CHECK(sigma != uniform);
  CHECK(sensitivity != uniform);
  CHECK(sensitivity != sigma);
  // An error of the queries changes which tokens are looked at, one of the values what they say.
  CHECK(sensitivity.at("layers.0.attn.q") < sensitivity.at("layers.0.attn.v"));
}

TEST_CASE("sdq-convert: embeddings of a given OSR; their bytes add up") {
  const TemporaryFolder folder;
  const std::string model = folder / "model.sdq";
  const std::string report =
      Convert(model, {"--osr", "1", "--embeddings", "5/2", "--calib", "none"});
  CHECK(Contains(report, "embed.tokens"));
  CHECK(Rates(model).at("embed.tokens") == 2.5);
  const Json info = Info(model);
  uint64_t parts = 0;
  for (const auto& [name, bytes] : info["bytes"].items()) parts += bytes.get<uint64_t>();
  CHECK(parts == fs::file_size(model));
  // A scale of 16 bits for each row of 256 weights.
  CHECK(info["embeddings_and_head"]["bits_per_weight"].get<double>() == 2.5 + 16.0 / 256);
  CHECK(info["embeddings_and_head"]["weights"] == 4096 * 256);
  CHECK(info["bits_per_weight"].get<double>() < 1.1);
  CHECK(
      Contains(MustRun("sdq-info", {model}), "bits per weight over 1048576 weights in embeddings"));
  MustRun("sdq-run", {model, "-p", "Once", "-n", "2", "-q"});
}

TEST_CASE("sdq-convert: embeddings share the budget, if not told otherwise") {
  const TemporaryFolder folder;
  const std::string model = folder / "model.sdq";
  WriteText(folder / "calib.txt", CalibrationText());
  const auto convert = [&](const Arguments& more) {
    Arguments arguments = {"--calib", folder / "calib.txt", "--calib-tokens", "512"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Convert(model, arguments);
  };
  const std::string report = convert({"--target-size", "1600000"});
  CHECK(Contains(report, "embed.tokens: OSR "));
  CHECK(Rates(model).contains("embed.tokens"));
  const auto size = double(fs::file_size(model));
  CHECK(size <= 1600000);
  CHECK(size >= 0.999 * 1600000);
  convert({"--target-size", "2000000", "--embeddings", "q8"});
  CHECK_FALSE(Rates(model).contains("embed.tokens"));
  convert({"--bpw", "1.75", "--embeddings", "auto"});
  const Json info = Info(model);
  const Json& tables = info["embeddings_and_head"];
  const double linears = info["quantized_weights"];
  const double weights = linears + tables["weights"].get<double>();
  const double bits =
      (linears * info["bits_per_weight"].get<double>() + 8 * tables["bytes"].get<double>()) /
      weights;
  CHECK(bits <= 1.75);
  CHECK(bits >= 0.999 * 1.75);
}

TEST_CASE("sdq-convert: what cannot be had is refused before anything is read or measured") {
  const TemporaryFolder folder;
  // The text does not exist: whoever looked for it first would say so.
  const auto refused = [&](const Arguments& more, const std::string& message) {
    Arguments arguments = {BundledModel("stories-llama-5m"), "-o", folder / "model.sdq", "--calib",
                           folder / "missing.txt"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    CheckFailure("sdq-convert", arguments, 1, message);
    CHECK(NamesIn(folder.path()).empty());
  };
  for (const char* allocation : {"uniform", "sigma", "sensitivity"}) {
    refused({"--target-size", "0.5MiB", "--allocate", allocation},
            "a file of 524288 bytes cannot be met: the smallest");
    refused({"--target-size", "90%", "--allocate", allocation}, "the largest");
    refused({"--bpw", "9", "--allocate", allocation}, "9.0000 bits per weight cannot be met: from");
  }
  refused({"--target-size", "1MiB", "--embeddings", "q8"}, "a file of 1048576 bytes cannot be met");
  refused({"--osr", "7"}, "from 1.0000 to 6.0000");
  refused({"--osr", "5", "--window", "8"}, "from 1.0000 to 4.0000");
  refused({"--embeddings", "auto"}, "embed.tokens can share a budget of bits per weight or file");
  refused({"--embeddings", "auto", "--target-size", "2MiB", "--allocate", "uniform"},
          "by sensitivity");
  refused({"--embeddings", "3", "--method", "float"}, "bitstreams need --method trellis");
  refused({"--embeddings", "2.1"}, "embed.tokens: no decimator was learned for OSR 21/10");
  refused({"--embeddings", "5", "--window", "8"}, "embed.tokens: no decimator of window 8");
  refused({"--embeddings", "2", "--method", "sdq"}, "needs the trellis method");
  refused({"--window", "9"}, "window of 9");
  refused({"--target-size", "5MB"}, "'5MB' is not a size");
  refused({"--target-size", "-1"}, "'-1' is not a size");
  refused({"--method", "float", "--bpw", "2"}, "need a method that quantizes");
}

TEST_CASE("sdq-convert: the sizes that a refusal names can be had") {
  const TemporaryFolder folder;
  const std::string model = folder / "model.sdq";
  const ProcessResult refusal =
      RunProgram("sdq-convert", {BundledModel("stories-llama-5m"), "-o", model, "--calib", "none",
                                 "--target-size", "1", "-q"});
  CHECK(refusal.exit_code == 1);
  const size_t found = refusal.err.find("give has ");
  REQUIRE(found != std::string::npos);
  const std::string least = std::to_string(std::stoull(refusal.err.substr(found + 9)));
  Convert(model, {"--calib", "none", "--target-size", least});
  CHECK(std::to_string(fs::file_size(model)) == least);
}

TEST_CASE("sdq-convert: rates, sizes and allocations that exclude each other or are none") {
  const Arguments base = {"missing", "-o", "model.sdq"};
  const auto misuse = [&](const Arguments& more, const std::string& message) {
    Arguments arguments = base;
    arguments.insert(arguments.end(), more.begin(), more.end());
    CheckFailure("sdq-convert", arguments, 2, message);
  };
  misuse({"--osr", "2", "--bpw", "2"}, "excludes");
  misuse({"--osr", "2", "--target-size", "2MiB"}, "excludes");
  misuse({"--bpw", "2", "--target-size", "2MiB"}, "excludes");
  misuse({"--bpw", "0.1"}, "--bpw");
  misuse({"--bpw", "nan"}, "--bpw");
  misuse({"--allocate", "evenly"}, "--allocate");
  misuse({"--embeddings", "most"}, "neither q8, keep, auto nor an OSR");
  misuse({"--head", "0.5"}, "--head");
  CheckFailure("sdq-convert",
               {BundledModel("stories-llama-5m"), "-o", "model.sdq", "--calib", "none",
                "--allocate", "sensitivity"},
               1, "needs calibration text");
}

TEST_CASE("sdq-convert: a report of rates, losses and how they came about") {
  const TemporaryFolder folder;
  WriteText(folder / "calib & text.txt", CalibrationText());
  const Arguments arguments = {"--bpw",          "1.25", "--calib", folder / "calib & text.txt",
                               "--calib-tokens", "512"};
  Convert(folder / "plain.sdq", arguments);
  Arguments with_report = arguments;
  with_report.insert(with_report.end(), {"--report", folder / "report.html"});
  Convert(folder / "model.sdq", with_report);
  CHECK(ReadBytes(folder / "model.sdq") == ReadBytes(folder / "plain.sdq"));
  const std::string page = ReadText(folder / "report.html");
  CHECK(page.starts_with("<!DOCTYPE html>"));
  CHECK(page.ends_with("</html>\n"));
  CHECK(Contains(page, "<h2>All linears</h2>"));
  CHECK(Contains(page, "<td>layers.5.ffn.down</td>"));
  CHECK(Contains(page, "<th>predicted loss</th><th>measured loss</th>"));
  CHECK(Contains(page, "<dt>KL divergence of the file</dt>"));
  CHECK(Contains(page, "511 tokens of the text"));
  CHECK(Contains(page, "<dd>calib &amp; text.txt, 512 tokens</dd>"));
  CHECK(Contains(page, "<pre>sdq-convert "));
  CHECK(Contains(page, "calib &amp; text.txt&#39; --calib-tokens 512 --report "));
  CHECK(Contains(page, "% below 1.25</text>"));
  CHECK(NamesIn(folder.path()).size() == 4);
}

TEST_CASE("sdq-convert: a report without text has rates and errors") {
  const TemporaryFolder folder;
  const std::string method = GENERATE("trellis", "sdq");
  Convert(folder / "model.sdq",
          {"--osr", "1", "--method", method, "--calib", "none", "--report", folder / "report.svg"});
  const std::string figure = ReadText(folder / "report.svg");
  CHECK(figure.starts_with("<svg xmlns="));
  CHECK(Contains(figure, "layers.5.ffn.down: 256 x 704, OSR 1, "));
  CHECK(Contains(figure, "Error that the encoder left"));
  CHECK_FALSE(Contains(figure, "Loss by layer"));
}

TEST_CASE("sdq-convert: reports that cannot be written are refused before the work") {
  const TemporaryFolder folder;
  const auto refused = [&](const Arguments& more, int exit_code, const std::string& message) {
    Arguments arguments = {BundledModel("stories-llama-5m"), "-o", folder / "model.svg", "--calib",
                           folder / "missing.txt"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    CheckFailure("sdq-convert", arguments, exit_code, message);
    CHECK(NamesIn(folder.path()).empty());
  };
  refused({"--report", folder / "report.pdf"}, 2, "must end in .svg or .html");
  refused({"--report", ""}, 2, "--report");
  refused({"--report", folder / "none/report.svg"}, 1, "report: ");
  refused({"--report", folder / "none/report.svg"}, 1, "No such file");
  refused({"--report", folder / "model.svg"}, 1, "are the same file");
  refused({"--report", folder / "report.svg", "--method", "float"}, 1, "a method that quantizes");
  refused({"--report", folder / "report.svg", "--random"}, 1, "needs weights");
}

}  // namespace
}  // namespace sdq::test
