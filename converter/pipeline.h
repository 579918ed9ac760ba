// From checkpoint to .sdq: the order of work, tensor by tensor.
//
// embeddings -> for each layer: load in f32, collect Hessians, encode and write every linear,
// advance the calibration states through the quantized layer -> final norm, head, metadata.
// Embeddings that become a bitstream do so first, so that the layers see what they really are.
// Memory: the largest layer in f32, its Hessians, and the calibration states; the second method
// holds the layer and the states twice (paired_calibration.h). With tuning: the whole model in f32,
// its activations of one window, and the calibration states twice.
#ifndef SDQ_CONVERTER_PIPELINE_H_
#define SDQ_CONVERTER_PIPELINE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/encoder.h"
#include "converter/journal.h"
#include "converter/paired_calibration.h"
#include "converter/rate.h"
#include "format/status.h"
#include "runtime/tokenizer.h"

namespace sdq::converter {

enum class Method {
  kFloat,      // no quantization: the reference mode
  kPublished,  // SDQ-LLM as published
  kTrellis,    // polyphase decimator + trellis modulator
};

// As metadata name them: "float", "sdq", "trellis"; "binary", "ternary", "ternary-planes".
const char* MethodName(Method method);
const char* AlphabetName(format::Alphabet alphabet);

enum class TableType {
  kKeep,    // as the checkpoint stores it
  kQ8,      // 8-bit rows
  kStream,  // a bitstream of the second method
};
// How a table with a row per token (embeddings, head) is stored.
struct TableStorage {
  TableType type = TableType::kQ8;
  Rate rate;  // of kStream
};

struct ConvertOptions {
  Method method = Method::kTrellis;
  double osr = 2.0;              // informative: the mean that the rates were made for
  std::vector<NamedRate> rates;  // one per linear; empty = NearestRate(osr) everywhere
  format::Alphabet alphabet = format::Alphabet::kBinary;
  uint32_t window = kWindowByRate;  // trellis: samples of decimator window
  bool derived = true;              // trellis, low rates: with derived samples (decimator_taps.h)
  uint32_t scale_tries = 1;         // trellis with calibration: row scales to try (encoder.h)
  PublishedOptions published;       // order, block, grid; alphabet and rate come from above
  TableStorage embeddings;  // "embed.tokens", in tied models the head too; ignored by kFloat
  TableStorage head;        // of other models; likewise
  // What errors of their rows cost, by name (table_sensitivity.h): for bitstreams. Absent: plain
  // squared error.
  std::map<std::string, std::vector<double>> table_hessians;
  std::vector<TokenId> calibration;  // tokens; empty = no data (plain squared error)
  size_t calibration_window = 512;
  std::string calibration_name;  // provenance, e.g. base name of the file
  double damping = 0.01;
  CorrectionOptions correction;  // trellis with calibration: aim at the float model's outputs
  uint64_t seed = 0;
  // Passes over the calibration text that tune scales, biases and norms after all layers are
  // quantized (tuning.h). Needs calibration; holds the whole model in f32.
  size_t tuning_epochs = 0;
  double tuning_rate = 3e-3;
  // Sensitivity::row_costs by name of the linear, for LinearReport::loss; may be empty. No byte of
  // the file depends on them.
  std::map<std::string, std::vector<double>> row_costs;
  // Where every layer is kept as soon as it is encoded, and taken from instead of being encoded.
  // Not owned; null: nowhere. Its settings (journal.h) cover all of the above that the file depends
  // on.
  Journal* journal = nullptr;
};

// What the trellis encoder is told for a matrix of that rate.
TrellisOptions TrellisOptionsOf(const ConvertOptions& options, Rate rate);

struct LinearReport {
  std::string name;
  uint32_t rows = 0;
  uint32_t columns = 0;
  double osr = 0;
  double bits_per_weight = 0;  // everything stored for it but its bias
  double relative_error = 0;   // tr(E H E^T) / tr(W H W^T)
  // Nats per token that the encoder's error costs, by options.row_costs; before tuning.
  std::optional<double> loss = std::nullopt;
};

struct ConvertReport {
  std::vector<LinearReport> linears;  // empty for kFloat
  std::vector<LinearReport> tables;   // embeddings and head that became bitstreams
  double mean_osr = 0;                // weighted by parameters
  double bits_per_weight = 0;         // of all quantized linears of the layers
  // The encoder's part of this run (what a resumed conversion did before is not in it).
  uint64_t encoded_weights = 0;
  double encoder_seconds = 0;
  uint64_t file_bytes = 0;
};

struct ConvertProgress {
  std::string step;     // "layer 3/8: encoding ffn.up"
  double fraction = 0;  // of the whole work, monotone
};
// Returning false cancels: kCancelled, no output file.
using ProgressCallback = std::function<bool(const ConvertProgress&)>;

// Deterministic: same checkpoint, options and seed give the same bytes for any thread count.
Result<ConvertReport> Convert(const Checkpoint& checkpoint, const ConvertOptions& options,
                              const std::string& path, const ProgressCallback& progress);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_PIPELINE_H_
