// From the records of a file to views: tensors and decimators, each checked as it is built.
#ifndef SDQ_FORMAT_TENSOR_TABLE_H_
#define SDQ_FORMAT_TENSOR_TABLE_H_

#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "format/records.h"
#include "format/status.h"
#include "format/tensor.h"

namespace sdq::format {

// Hands out the sections of a file, each to one owner and only as the kind that it is.
class SectionClaims {
 public:
  SectionClaims(std::span<const uint8_t> file, const std::vector<SectionInfo>& sections)
      : file_(file), sections_(sections), claimed_(sections.size(), false) {}

  // The bytes of section `index`, which must be of `kind` and not yet claimed.
  Result<std::span<const uint8_t>> Claim(uint32_t index, SectionKind kind);
  // The bytes of the only section of `kind`; empty if there is none. kCorrupt if there are two.
  Result<std::span<const uint8_t>> ClaimOnly(SectionKind kind);
  // kCorrupt if a section was claimed by nobody.
  Status AllClaimed() const;

 private:
  std::span<const uint8_t> file_;
  const std::vector<SectionInfo>& sections_;
  std::vector<bool> claimed_;
};

// The decimators of the file, taps included. Their other fields are checked with the tensors that
// use them; a decimator that none uses is refused by ReadTensors.
Result<std::vector<DecimatorSpec>> ReadDecimators(SectionClaims* claims);

// All tensors, valid in every respect that does not need their elements or samples.
Result<std::vector<std::variant<DenseView, StreamView>>> ReadTensors(
    const std::vector<DecimatorSpec>& decimators, SectionClaims* claims);

}  // namespace sdq::format

#endif  // SDQ_FORMAT_TENSOR_TABLE_H_
