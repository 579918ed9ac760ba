// sdq-info: every byte of a file accounted for, and damage found.
#include <cmath>

#include "tests/cli/programs.h"

namespace sdq::test {
namespace {

using Json = nlohmann::json;

uint64_t Unsigned(const std::vector<uint8_t>& bytes, size_t at, size_t width) {
  uint64_t value = 0;
  for (size_t i = width; i-- > 0;) value = value * 256 + bytes.at(at + i);
  return value;
}

struct Sections {
  uint64_t bytes = 0;        // of all sections
  uint64_t table_bytes = 0;  // of the list of them, at the end of the file
};

// From FORMAT.md: the table's offset and count in the header, 32 bytes per section.
Sections ReadSections(const std::vector<uint8_t>& file) {
  Sections sections;
  const size_t table = Unsigned(file, 40, 8);
  const size_t count = Unsigned(file, 48, 4);
  sections.table_bytes = 32 * count;
  for (size_t i = 0; i < count; ++i) sections.bytes += Unsigned(file, table + 32 * i + 16, 8);
  return sections;
}

std::string Quantized(const TemporaryFolder& folder, const std::string& checkpoint) {
  const std::string path = folder / "model.sdq";
  MustRun("sdq-convert",
          {BundledModel(checkpoint), "-o", path, "--osr", "1.5", "--calib", "none", "-q"});
  return path;
}

TEST_CASE("sdq-info: the bytes add up to the file, the bits to the linears") {
  const std::string checkpoint = GENERATE("stories-llama-5m", "stories-opt-6m");
  const bool quantized = GENERATE(true, false);
  const TemporaryFolder folder;
  const std::string model =
      quantized ? Quantized(folder, checkpoint) : FloatModel(folder, checkpoint);
  const std::vector<uint8_t> file = ReadBytes(model);
  const Json json = MustRunJson("sdq-info", {model, "--json"});
  CHECK(json["file"] == model);
  CHECK(json["file_bytes"] == file.size());
  uint64_t sum = 0;
  for (const auto& [part, bytes] : json["bytes"].items()) sum += bytes.get<uint64_t>();
  CHECK(sum == file.size());

  // What is called padding is what no section holds.
  const Sections sections = ReadSections(file);
  CHECK(json["bytes"]["padding"] == file.size() - 128 - sections.bytes - sections.table_bytes);
  CHECK(json["bytes"]["header"] == 128);

  uint64_t stream_bytes = 0, stream_weights = 0, dense_bytes = 0, bias_bytes = 0;
  for (const Json& tensor : json["tensors"]) {
    const Json& bytes = tensor["bytes"];
    const uint64_t data = bytes["data"].get<uint64_t>() + bytes["scales"].get<uint64_t>() +
                          bytes["means"].get<uint64_t>();
    const uint64_t weights = tensor["rows"].get<uint64_t>() * tensor["columns"].get<uint64_t>();
    bias_bytes += bytes["bias"].get<uint64_t>();
    if (tensor["name"] == "embed.tokens") {
      const Json& tables = json["embeddings_and_head"];
      CHECK(tables["bytes"] == data);
      CHECK(tables["weights"] == weights);
      CHECK(tables["bits_per_weight"].get<double>() ==
            Approx(8.0 * double(data) / double(weights)));
    }
    if (tensor["kind"] != "stream") {
      dense_bytes += data;
      continue;
    }
    CHECK(tensor["bits_per_weight"].get<double>() == Approx(8.0 * double(data) / double(weights)));
    CHECK(tensor["osr"] == 1.5);
    stream_bytes += data;
    stream_weights += weights;
  }
  CHECK(json["bytes"]["bitstreams"].get<uint64_t>() + json["bytes"]["scales"].get<uint64_t>() ==
        stream_bytes);
  CHECK(json["bytes"]["dense"] == dense_bytes);
  CHECK(json["bytes"]["biases"] == bias_bytes);
  CHECK(json["quantized_weights"] == stream_weights);
  CHECK((stream_weights > 0) == quantized);
  if (quantized) {
    CHECK(json["bits_per_weight"].get<double>() ==
          Approx(8.0 * double(stream_bytes) / double(stream_weights)));
  }
}

TEST_CASE("sdq-info: text for people names tensors, bytes and bits") {
  const TemporaryFolder folder;
  const std::string model = Quantized(folder, "stories-llama-5m");
  const std::string text = MustRun("sdq-info", {model});
  for (const char* part : {"layers.0.attn.q", "embed.tokens", "binary, polyphase", "whole file",
                           "bits per weight over", "quantization.method"}) {
    INFO(part);
    CHECK(Contains(text, part));
  }
  CHECK_FALSE(Contains(text, "verified"));
  CHECK(Contains(MustRun("sdq-info", {model, "--verify"}), "verified"));
  CHECK(MustRunJson("sdq-info", {model, "--verify", "--json"})["verified"] == true);
}

TEST_CASE("sdq-info: --verify finds any flipped bit") {
  const TemporaryFolder folder;
  const std::string model = Quantized(folder, "stories-opt-6m");
  const std::vector<uint8_t> good = ReadBytes(model);
  const std::string damaged = folder / "damaged.sdq";
  const size_t steps = 40;
  for (size_t i = 0; i <= steps; ++i) {
    const size_t at = (good.size() - 1) * i / steps;
    std::vector<uint8_t> bytes = good;
    bytes[at] ^= uint8_t(1u << (i % 8));
    WriteBytes(damaged, bytes);
    INFO("byte " << at);
    CheckFailure("sdq-info", {damaged, "--verify", "--json"}, 1, "damaged.sdq");
  }
}

}  // namespace
}  // namespace sdq::test
