#include "converter/file_plan.h"

#include "converter/conversion_metadata.h"
#include "converter/stored_shape.h"

namespace sdq::converter {

Result<FilePlan> FilePlan::Create(const Checkpoint& checkpoint, const ConvertOptions& options) {
  FilePlan plan(checkpoint, options);
  ConvertReport report;
  for (const TensorShape& shape : ExpectedTensors(checkpoint.config())) {
    if (shape.is_linear) report.linears.push_back({.name = shape.name});
  }
  SDQ_ASSIGN_OR_RETURN(const format::Metadata metadata, MakeMetadata(checkpoint, options, report));
  plan.metadata_bytes_ = metadata.Encode().size();
  return plan;
}

Result<FilePlan::Bytes> FilePlan::BytesOf(const std::vector<NamedRate>& rates) const {
  std::map<std::string, Rate> by_name;
  for (const NamedRate& named : rates) by_name[named.name] = named.rate;
  format::FileSizeCounter counter;
  uint64_t table_streams = 0;
  for (const TensorShape& shape : ExpectedTensors(checkpoint_->config())) {
    if (shape.optional && !checkpoint_->Has(shape.name)) continue;
    const auto rows = uint32_t(shape.rows);
    const auto columns = uint32_t(shape.columns);
    const bool has_bias = shape.is_linear && checkpoint_->Has(shape.name + ".bias");
    const std::optional<Rate> rate = RateOf(shape, by_name);
    if (!rate && shape.is_linear) return Status::InvalidArgument("no rate for " + shape.name);
    if (!rate || *rate == kEightBitRows) {
      counter.AddDense(
          rate ? format::DenseType::kQ8 : StoredDenseType(*checkpoint_, options_, shape), rows,
          columns, has_bias);
      continue;
    }
    SDQ_ASSIGN_OR_RETURN(const StreamShape stream, DescribeStream(options_, columns, *rate));
    const uint64_t before = counter.stream_bytes();
    counter.AddStream(stream.decimator, options_.alphabet, rows, columns, stream.granularity,
                      stream.has_means, has_bias);
    if (!shape.is_linear) table_streams += counter.stream_bytes() - before;
  }
  return Bytes{counter.FileBytes(metadata_bytes_), counter.stream_bytes() - table_streams};
}

std::optional<Rate> FilePlan::RateOf(const TensorShape& shape,
                                     const std::map<std::string, Rate>& rates) const {
  const auto found = rates.find(shape.name);
  if (found != rates.end()) return found->second;
  const TableStorage* table = TableStorageOf(options_, shape.name);
  if (table != nullptr && table->type == TableType::kStream) return table->rate;
  return std::nullopt;
}

uint64_t FilePlan::HalfPrecisionBytes(const Checkpoint& checkpoint) {
  uint64_t parameters = 0;
  for (const TensorShape& shape : ExpectedTensors(checkpoint.config())) {
    if (shape.optional && !checkpoint.Has(shape.name)) continue;
    parameters += uint64_t(shape.rows) * uint64_t(shape.columns);
    if (shape.is_linear && checkpoint.Has(shape.name + ".bias")) parameters += uint64_t(shape.rows);
  }
  return 2 * parameters;
}

}  // namespace sdq::converter
