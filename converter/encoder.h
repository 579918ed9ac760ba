// Weights in, bitstream out: what the two methods of the converter have in common.
#ifndef SDQ_CONVERTER_ENCODER_H_
#define SDQ_CONVERTER_ENCODER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "format/status.h"
#include "format/tensor.h"

namespace sdq::converter {

struct EncodeInput {
  const float* weights = nullptr;  // [rows][columns], original basis
  size_t rows = 0;
  size_t columns = 0;
  // Mean of x x^T over calibration inputs, original basis, [columns][columns]; null = identity
  // (no calibration data: plain squared error).
  const std::vector<double>* hessian = nullptr;
  // Mean of e x^T, [rows][columns], where e is what the outputs should gain (paired_calibration.h);
  // null or empty = nothing. Second method only, with a Hessian: the weights aimed at become
  // W + shift (H + damping)^-1, and errors count from them.
  const std::vector<float>* shift = nullptr;
  double damping = 0.01;
  uint64_t seed = 0;  // rotation signs
};

struct EncodedLinear {
  uint32_t rows = 0;
  uint32_t columns = 0;
  format::RotationSpec rotation;
  format::DecimatorSpec decimator;
  format::Alphabet alphabet = format::Alphabet::kBinary;
  format::ScaleGranularity granularity = format::ScaleGranularity::kRow;
  std::vector<uint16_t> scales_f16;
  float scale_base = 1.0f;
  std::vector<uint16_t> means_f16;
  float mean_base = 1.0f;
  std::vector<uint8_t> bits;  // tiles, as on disk, + 64 zero bytes
  // What the stored bits mean, rotation undone: [rows][columns], computed from the f16 scales.
  std::vector<float> reconstructed;
  // tr(E H E^T) / tr(W H W^T).
  double relative_error = 0;
  std::vector<double> row_errors;  // e_r H e_r^T, [rows]

  format::StreamView View(const std::string& name) const;  // bits without the slack
  double BitsPerWeight() const;                            // everything stored: bits, scales, means
};

// Packs samples (+1, 0, -1 as int8, [rows][row_samples], blocks concatenated without padding) into
// tiles of 16 interleaved rows, as FORMAT.md says. Rows are padded with zero bytes' samples.
std::vector<uint8_t> PackSamples(const std::vector<int8_t>& samples, uint32_t rows,
                                 uint32_t columns, const format::DecimatorSpec& decimator,
                                 format::Alphabet alphabet);

// As many samples before the first weight's own as its window can use and the last byte of a row
// has room for: they cost nothing.
uint32_t FreeLead(const format::DecimatorSpec& decimator, format::Alphabet alphabet,
                  size_t columns);

// Row scales as f16 with a common base, such that the largest is well inside f16's normal range.
void PackScales(const std::vector<float>& scales, std::vector<uint16_t>* f16, float* base);

// ---- The published method (SDQ-LLM, arXiv 2510.03275), published_encoder.cc ----
struct PublishedOptions {
  format::Alphabet alphabet = format::Alphabet::kTernaryPacked;
  uint32_t osr_num = 2, osr_den = 1;
  uint32_t block = 128;
  int order = 1;                       // modulator order, 1 or 2
  bool grid_search = true;             // else the three numbers below
  double scale = 0.95;                 // k
  double scale_quantile = 0.93;        // p_s
  double cut_quantile = 0.55;          // p_c, ternary
  bool diagonal_compensation = false;  // the published shortcut instead of the exact block solve
};
Result<EncodedLinear> EncodePublished(const EncodeInput& input, const PublishedOptions& options);

// ---- Polyphase decimator + trellis modulator, trellis_encoder.cc ----
inline constexpr uint32_t kMaxScaleTries = 6;
struct TrellisOptions {
  format::Alphabet alphabet = format::Alphabet::kBinary;
  uint32_t osr_num = 2, osr_den = 1;
  uint32_t window = 8;            // L: 2^L (3^L) states, or kWindowByRate (rate.h)
  bool derived = true;            // low rates: with derived samples (decimator_taps.h)
  uint32_t rotation_block = 0;    // 0 = the whole row
  uint32_t feedback_window = 64;  // columns over which each survivor carries its own errors
  // With a Hessian: row scales to try, 1 to kMaxScaleTries; every row keeps its best. The search
  // with error feedback is not exact, and feedback widens what it aims at: both are gained from.
  uint32_t scale_tries = 1;
};
Result<EncodedLinear> EncodeTrellis(const EncodeInput& input, const TrellisOptions& options);

// The frozen decimators (decimator_taps.h): NotFound if no taps were learned for this rate. The
// window may be kWindowByRate; derived: with a derived stream where there is one.
Result<format::DecimatorSpec> LearnedDecimator(format::Alphabet alphabet, uint32_t osr_num,
                                               uint32_t osr_den, uint32_t window,
                                               bool derived = true);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_ENCODER_H_
