#include "apps/support/model_bytes.h"

#include <variant>

namespace sdq::apps {
namespace {

const std::string& NameOf(const format::TensorView& tensor) {
  return std::visit([](const auto& view) -> const std::string& { return view.name; }, tensor);
}

bool IsTable(const std::string& name) { return name == "embed.tokens" || name == "head"; }

}  // namespace

uint64_t WeightBytesPerToken(const Model& model) {
  const format::SdqFile& file = model.file();
  uint64_t bytes = 0;
  for (size_t i = 0; i < file.tensors().size(); ++i) {
    const std::string& name = NameOf(file.tensors()[i]);
    const bool table =
        name == "embed.positions" || (name == "embed.tokens" && !model.config().tied_embeddings);
    if (!table) bytes += file.BytesOf(i).total();
  }
  return bytes;
}

double FileLedger::Share::BitsPerWeight() const {
  return weights == 0 ? 0.0 : 8.0 * double(bytes) / double(weights);
}

FileLedger MakeLedger(const format::SdqFile& file) {
  FileLedger ledger;
  ledger.header = format::kHeaderBytes;
  for (const format::SectionInfo& section : file.sections()) {
    if (section.kind == format::SectionKind::kMetadata) {
      ledger.metadata += section.bytes;
    } else if (section.kind == format::SectionKind::kTensorTable ||
               section.kind == format::SectionKind::kDecimatorTable ||
               section.kind == format::SectionKind::kTaps) {
      ledger.tables += section.bytes;
    }
  }
  ledger.tables += file.sections().size() * format::kSectionEntryBytes;
  for (size_t i = 0; i < file.tensors().size(); ++i) {
    const format::TensorBytes bytes = file.BytesOf(i);
    ledger.biases += bytes.bias;
    const bool table = IsTable(NameOf(file.tensors()[i]));
    const bool stream = std::holds_alternative<format::StreamView>(file.tensors()[i]);
    if (table || stream) {
      FileLedger::Share& share = table ? ledger.rows : ledger.linears;
      share.bytes += bytes.data + bytes.scales + bytes.means;
      share.weights += std::visit(
          [](const auto& view) { return uint64_t(view.rows) * view.columns; }, file.tensors()[i]);
    }
    if (stream) {
      ledger.bitstreams += bytes.data;
      ledger.scales += bytes.scales + bytes.means;
    } else {
      ledger.dense += bytes.data + bytes.scales;
    }
  }
  ledger.padding = file.file_bytes() - ledger.header - ledger.metadata - ledger.tables -
                   ledger.bitstreams - ledger.scales - ledger.dense - ledger.biases;
  return ledger;
}

}  // namespace sdq::apps
