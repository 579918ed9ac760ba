#include "format/writer.h"

#include <fmt/format.h>

#include <bit>
#include <set>
#include <utility>

#include "format/atomic_file.h"
#include "format/checksum.h"
#include "format/records.h"

namespace sdq::format {
namespace {

template <typename T>
std::span<const uint8_t> AsBytes(std::span<const T> values) {
  static_assert(std::endian::native == std::endian::little, "arrays go to disk as they are");
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()};
}

}  // namespace

struct SdqWriter::Impl {
  std::unique_ptr<AtomicFile> file;
  uint32_t alignment = kDefaultAlignment;
  std::vector<SectionInfo> sections;
  std::vector<TensorRecord> tensors;
  std::vector<DecimatorSpec> decimators;
  std::vector<DecimatorRecord> decimator_records;
  std::set<std::string, std::less<>> names;
  Status failed;  // the first error of the disk: nothing can be added after it
  bool finished = false;

  Status CheckOpen() const;
  Status CheckName(const std::string& name) const;
  Status Pad();
  // Writes an aligned section and gives its index; nothing and kNoSection for no bytes.
  Result<uint32_t> WriteSection(SectionKind kind, std::span<const uint8_t> bytes);
  Result<uint32_t> DecimatorIndex(const DecimatorSpec& decimator);
  Status WriteDense(const DenseView& view);
  Status WriteStream(const StreamView& view);
  Status WriteTables(const Metadata& metadata);
  Status Remember(Status status);
};

Status SdqWriter::Impl::CheckOpen() const {
  if (finished) return Status::InvalidArgument("the file is finished: nothing can be added");
  return failed;
}

Status SdqWriter::Impl::CheckName(const std::string& name) const {
  if (names.count(name) != 0) {
    return Status::InvalidArgument(fmt::format("a tensor named '{}' was already added", name));
  }
  if (tensors.size() >= kMaxTensors) {
    return Status::OutOfRange(fmt::format("more than {} tensors", kMaxTensors));
  }
  return Status::Ok();
}

Status SdqWriter::Impl::Remember(Status status) {
  if (failed.ok()) failed = status;
  return status;
}

Status SdqWriter::Impl::Pad() {
  const uint64_t gap = AlignUp(file->size(), alignment) - file->size();
  return file->Append(std::vector<uint8_t>(size_t(gap)));
}

Result<uint32_t> SdqWriter::Impl::WriteSection(SectionKind kind, std::span<const uint8_t> bytes) {
  if (bytes.empty()) return kNoSection;
  SDQ_RETURN_IF_ERROR(Pad());
  const SectionInfo section{kind, file->size(), bytes.size(), Checksum(bytes)};
  SDQ_RETURN_IF_ERROR(file->Append(bytes));
  sections.push_back(section);
  return static_cast<uint32_t>(sections.size() - 1);
}

Result<uint32_t> SdqWriter::Impl::DecimatorIndex(const DecimatorSpec& decimator) {
  for (size_t i = 0; i < decimators.size(); ++i) {
    if (decimators[i] == decimator) return static_cast<uint32_t>(i);
  }
  SDQ_ASSIGN_OR_RETURN(const uint32_t taps,
                       WriteSection(SectionKind::kTaps, AsBytes<float>(decimator.taps)));
  decimator_records.push_back({static_cast<uint32_t>(decimator.kind), decimator.osr_num,
                               decimator.osr_den, decimator.window, decimator.lead, decimator.block,
                               taps, decimator.derived});
  decimators.push_back(decimator);
  return static_cast<uint32_t>(decimators.size() - 1);
}

Status SdqWriter::Impl::WriteDense(const DenseView& view) {
  TensorRecord record;
  record.name = view.name;
  record.kind = static_cast<uint16_t>(TensorKind::kDense);
  record.dense_type = static_cast<uint16_t>(view.type);
  record.rows = view.rows;
  record.columns = view.columns;
  record.scale_base = view.scale_base;
  SDQ_ASSIGN_OR_RETURN(record.data_section, WriteSection(SectionKind::kDense, view.data));
  SDQ_ASSIGN_OR_RETURN(record.scales_section,
                       WriteSection(SectionKind::kScales, AsBytes(view.scales_f16)));
  SDQ_ASSIGN_OR_RETURN(record.bias_section, WriteSection(SectionKind::kBias, AsBytes(view.bias)));
  tensors.push_back(std::move(record));
  names.insert(view.name);
  return Status::Ok();
}

