// sdq-info: what is in a file, byte by byte, and whether it is whole.
#include <nlohmann/json.hpp>
#include <string>
#include <variant>

#include "apps/support/app.h"
#include "apps/support/model_bytes.h"
#include "fmt/format.h"
#include "format/mapped_file.h"
#include "format/reader.h"

namespace sdq::apps {
namespace {

using format::DenseView;
using format::StreamView;

struct Options {
  std::string model;
  bool verify = false;
  bool json = false;
};

const char* TypeName(format::DenseType type) {
  switch (type) {
    case format::DenseType::kF32:
      return "f32";
    case format::DenseType::kF16:
      return "f16";
    case format::DenseType::kBF16:
      return "bf16";
    case format::DenseType::kQ8:
      return "q8";
  }
  return "?";
}

const char* AlphabetName(format::Alphabet alphabet) {
  switch (alphabet) {
    case format::Alphabet::kBinary:
      return "binary";
    case format::Alphabet::kTernaryPlanes:
      return "ternary, 2 planes";
    case format::Alphabet::kTernaryPacked:
      return "ternary, 5 per byte";
  }
  return "?";
}

const char* DecimatorName(format::DecimatorKind kind) {
  switch (kind) {
    case format::DecimatorKind::kIdentity:
      return "identity";
    case format::DecimatorKind::kPolyphase:
      return "polyphase";
    case format::DecimatorKind::kIdealLowPass:
      return "ideal low-pass";
  }
  return "?";
}

double BitsPerWeight(const StreamView& view, const format::TensorBytes& bytes) {
  return 8.0 * double(bytes.data + bytes.scales + bytes.means) /
         (double(view.rows) * double(view.columns));
}

nlohmann::ordered_json TensorJson(const format::SdqFile& file, size_t index) {
  const format::TensorBytes bytes = file.BytesOf(index);
  nlohmann::ordered_json json;
  if (const auto* stream = std::get_if<StreamView>(&file.tensors()[index])) {
    json["name"] = stream->name;
    json["kind"] = "stream";
    json["rows"] = stream->rows;
    json["columns"] = stream->columns;
    json["alphabet"] = AlphabetName(stream->alphabet);
    json["decimator"] = DecimatorName(stream->decimator.kind);
    json["osr"] = stream->decimator.osr();
    json["osr_num"] = stream->decimator.osr_num;
    json["osr_den"] = stream->decimator.osr_den;
    json["window"] = stream->decimator.window;
    json["rotation_block"] = stream->rotation.block;
    json["samples_per_row"] = format::RowSamples(stream->decimator, stream->columns);
    json["bits_per_weight"] = BitsPerWeight(*stream, bytes);
  } else {
    const auto& dense = std::get<DenseView>(file.tensors()[index]);
    json["name"] = dense.name;
    json["kind"] = "dense";
    json["type"] = TypeName(dense.type);
    json["rows"] = dense.rows;
    json["columns"] = dense.columns;
  }
  json["bytes"] = {
      {"data", bytes.data}, {"scales", bytes.scales}, {"means", bytes.means}, {"bias", bytes.bias}};
  return json;
}

nlohmann::ordered_json LedgerJson(const FileLedger& ledger) {
  return {{"header", ledger.header}, {"metadata", ledger.metadata},
          {"tables", ledger.tables}, {"bitstreams", ledger.bitstreams},
          {"scales", ledger.scales}, {"dense", ledger.dense},
          {"biases", ledger.biases}, {"padding", ledger.padding}};
}

// Scalars and strings as they are; long arrays by their length only.
nlohmann::ordered_json MetadataJson(const format::Metadata& metadata) {
  nlohmann::ordered_json json;
  for (const auto& [key, value] : metadata.values()) {
    std::visit(
        [&, &name = key](const auto& v) {
          using T = std::decay_t<decltype(v)>;
          if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
            json[name] = v;
          } else if (v.size() <= 16) {
            json[name] = v;
          } else {
            json[name] = {{"array_length", v.size()}};
          }
        },
        value);
  }
  return json;
}

std::string ToJson(const format::SdqFile& file, bool verified) {
  const FileLedger ledger = MakeLedger(file);
  nlohmann::ordered_json json;
  json["file"] = file.name();
  json["version"] = fmt::format("{}.{}", file.version_major(), file.version_minor());
  json["file_bytes"] = file.file_bytes();
  json["bytes"] = LedgerJson(ledger);
  json["quantized_weights"] = ledger.linears.weights;
  json["bits_per_weight"] = ledger.linears.BitsPerWeight();
  json["embeddings_and_head"] = {{"weights", ledger.rows.weights},
                                 {"bytes", ledger.rows.bytes},
                                 {"bits_per_weight", ledger.rows.BitsPerWeight()}};
  json["metadata"] = MetadataJson(file.metadata());
  for (size_t i = 0; i < file.tensors().size(); ++i) {
    json["tensors"].push_back(TensorJson(file, i));
  }
  if (verified) json["verified"] = true;
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string MetadataText(const format::Metadata& metadata) {
  constexpr size_t kMaxValueWidth = 90;
  std::string text;
  const nlohmann::ordered_json json = MetadataJson(metadata);
  for (const auto& [key, value] : json.items()) {
    std::string line = value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    if (line.size() > kMaxValueWidth) line = line.substr(0, kMaxValueWidth) + "...";
    text += fmt::format("  {:<36} {}\n", key, line);
  }
  return text;
}

std::string TensorsText(const format::SdqFile& file) {
  std::string text = fmt::format("  {:<28} {:>16}  {:<34} {:>6} {:>8} {:>12}\n", "tensor", "shape",
                                 "stored as", "OSR", "bits/w", "bytes");
  for (size_t i = 0; i < file.tensors().size(); ++i) {
    const format::TensorBytes bytes = file.BytesOf(i);
    if (const auto* stream = std::get_if<StreamView>(&file.tensors()[i])) {
      std::string kind = fmt::format("{}, {}", AlphabetName(stream->alphabet),
                                     DecimatorName(stream->decimator.kind));
      if (stream->decimator.window > 0) kind += fmt::format(" L={}", stream->decimator.window);
      text += fmt::format("  {:<28} {:>16}  {:<34} {:>6.3f} {:>8.3f} {:>12}\n", stream->name,
                          fmt::format("{} x {}", stream->rows, stream->columns), kind,
                          stream->decimator.osr(), BitsPerWeight(*stream, bytes), bytes.total());
    } else {
      const auto& dense = std::get<DenseView>(file.tensors()[i]);
      text += fmt::format("  {:<28} {:>16}  {:<34} {:>6} {:>8} {:>12}\n", dense.name,
                          fmt::format("{} x {}", dense.rows, dense.columns), TypeName(dense.type),
                          "", "", bytes.total());
    }
  }
  return text;
}

std::string LedgerText(const format::SdqFile& file) {
  const FileLedger ledger = MakeLedger(file);
  std::string text;
  const auto line = [&](const char* what, uint64_t bytes) {
    text += fmt::format("  {:<28} {:>14}  {:5.1f}%\n", what, bytes,
                        100.0 * double(bytes) / double(file.file_bytes()));
  };
  line("bitstreams", ledger.bitstreams);
  line("scales and means", ledger.scales);
  line("dense tensors", ledger.dense);
  line("biases", ledger.biases);
  line("metadata (tokenizer, config)", ledger.metadata);
  line("tables and taps", ledger.tables);
  line("header", ledger.header);
  line("alignment padding", ledger.padding);
  line("whole file", file.file_bytes());
  text += "\n";
  const auto share = [&](const FileLedger::Share& of, const char* where) {
    if (of.weights == 0) return;
    text += fmt::format("{:.4f} bits per weight over {} weights in {} (samples, scales, means)\n",
                        of.BitsPerWeight(), of.weights, where);
  };
  share(ledger.linears, "quantized linears");
  share(ledger.rows, "embeddings and head");
  return text;
}

std::string ToText(const format::SdqFile& file, bool verified) {
  std::string text = fmt::format("{}: .sdq {}.{}, {}\n\n", file.name(), file.version_major(),
                                 file.version_minor(), HumanBytes(file.file_bytes()));
  text += "metadata\n" + MetadataText(file.metadata());
  text += "\ntensors\n" + TensorsText(file);
  text += "\nbytes\n" + LedgerText(file);
  if (verified) text += "\nverified: every checksum and every byte is right\n";
  return text;
}

int Main(int argc, char** argv) {
  CLI::App app("Prints what an .sdq file holds: metadata, tensors, bytes, bits per weight.",
               "sdq-info");
  Options options;
  app.add_option("model,-m,--model", options.model, "model file (.sdq)")->required();
  app.add_flag("--verify", options.verify, "read everything and check all checksums");
  app.add_flag("--json", options.json, "print one JSON object");
  int exit_code = kExitOk;
  if (!Parse(app, argc, argv, &exit_code)) return exit_code;
  InstallSignalHandlers();

  const auto mapped = format::MappedFile::Open(options.model);
  if (!mapped.ok()) return Fail(app, mapped.status());
  const auto file = format::SdqFile::Parse(mapped->bytes(), options.model);
  if (!file.ok()) return Fail(app, file.status());
  if (options.verify) {
    if (const Status status = file->VerifyAll(); !status.ok()) return Fail(app, status);
  }
  const std::string text =
      options.json ? ToJson(*file, options.verify) : ToText(*file, options.verify);
  const Status written = WriteOut(text);
  return written.ok() ? kExitOk : Fail(app, written);
}

}  // namespace
}  // namespace sdq::apps

int main(int argc, char** argv) {
  return sdq::apps::RunProgram("sdq-info", sdq::apps::Main, argc, argv);
}
