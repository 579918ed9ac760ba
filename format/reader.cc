#include "format/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "format/section_table.h"
#include "format/tensor_table.h"

namespace sdq::format {
namespace {

const std::string& TensorName(const TensorView& tensor) {
  return std::visit([](const auto& view) -> const std::string& { return NameOf(view); }, tensor);
}

TensorBytes Count(const DenseView& view) {
  return {view.data.size_bytes(), view.scales_f16.size_bytes(), 0, view.bias.size_bytes()};
}

TensorBytes Count(const StreamView& view) {
  return {view.bits.size_bytes(), view.scales_f16.size_bytes(), view.means_f16.size_bytes(),
          view.bias.size_bytes()};
}

// Everything but bitstreams and matrices is read when a file is opened.
Status VerifySmallSections(const std::vector<SectionInfo>& sections,
                           std::span<const uint8_t> bytes) {
  for (size_t i = 0; i < sections.size(); ++i) {
    if (sections[i].kind == SectionKind::kBitstream || sections[i].kind == SectionKind::kDense) {
      continue;
    }
    SDQ_RETURN_IF_ERROR(VerifySection(sections, i, bytes));
  }
  return Status::Ok();
}

// Vectors (norm weights, ...) are small too; which dense sections hold one, only the tensors tell.
Status VerifyVectors(const std::vector<TensorView>& tensors,
                     const std::vector<SectionInfo>& sections, std::span<const uint8_t> bytes) {
  for (const TensorView& tensor : tensors) {
    const auto* dense = std::get_if<DenseView>(&tensor);
    if (dense == nullptr || dense->rows != 1) continue;
    const auto offset = static_cast<uint64_t>(dense->data.data() - bytes.data());
    const auto section = std::lower_bound(
        sections.begin(), sections.end(), offset,
        [](const SectionInfo& info, uint64_t value) { return info.offset < value; });
    SDQ_RETURN_IF_ERROR(
        VerifySection(sections, static_cast<size_t>(section - sections.begin()), bytes));
  }
  return Status::Ok();
}

Result<std::vector<uint32_t>> SortNames(const std::vector<TensorView>& tensors) {
  std::vector<uint32_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&tensors](uint32_t a, uint32_t b) {
    return TensorName(tensors[a]) < TensorName(tensors[b]);
  });
  const auto twin = std::adjacent_find(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return TensorName(tensors[a]) == TensorName(tensors[b]);
  });
  if (twin != order.end()) {
    return Status::Corrupt(fmt::format("two tensors are named '{}'", TensorName(tensors[*twin])));
  }
  return order;
}

}  // namespace

Result<SdqFile> SdqFile::Parse(std::span<const uint8_t> bytes, std::string name) {
  SdqFile file;
  file.bytes_ = bytes;
  file.name_ = std::move(name);
  if (Status status = file.ParseAll(); !status.ok()) return std::move(status).Annotate(file.name_);
  return file;
}

Status SdqFile::ParseAll() {
  if (reinterpret_cast<uintptr_t>(bytes_.data()) % alignof(float) != 0) {
    return Status::InvalidArgument("the file's bytes must lie at a multiple of 4 in memory");
  }
  SDQ_ASSIGN_OR_RETURN(const FileHeader header, DecodeHeader(bytes_));
  major_ = header.major;
  minor_ = header.minor;
  alignment_ = header.alignment;
  SDQ_ASSIGN_OR_RETURN(sections_, ReadSectionTable(header, bytes_));
  SDQ_RETURN_IF_ERROR(VerifySmallSections(sections_, bytes_));

  SectionClaims claims(bytes_, sections_);
  SDQ_ASSIGN_OR_RETURN(const std::span<const uint8_t> metadata,
                       claims.ClaimOnly(SectionKind::kMetadata));
  if (metadata.empty()) return Status::Corrupt("there is no metadata section");
  SDQ_ASSIGN_OR_RETURN(metadata_, Metadata::Decode(metadata));
  SDQ_ASSIGN_OR_RETURN(const std::vector<DecimatorSpec> decimators, ReadDecimators(&claims));
  SDQ_ASSIGN_OR_RETURN(tensors_, ReadTensors(decimators, &claims));
  SDQ_RETURN_IF_ERROR(claims.AllClaimed());
  SDQ_RETURN_IF_ERROR(VerifyVectors(tensors_, sections_, bytes_));
  SDQ_ASSIGN_OR_RETURN(by_name_, SortNames(tensors_));
  ledger_.reserve(tensors_.size());
  for (const TensorView& tensor : tensors_) {
    ledger_.push_back(std::visit([](const auto& view) { return Count(view); }, tensor));
  }
  return Status::Ok();
}

const TensorView* SdqFile::Find(std::string_view name) const {
  const auto found = std::lower_bound(
      by_name_.begin(), by_name_.end(), name,
      [this](uint32_t index, std::string_view key) { return TensorName(tensors_[index]) < key; });
  if (found == by_name_.end() || TensorName(tensors_[*found]) != name) return nullptr;
  return &tensors_[*found];
}

TensorBytes SdqFile::BytesOf(size_t tensor_index) const { return ledger_.at(tensor_index); }

Status SdqFile::VerifyAll() const {
  const auto verify = [this]() -> Status {
    for (size_t i = 0; i < sections_.size(); ++i) {
      SDQ_RETURN_IF_ERROR(VerifySection(sections_, i, bytes_));
    }
    SDQ_ASSIGN_OR_RETURN(const FileHeader header, DecodeHeader(bytes_));
    SDQ_RETURN_IF_ERROR(VerifyPadding(header, sections_, bytes_));
    for (const TensorView& tensor : tensors_) {
      const auto* stream = std::get_if<StreamView>(&tensor);
      if (stream == nullptr) continue;
      if (const Status status = ValidateTrits(*stream); !status.ok()) {
        return Status::Corrupt(fmt::format("tensor '{}': {}", stream->name, status.message()));
      }
    }
    return Status::Ok();
  };
  return verify().Annotate(name_);
}

}  // namespace sdq::format
