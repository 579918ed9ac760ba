// A checkpoint without weights: random ones in the shape of any config.json, for measuring the size
// and speed of models that nobody needs to download.
#ifndef SDQ_CONVERTER_RANDOM_CHECKPOINT_H_
#define SDQ_CONVERTER_RANDOM_CHECKPOINT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "converter/checkpoint.h"

namespace sdq::converter {

// `config_path` is a config.json, or the folder of one. Every tensor is generated when it is read,
// from the seed and its name alone: the same values in any order of reading, on any machine.
// Weights and biases are nearly Gaussian (sum of eight uniform bytes), mean 0, standard deviation
// 0.0255, exact in f16; gains of norms are 1. The tokenizer is that of the folder, if a folder was
// given and has one (else kNotFound).
Result<std::unique_ptr<Checkpoint>> OpenRandomCheckpoint(const std::string& config_path,
                                                         uint64_t seed);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_RANDOM_CHECKPOINT_H_
