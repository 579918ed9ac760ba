#include "format/tensor_table.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <utility>

#include "format/section_table.h"

namespace sdq::format {
namespace {

static_assert(std::endian::native == std::endian::little,
              "views point into the file's little-endian bytes");

using TensorView = std::variant<DenseView, StreamView>;

// What a writer calls an invalid argument is corruption when it stands in a file.
Status AsCorrupt(Status status) {
  if (status.code() != StatusCode::kInvalidArgument) return status;
  return Status::Corrupt(status.message());
}

// A section as an array. The file's base and alignment make the cast aligned.
template <typename T>
Result<std::span<const T>> ClaimArray(SectionClaims* claims, uint32_t index, SectionKind kind) {
  if (index == kNoSection) return std::span<const T>();
  SDQ_ASSIGN_OR_RETURN(const std::span<const uint8_t> bytes, claims->Claim(index, kind));
  if (bytes.size() % sizeof(T) != 0) {
    return Status::Corrupt(fmt::format("section {} ({}) has {} bytes, not a multiple of {}", index,
                                       SectionKindName(kind), bytes.size(), sizeof(T)));
  }
  return std::span<const T>(reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T));
}

Result<DecimatorSpec> ReadDecimator(const uint8_t* at, SectionClaims* claims) {
  SDQ_ASSIGN_OR_RETURN(const DecimatorRecord record, DecodeDecimator(at));
  if (record.kind < uint32_t(DecimatorKind::kIdentity) ||
      record.kind > uint32_t(DecimatorKind::kIdealLowPass)) {
    return Status::Unsupported(fmt::format("unknown kind {}", record.kind));
  }
  DecimatorSpec spec;
  spec.kind = static_cast<DecimatorKind>(record.kind);
  spec.osr_num = record.osr_num;
  spec.osr_den = record.osr_den;
  spec.window = record.window;
  spec.lead = record.lead;
  spec.block = record.block;
  spec.derived = record.derived;
  SDQ_ASSIGN_OR_RETURN(const std::span<const float> taps,
                       ClaimArray<float>(claims, record.taps_section, SectionKind::kTaps));
  constexpr size_t kMostTaps = size_t{kMaxPhases} * 2 * kMaxWindow;
  if (taps.size() > kMostTaps) {
    return Status::Corrupt(fmt::format("{} taps, at most {} are allowed", taps.size(), kMostTaps));
  }
  spec.taps.assign(taps.begin(), taps.end());
  return spec;
}

// Fields that mean nothing for a tensor must hold their neutral values: one tensor, one encoding.
Status CheckUnused(bool neutral, const char* what) {
  if (neutral) return Status::Ok();
  return Status::Corrupt(fmt::format("{} given where the tensor has none", what));
}

Result<DenseView> ReadDense(const TensorRecord& record, SectionClaims* claims) {
  SDQ_RETURN_IF_ERROR(CheckUnused(
      record.means_section == kNoSection && record.mean_base == 1.0f && record.alphabet == 0 &&
          record.granularity == 0 && record.rotation == 0 && record.rotation_block == 0 &&
          record.decimator == kNoSection && record.sign_seed == 0 && record.row_samples == 0,
      "a stream's field is"));
  DenseView view;
  view.name = record.name;
  view.type = static_cast<DenseType>(record.dense_type);
  view.rows = record.rows;
  view.columns = record.columns;
  view.scale_base = record.scale_base;
  SDQ_ASSIGN_OR_RETURN(view.data, claims->Claim(record.data_section, SectionKind::kDense));
  SDQ_ASSIGN_OR_RETURN(view.scales_f16,
                       ClaimArray<uint16_t>(claims, record.scales_section, SectionKind::kScales));
  SDQ_ASSIGN_OR_RETURN(view.bias,
                       ClaimArray<float>(claims, record.bias_section, SectionKind::kBias));
  SDQ_RETURN_IF_ERROR(AsCorrupt(ValidateView(view)));
  return view;
}

Result<StreamView> ReadStream(const TensorRecord& record,
                              const std::vector<DecimatorSpec>& decimators, SectionClaims* claims) {
  SDQ_RETURN_IF_ERROR(CheckUnused(record.dense_type == 0, "a dense type is"));
  SDQ_RETURN_IF_ERROR(CheckUnused(record.means_section != kNoSection || record.mean_base == 1.0f,
                                  "a base of means is"));
  if (record.decimator >= decimators.size()) {
    return Status::Corrupt(fmt::format("decimator {} of {}", record.decimator, decimators.size()));
  }
  StreamView view;
  view.name = record.name;
  view.rows = record.rows;
  view.columns = record.columns;
  view.rotation = {static_cast<RotationKind>(record.rotation), record.rotation_block,
                   record.sign_seed};
  view.decimator = decimators[record.decimator];
  view.alphabet = static_cast<Alphabet>(record.alphabet);
  view.granularity = static_cast<ScaleGranularity>(record.granularity);
  view.scale_base = record.scale_base;
  view.mean_base = record.mean_base;
  SDQ_ASSIGN_OR_RETURN(view.bits, claims->Claim(record.data_section, SectionKind::kBitstream));
  SDQ_ASSIGN_OR_RETURN(view.scales_f16,
                       ClaimArray<uint16_t>(claims, record.scales_section, SectionKind::kScales));
  SDQ_ASSIGN_OR_RETURN(view.means_f16,
                       ClaimArray<uint16_t>(claims, record.means_section, SectionKind::kMeans));
  SDQ_ASSIGN_OR_RETURN(view.bias,
                       ClaimArray<float>(claims, record.bias_section, SectionKind::kBias));
  SDQ_RETURN_IF_ERROR(AsCorrupt(ValidateDecimator(view.decimator, view.columns)));
  if (const uint64_t samples = RowSamples(view.decimator, view.columns);
      samples != record.row_samples) {
    return Status::Corrupt(fmt::format(
        "{} samples per row, but {} columns at over-sampling ratio {}/{} have {}",
        record.row_samples, view.columns, view.decimator.osr_num, view.decimator.osr_den, samples));
  }
  SDQ_RETURN_IF_ERROR(AsCorrupt(ValidateView(view)));
  return view;
}

Result<TensorView> ReadTensor(const TensorRecord& record,
                              const std::vector<DecimatorSpec>& decimators, SectionClaims* claims) {
  switch (static_cast<TensorKind>(record.kind)) {
    case TensorKind::kDense: {
      SDQ_ASSIGN_OR_RETURN(DenseView view, ReadDense(record, claims));
      return TensorView(std::move(view));
    }
    case TensorKind::kStream: {
      SDQ_ASSIGN_OR_RETURN(StreamView view, ReadStream(record, decimators, claims));
      return TensorView(std::move(view));
    }
  }
  return Status::Unsupported(fmt::format("unknown tensor kind {}", record.kind));
}

// The records of a table section; kCorrupt if they do not fill it, or are too many.
Result<size_t> CountRecords(std::span<const uint8_t> table, size_t record_bytes, size_t most,
                            const char* what) {
  if (table.size() % record_bytes != 0) {
    return Status::Corrupt(
        fmt::format("{} table of {} bytes, records have {}", what, table.size(), record_bytes));
  }
  const size_t count = table.size() / record_bytes;
  if (count > most) {
    return Status::Corrupt(fmt::format("{} {} records, at most {} are allowed", count, what, most));
  }
  return count;
}

}  // namespace

