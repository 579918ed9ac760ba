#include "converter/conversion_metadata.h"

#include <utility>

namespace sdq::converter {

Result<format::Metadata> CheckpointMetadata(const Checkpoint& checkpoint) {
  format::Metadata metadata;
  checkpoint.config().Store(&metadata);
  Result<TokenizerSpec> tokenizer = checkpoint.LoadTokenizer();
  if (tokenizer.ok()) {
    tokenizer->Store(&metadata);
  } else if (tokenizer.status().code() != StatusCode::kNotFound) {
    return std::move(tokenizer).status();
  }
  checkpoint.StoreExtras(&metadata);
  return metadata;
}

Result<format::Metadata> MakeMetadata(const Checkpoint& checkpoint, const ConvertOptions& options,
                                      const ConvertReport& report) {
  SDQ_ASSIGN_OR_RETURN(format::Metadata metadata, CheckpointMetadata(checkpoint));
  metadata.Set("quantization.method", std::string(MethodName(options.method)));
  if (options.method == Method::kFloat) return metadata;
  metadata.Set("quantization.alphabet", std::string(AlphabetName(options.alphabet)));
  metadata.Set("quantization.target_osr", options.osr);
  metadata.Set("quantization.mean_osr", report.mean_osr);
  metadata.Set("quantization.bits_per_weight", report.bits_per_weight);
  metadata.Set("quantization.seed", int64_t(options.seed));
  metadata.Set("quantization.damping", options.damping);
  metadata.Set("quantization.tuning_epochs", int64_t(options.tuning_epochs));
  metadata.Set("quantization.calibration_tokens", int64_t(options.calibration.size()));
  metadata.Set("quantization.calibration_source", options.calibration_name);
  if (options.method == Method::kTrellis) {
    if (options.window != kWindowByRate) {
      metadata.Set("quantization.window", int64_t(options.window));
    }
    if (!options.derived) metadata.Set("quantization.derived", false);
    metadata.Set("quantization.scale_tries", int64_t(options.scale_tries));
    metadata.Set("quantization.input_correction", options.correction.inputs);
    metadata.Set("quantization.residual_correction", options.correction.residual);
  } else {
    metadata.Set("quantization.order", int64_t(options.published.order));
    metadata.Set("quantization.block", int64_t(options.published.block));
  }
  std::vector<std::string> names;
  std::vector<double> osrs, errors;
  for (const LinearReport& linear : report.linears) {
    names.push_back(linear.name);
    osrs.push_back(linear.osr);
    errors.push_back(linear.relative_error);
  }
  metadata.Set("quantization.linears", std::move(names));
  metadata.Set("quantization.linear_osr", std::move(osrs));
  metadata.Set("quantization.linear_error", std::move(errors));
  return metadata;
}

}  // namespace sdq::converter
