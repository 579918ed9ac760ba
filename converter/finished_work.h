// What a conversion's journal keeps (journal.h), as bytes: layers, calibration text, sensitivities.
//
// Decoders take any bytes: what comes back is legal (format::ValidateView) and no larger than the
// bytes imply; anything else is kCorrupt. Whether it fits the model is for the caller to check.
#ifndef SDQ_CONVERTER_FINISHED_WORK_H_
#define SDQ_CONVERTER_FINISHED_WORK_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "converter/encoder.h"
#include "converter/sensitivity.h"
#include "format/status.h"
#include "runtime/tokenizer.h"

namespace sdq::converter {

// A quantized linear without its reconstruction, and the bias that it is stored with.
struct FinishedLinear {
  std::string name;
  EncodedLinear encoded;
  std::vector<float> bias;  // may be empty
};

// For encoding only: refers to what the caller holds.
struct FinishedLinearView {
  const std::string* name;
  const EncodedLinear* encoded;
  const std::vector<float>* bias;
};
std::vector<uint8_t> EncodeFinished(std::span<const FinishedLinearView> linears);
Result<std::vector<FinishedLinear>> DecodeFinished(std::span<const uint8_t> bytes);

std::vector<uint8_t> EncodeTokens(std::span<const TokenId> tokens);
Result<std::vector<TokenId>> DecodeTokens(std::span<const uint8_t> bytes);

std::vector<uint8_t> EncodeSensitivities(std::span<const Sensitivity> sensitivities);
Result<std::vector<Sensitivity>> DecodeSensitivities(std::span<const uint8_t> bytes);

std::vector<uint8_t> EncodeTableSensitivities(std::span<const TableSensitivity> tables);
Result<std::vector<TableSensitivity>> DecodeTableSensitivities(std::span<const uint8_t> bytes);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_FINISHED_WORK_H_