Result<std::span<const uint8_t>> SectionClaims::Claim(uint32_t index, SectionKind kind) {
  if (index >= sections_.size()) {
    return Status::Corrupt(fmt::format("{} section {} is missing: the file has {} sections",
                                       SectionKindName(kind), index, sections_.size()));
  }
  if (sections_[index].kind != kind) {
    return Status::Corrupt(
        fmt::format("{} is used as {}", SectionTitle(sections_, index), SectionKindName(kind)));
  }
  if (claimed_[index]) {
    return Status::Corrupt(fmt::format("{} is used twice", SectionTitle(sections_, index)));
  }
  claimed_[index] = true;
  return SectionBytes(sections_[index], file_);
}

Result<std::span<const uint8_t>> SectionClaims::ClaimOnly(SectionKind kind) {
  std::span<const uint8_t> found;
  for (uint32_t i = 0; i < sections_.size(); ++i) {
    if (sections_[i].kind != kind) continue;
    if (!found.empty()) {
      return Status::Corrupt(fmt::format("a second {} section", SectionKindName(kind)));
    }
    SDQ_ASSIGN_OR_RETURN(found, Claim(i, kind));
  }
  return found;
}

Status SectionClaims::AllClaimed() const {
  for (size_t i = 0; i < claimed_.size(); ++i) {
    if (!claimed_[i]) {
      return Status::Corrupt(fmt::format("{} belongs to nothing", SectionTitle(sections_, i)));
    }
  }
  return Status::Ok();
}

Result<std::vector<DecimatorSpec>> ReadDecimators(SectionClaims* claims) {
  SDQ_ASSIGN_OR_RETURN(const std::span<const uint8_t> table,
                       claims->ClaimOnly(SectionKind::kDecimatorTable));
  SDQ_ASSIGN_OR_RETURN(const size_t count,
                       CountRecords(table, kDecimatorRecordBytes, kMaxDecimators, "decimator"));
  std::vector<DecimatorSpec> decimators;
  decimators.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    Result<DecimatorSpec> spec = ReadDecimator(table.data() + i * kDecimatorRecordBytes, claims);
    if (!spec.ok()) return std::move(spec).status().Annotate(fmt::format("decimator {}", i));
    decimators.push_back(*std::move(spec));
  }
  return decimators;
}

Result<std::vector<TensorView>> ReadTensors(const std::vector<DecimatorSpec>& decimators,
                                            SectionClaims* claims) {
  SDQ_ASSIGN_OR_RETURN(const std::span<const uint8_t> table,
                       claims->ClaimOnly(SectionKind::kTensorTable));
  SDQ_ASSIGN_OR_RETURN(const size_t count,
                       CountRecords(table, kTensorRecordBytes, kMaxTensors, "tensor"));
  std::vector<TensorView> tensors;
  tensors.reserve(count);
  std::vector<bool> used(decimators.size(), false);
  for (size_t i = 0; i < count; ++i) {
    Result<TensorRecord> record = DecodeTensor(table.data() + i * kTensorRecordBytes);
    if (!record.ok()) return std::move(record).status().Annotate(fmt::format("tensor {}", i));
    Result<TensorView> view = ReadTensor(*record, decimators, claims);
    if (!view.ok()) {
      return std::move(view).status().Annotate(fmt::format(
          "tensor {} '{}'", i, ValidateTensorName(record->name).ok() ? record->name : ""));
    }
    if (record->decimator < used.size()) used[record->decimator] = true;
    tensors.push_back(*std::move(view));
  }
  for (size_t i = 0; i < used.size(); ++i) {
    if (!used[i]) return Status::Corrupt(fmt::format("decimator {} belongs to no tensor", i));
  }
  return tensors;
}

}  // namespace sdq::format
