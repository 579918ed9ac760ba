#include "converter/stored_tables.h"

#include <utility>

#include "converter/finished_work.h"
#include "converter/reconstruct.h"
#include "converter/stored_shape.h"
#include "converter/table_encoder.h"
#include "fmt/format.h"
#include "runtime/config.h"

namespace sdq::converter {
namespace {

class OverlayCheckpoint final : public Checkpoint {
 public:
  OverlayCheckpoint(const Checkpoint& base, const std::map<std::string, EncodedLinear>& tables)
      : base_(base), tables_(tables) {}

  const ModelConfig& config() const override { return base_.config(); }
  Result<TokenizerSpec> LoadTokenizer() const override { return base_.LoadTokenizer(); }
  bool Has(const std::string& name) const override { return base_.Has(name); }
  std::string StoredType(const std::string& name) const override { return base_.StoredType(name); }
  void StoreExtras(format::Metadata* metadata) const override { base_.StoreExtras(metadata); }
  Status Read(const std::string& name, std::vector<float>* out) const override {
    const auto found = tables_.find(name);
    if (found == tables_.end()) return base_.Read(name, out);
    *out = found->second.reconstructed;
    return Status::Ok();
  }

 private:
  const Checkpoint& base_;
  const std::map<std::string, EncodedLinear>& tables_;
};

Result<EncodedLinear> EncodeOne(const Checkpoint& checkpoint, const ConvertOptions& options,
                                const TensorShape& shape, Rate rate,
                                const std::function<bool(double)>& progress) {
  std::vector<float> values;
  SDQ_RETURN_IF_ERROR(checkpoint.Read(shape.name, &values));
  EncodeInput input;
  input.weights = values.data();
  input.rows = size_t(shape.rows);
  input.columns = size_t(shape.columns);
  input.damping = options.damping;
  input.seed = options.seed;
  const auto hessian = options.table_hessians.find(shape.name);
  if (hessian != options.table_hessians.end()) input.hessian = &hessian->second;
  Result<EncodedLinear> encoded = EncodeTable(input, TrellisOptionsOf(options, rate), progress);
  if (!encoded.ok()) return std::move(encoded).status().Annotate(shape.name);
  return encoded;
}

std::string JournalKey(const std::string& name) { return "table " + name; }

bool Fits(const FinishedLinear& finished, const TensorShape& shape, Rate rate) {
  const EncodedLinear& encoded = finished.encoded;
  return finished.name == shape.name && int64_t(encoded.rows) == shape.rows &&
         int64_t(encoded.columns) == shape.columns && encoded.decimator.osr() == rate.osr();
}

// What an interrupted conversion has finished.
Result<EncodedLinear> Restore(const Journal& journal, const TensorShape& shape, Rate rate) {
  SDQ_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, journal.Read(JournalKey(shape.name)));
  Result<std::vector<FinishedLinear>> finished = DecodeFinished(bytes);
  if (!finished.ok()) return std::move(finished).status().Annotate(journal.path());
  if (finished->size() != 1 || !Fits(finished->front(), shape, rate)) {
    return Status::Corrupt(fmt::format("{}: its {} is not one of this conversion; delete it",
                                       journal.path(), shape.name));
  }
  EncodedLinear table = std::move(finished->front().encoded);
  table.reconstructed = Reconstruct(table);
  return table;
}

// Encodes a table and keeps it, or takes it from where it was kept.
Result<EncodedLinear> FinishOne(const Checkpoint& checkpoint, const ConvertOptions& options,
                                const TensorShape& shape, Rate rate,
                                const std::function<bool(double)>& progress) {
  Journal* journal = options.journal;
  if (journal != nullptr && journal->Has(JournalKey(shape.name))) {
    return Restore(*journal, shape, rate);
  }
  SDQ_ASSIGN_OR_RETURN(EncodedLinear table, EncodeOne(checkpoint, options, shape, rate, progress));
  if (journal != nullptr) {
    const std::vector<float> no_bias;
    const FinishedLinearView view = {&shape.name, &table, &no_bias};
    SDQ_RETURN_IF_ERROR(journal->Append(JournalKey(shape.name), EncodeFinished({&view, 1})));
  }
  return table;
}

}  // namespace

Status StoredTables::Encode(const Checkpoint& checkpoint, const ConvertOptions& options,
                            const std::function<bool(const std::string&, double)>& progress) {
  for (const TensorShape& shape : ExpectedTensors(checkpoint.config())) {
    const TableStorage* storage = TableStorageOf(options, shape.name);
    if (storage == nullptr || storage->type != TableType::kStream) continue;
    if (options.method != Method::kTrellis) {
      return Status::InvalidArgument(shape.name + " as a bitstream needs the trellis method");
    }
    const auto share = [&](double done) { return !progress || progress(shape.name, done); };
    SDQ_ASSIGN_OR_RETURN(EncodedLinear table,
                         FinishOne(checkpoint, options, shape, storage->rate, share));
    reports_.push_back({shape.name, table.rows, table.columns, table.decimator.osr(),
                        table.BitsPerWeight(), table.relative_error});
    // Layers see the embeddings, and only tuning sees the head.
    if (shape.name == "head" && options.tuning_epochs == 0) table.reconstructed = {};
    encoded_.emplace(shape.name, std::move(table));
  }
  return Status::Ok();
}

Status StoredTables::Write(const std::string& name, format::SdqWriter& writer) const {
  return writer.Add(encoded_.at(name).View(name));
}

std::unique_ptr<Checkpoint> StoredTables::Overlay(const Checkpoint& checkpoint) const {
  return std::make_unique<OverlayCheckpoint>(checkpoint, encoded_);
}

}  // namespace sdq::converter
