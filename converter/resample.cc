#include "converter/resample.h"

#include <cmath>
#include <numbers>

#include "kernels/stream_layout.h"

namespace sdq::converter {
namespace {

// D[columns][samples] of a row that is one block.
std::vector<float> Decimator(size_t columns, size_t samples) {
  kernels::MapSpec spec;
  spec.columns = columns;
  spec.decimator = kernels::Decimator::kIdealLowPass;
  spec.osr_num = uint32_t(samples);
  spec.osr_den = uint32_t(columns);
  spec.block = uint32_t(columns);
  return kernels::DecimatorMatrix(spec);
}

}  // namespace

BlockResampler::BlockResampler(size_t columns_in, size_t samples_in)
    : columns(columns_in),
      samples(samples_in),
      up(columns_in * samples_in),
      down(columns_in * samples_in) {
  const std::vector<float> decimator = Decimator(columns, samples);
  // Upsampling is the transpose of the decimator times samples/columns, but for the Nyquist bin of
  // an even block: the decimator doubles it, the upsampler halves it (and 1 = 2 - 1 below).
  const double gain = double(samples) / double(columns);
  const bool nyquist = columns % 2 == 0 && samples > columns;
  for (size_t i = 0; i < columns; ++i) {
    const double sign = i % 2 == 0 ? 1.0 : -1.0;
    for (size_t j = 0; j < samples; ++j) {
      const float d = decimator[i * samples + j];
      double u = gain * double(d);
      if (nyquist) {
        const double angle = std::numbers::pi * double(columns) * double(j) / double(samples);
        u -= sign * std::cos(angle) / double(columns);
      }
      up[i * samples + j] = float(u);
      down[j * columns + i] = d;
    }
  }
}

}  // namespace sdq::converter
