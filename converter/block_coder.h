// One block of columns through the published chain: upsample, normalize, modulate, reconstruct.
// SDQ-LLM (arXiv 2510.03275), steps 2 to 4 and 6 of the method; rotation and error feedback are
// the caller's.
#ifndef SDQ_CONVERTER_BLOCK_CODER_H_
#define SDQ_CONVERTER_BLOCK_CODER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "converter/modulator.h"
#include "converter/resample.h"

namespace sdq::converter {

// How the samples x of a row's block become the modulator's input (x - mu) / s.
struct CodingParameters {
  double scale = 0.95;           // k:   s = k * quantile(|x - mu|, scale_quantile)
  double scale_quantile = 0.93;  // p_s
  double cut_quantile = 0.55;    // p_c: ternary threshold = quantile(|x - mu|, p_c) / s
};

// Linear interpolation between order statistics, the rule of numpy and torch. `sorted` ascending,
// not empty; p in [0, 1].
float Quantile(const std::vector<float>& sorted, double p);

// The nearest number with f16's eleven significant bits, whatever its magnitude: the value that
// PackScales stores (its power-of-two base keeps values in f16's range).
float RoundToF16Precision(float value);

// A row's block, upsampled.
struct BlockSamples {
  float mean = 0;             // mu, rounded as stored
  std::vector<float> values;  // x - mu
  std::vector<float> sorted;  // |x - mu|, ascending
};

class BlockCoder {
 public:
  BlockCoder(size_t columns, size_t samples, Modulator modulator);

  size_t columns() const { return resampler_.columns; }
  size_t samples() const { return resampler_.samples; }
  const Modulator& modulator() const { return modulator_; }

  // Rotated weights v[rows][columns] to samples.
  void Analyze(const float* v, size_t rows, std::vector<BlockSamples>* out) const;

  // Samples q[samples()] of one row; returns its scale s, rounded as stored (0 if all samples
  // equal their mean).
  float Modulate(const BlockSamples& block, const CodingParameters& parameters, int8_t* q) const;

  // v[rows][columns] = s_r (D q_r) + mu_r.
  void Reconstruct(const int8_t* q, const float* scales, const float* means, size_t rows,
                   float* v) const;

 private:
  BlockResampler resampler_;
  Modulator modulator_;
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_BLOCK_CODER_H_