Status SdqWriter::Impl::WriteStream(const StreamView& view) {
  TensorRecord record;
  record.name = view.name;
  record.kind = static_cast<uint16_t>(TensorKind::kStream);
  record.rows = view.rows;
  record.columns = view.columns;
  record.scale_base = view.scale_base;
  record.mean_base = view.means_f16.empty() ? 1.0f : view.mean_base;
  record.alphabet = static_cast<uint8_t>(view.alphabet);
  record.granularity = static_cast<uint8_t>(view.granularity);
  record.rotation = static_cast<uint8_t>(view.rotation.kind);
  record.rotation_block = view.rotation.block;
  record.sign_seed = view.rotation.sign_seed;
  record.row_samples = RowSamples(view.decimator, view.columns);
  SDQ_ASSIGN_OR_RETURN(record.decimator, DecimatorIndex(view.decimator));
  SDQ_ASSIGN_OR_RETURN(record.data_section, WriteSection(SectionKind::kBitstream, view.bits));
  SDQ_ASSIGN_OR_RETURN(record.scales_section,
                       WriteSection(SectionKind::kScales, AsBytes(view.scales_f16)));
  SDQ_ASSIGN_OR_RETURN(record.means_section,
                       WriteSection(SectionKind::kMeans, AsBytes(view.means_f16)));
  SDQ_ASSIGN_OR_RETURN(record.bias_section, WriteSection(SectionKind::kBias, AsBytes(view.bias)));
  tensors.push_back(std::move(record));
  names.insert(view.name);
  return Status::Ok();
}

Status SdqWriter::Impl::WriteTables(const Metadata& metadata) {
  ByteSink decimator_table;
  for (const DecimatorRecord& record : decimator_records) AppendDecimator(record, &decimator_table);
  ByteSink tensor_table;
  for (const TensorRecord& record : tensors) AppendTensor(record, &tensor_table);
  for (const auto& [kind, bytes] :
       {std::pair{SectionKind::kMetadata, metadata.Encode()},
        std::pair{SectionKind::kDecimatorTable, decimator_table.bytes()},
        std::pair{SectionKind::kTensorTable, tensor_table.bytes()}}) {
    SDQ_ASSIGN_OR_RETURN([[maybe_unused]] const uint32_t index, WriteSection(kind, bytes));
  }
  SDQ_RETURN_IF_ERROR(Pad());
  ByteSink section_table;
  for (const SectionInfo& section : sections) AppendSection(section, &section_table);
  FileHeader header;
  header.alignment = alignment;
  header.section_table_offset = file->size();
  header.section_count = static_cast<uint32_t>(sections.size());
  header.section_table_checksum = Checksum(section_table.bytes());
  SDQ_RETURN_IF_ERROR(file->Append(section_table.bytes()));
  header.file_bytes = file->size();
  SDQ_RETURN_IF_ERROR(file->Overwrite(0, EncodeHeader(header)));
  return file->Commit();
}

SdqWriter::SdqWriter() : impl_(std::make_unique<Impl>()) {}
SdqWriter::~SdqWriter() = default;

Result<std::unique_ptr<SdqWriter>> SdqWriter::Create(const std::string& path, uint32_t alignment) {
  if (!std::has_single_bit(alignment) || alignment < kMinAlignment || alignment > kMaxAlignment) {
    return Status::InvalidArgument(fmt::format("alignment {} is not a power of two from {} to {}",
                                               alignment, kMinAlignment, kMaxAlignment));
  }
  std::unique_ptr<SdqWriter> writer(new SdqWriter());
  writer->impl_->alignment = alignment;
  SDQ_ASSIGN_OR_RETURN(writer->impl_->file, AtomicFile::Create(path));
  // Until Finish() the header is zero: a left-over temporary file is not an .sdq file.
  SDQ_RETURN_IF_ERROR(writer->impl_->file->Append(std::vector<uint8_t>(kHeaderBytes)));
  return writer;
}

Status SdqWriter::Add(const DenseView& tensor) {
  SDQ_RETURN_IF_ERROR(impl_->CheckOpen());
  SDQ_RETURN_IF_ERROR(ValidateView(tensor).Annotate(fmt::format("tensor '{}'", tensor.name)));
  SDQ_RETURN_IF_ERROR(impl_->CheckName(tensor.name));
  return impl_->Remember(impl_->WriteDense(tensor));
}

Status SdqWriter::Add(const StreamView& tensor) {
  SDQ_RETURN_IF_ERROR(impl_->CheckOpen());
  const std::string title = fmt::format("tensor '{}'", tensor.name);
  SDQ_RETURN_IF_ERROR(ValidateView(tensor).Annotate(title));
  SDQ_RETURN_IF_ERROR(ValidateTrits(tensor).Annotate(title));
  SDQ_RETURN_IF_ERROR(impl_->CheckName(tensor.name));
  return impl_->Remember(impl_->WriteStream(tensor));
}

Status SdqWriter::Finish(const Metadata& metadata) {
  SDQ_RETURN_IF_ERROR(impl_->CheckOpen());
  SDQ_RETURN_IF_ERROR(metadata.Validate());
  SDQ_RETURN_IF_ERROR(impl_->Remember(impl_->WriteTables(metadata)));
  impl_->finished = true;
  return Status::Ok();
}

uint64_t SdqWriter::bytes_written() const { return impl_->file->size(); }

}  // namespace sdq::format
