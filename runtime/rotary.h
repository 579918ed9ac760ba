// Rotary position embedding (Su et al. 2021): the angles, with the scalings of longer contexts.
#ifndef SDQ_RUNTIME_ROTARY_H_
#define SDQ_RUNTIME_ROTARY_H_

#include <cstddef>
#include <vector>

#include "runtime/config.h"

namespace sdq {

// Radians per position of each of the head_dim/2 pairs: theta^(-2i/head_dim), scaled.
//   linear: divided by rope_factor.
//   llama3: wavelengths beyond original/low_freq_factor are divided by rope_factor, those below
//   original/high_freq_factor kept, those between blended (Llama 3.1 reference code).
std::vector<double> RotaryFrequencies(const ModelConfig& config);

// Rows first .. first + count - 1 of the table that RotaryTable() (transformer.h) gives, computed
// in double: out[count][head_dim], head_dim/2 cosines and then as many sines.
void FillRotaryRows(const std::vector<double>& frequencies, size_t first, size_t count, float* out);

}  // namespace sdq

#endif  // SDQ_RUNTIME_ROTARY_H_
