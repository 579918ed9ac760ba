#include "converter/table_encoder.h"

#include <algorithm>
#include <utility>

#include "format/layout.h"

namespace sdq::converter {
namespace {

static_assert(kTableChunkRows % format::kTileRows == 0);

template <typename T>
void Append(const std::vector<T>& from, std::vector<T>* to) {
  to->insert(to->end(), from.begin(), from.end());
}

// The chunk's rows behind those of `whole`, but for the scales. All chunks but the last are whole
// tiles, so that bytes follow bytes.
void AppendRows(const EncodedLinear& chunk, EncodedLinear* whole) {
  whole->rows += chunk.rows;
  whole->bits.erase(whole->bits.end() - std::ptrdiff_t{format::kReadSlack}, whole->bits.end());
  whole->bits.insert(whole->bits.end(), chunk.bits.begin(), chunk.bits.end());
  Append(chunk.reconstructed, &whole->reconstructed);
  Append(chunk.row_errors, &whole->row_errors);
}

std::vector<float> ScalesOf(const EncodedLinear& chunk) {
  std::vector<float> scales;
  for (const uint16_t f16 : chunk.scales_f16) {
    scales.push_back(chunk.scale_base * format::F16ToF32(f16));
  }
  return scales;
}

// Mean of w_r H w_r^T weighs the chunks' errors; by plain squares, for the report only.
double Power(const float* weights, size_t count) {
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += double(weights[i]) * double(weights[i]);
  return sum;
}

}  // namespace

Result<EncodedLinear> EncodeTable(const EncodeInput& input, const TrellisOptions& options,
                                  const std::function<bool(double)>& progress) {
  EncodedLinear whole;
  std::vector<float> scales;
  double error = 0, power = 0;
  for (size_t first = 0; first < std::max<size_t>(input.rows, 1); first += kTableChunkRows) {
    if (progress && !progress(double(first) / double(input.rows))) {
      return Status::Cancelled("interrupted");
    }
    EncodeInput part = input;
    part.weights = input.weights + first * input.columns;
    part.rows = std::min(kTableChunkRows, input.rows - first);
    SDQ_ASSIGN_OR_RETURN(EncodedLinear chunk, EncodeTrellis(part, options));
    Append(ScalesOf(chunk), &scales);
    const double weight = Power(part.weights, part.rows * part.columns);
    error += weight * chunk.relative_error;
    power += weight;
    if (first == 0) {
      whole = std::move(chunk);
    } else {
      AppendRows(chunk, &whole);
    }
  }
  // Bases are powers of two: the common one changes no scale within the range of f16.
  PackScales(scales, &whole.scales_f16, &whole.scale_base);
  whole.relative_error = power > 0 ? error / power : 0.0;
  return whole;
}

}  // namespace sdq::converter
