#include "apps/support/model_bytes.h"

#include <variant>

namespace sdq::apps {
namespace {

const std::string& NameOf(const format::TensorView& tensor) {
  return std::visit([](const auto& view) -> const std::string& { return view.name; }, tensor);
}

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

double FileLedger::BitsPerWeight() const {
  if (quantized_weights == 0) return 0;
  return 8.0 * double(bitstreams + scales) / double(quantized_weights);
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
    if (const auto* stream = std::get_if<format::StreamView>(&file.tensors()[i])) {
      ledger.bitstreams += bytes.data;
      ledger.scales += bytes.scales + bytes.means;
      ledger.quantized_weights += uint64_t(stream->rows) * stream->columns;
    } else {
      ledger.dense += bytes.data + bytes.scales;
    }
  }
  ledger.padding = file.file_bytes() - ledger.header - ledger.metadata - ledger.tables -
                   ledger.bitstreams - ledger.scales - ledger.dense - ledger.biases;
  return ledger;
}

}  // namespace sdq::apps
