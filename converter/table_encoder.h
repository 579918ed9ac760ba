// Token embeddings and heads as bitstreams: linears of very many rows.
#ifndef SDQ_CONVERTER_TABLE_ENCODER_H_
#define SDQ_CONVERTER_TABLE_ENCODER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "converter/encoder.h"
#include "format/status.h"

namespace sdq::converter {

// A multiple of the rows of a tile.
inline constexpr size_t kTableChunkRows = 4096;

// As EncodeTrellis (no shift), kTableChunkRows at a time, so that the search needs memory for
// so many rows only: a table may have hundreds of thousands. Rows are independent of each other:
// their samples are those of one call. `progress` gets the share done; returning false cancels.
Result<EncodedLinear> EncodeTable(const EncodeInput& input, const TrellisOptions& options,
                                  const std::function<bool(double)>& progress);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_TABLE_ENCODER_H_
