#include "runtime/rotary.h"

#include <cmath>
#include <numbers>

#include "runtime/transformer.h"

namespace sdq {
namespace {

double Llama3Frequency(const ModelConfig& config, double frequency) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double original = static_cast<double>(config.rope_original_positions);
  const double low = config.rope_low_freq_factor;
  const double high = config.rope_high_freq_factor;
  if (wavelength > original / low) return frequency / config.rope_factor;
  if (wavelength < original / high) return frequency;
  if (high <= low) return frequency;
  const double smooth = (original / wavelength - low) / (high - low);
  return (1.0 - smooth) * frequency / config.rope_factor + smooth * frequency;
}

}  // namespace

std::vector<double> RotaryFrequencies(const ModelConfig& config) {
  std::vector<double> frequencies(static_cast<size_t>(config.head_dim) / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
    double frequency = std::pow(config.rope_theta, -exponent);
    if (config.rope_scaling == RopeScaling::kLinear) frequency /= config.rope_factor;
    if (config.rope_scaling == RopeScaling::kLlama3) frequency = Llama3Frequency(config, frequency);
    frequencies[i] = frequency;
  }
  return frequencies;
}

void FillRotaryRows(const std::vector<double>& frequencies, size_t first, size_t count,
                    float* out) {
  const size_t half = frequencies.size();
  for (size_t row = 0; row < count; ++row, out += 2 * half) {
    for (size_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(first + row) * frequencies[i];
      out[i] = static_cast<float>(std::cos(angle));
      out[half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

std::vector<float> RotaryTable(const ModelConfig& config, size_t positions) {
  if (config.architecture != Architecture::kLlama) return {};
  std::vector<float> table(positions * static_cast<size_t>(config.head_dim));
  FillRotaryRows(RotaryFrequencies(config), 0, positions, table.data());
  return table;
}

}  // namespace sdq
