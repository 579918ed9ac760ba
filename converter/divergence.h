// How far the predictions of a finished file are from those of the float model.
#ifndef SDQ_CONVERTER_DIVERGENCE_H_
#define SDQ_CONVERTER_DIVERGENCE_H_

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "format/status.h"
#include "runtime/tokenizer.h"

namespace sdq::converter {

struct DivergenceOptions {
  size_t window = 512;
  size_t windows = 8;  // at most; taken evenly from the text
};

struct Divergence {
  double kl = 0;      // mean KL(float model || file), nats per token
  size_t tokens = 0;  // positions that were compared: all but the last of every window
};

// What sdq-ppl finds on the same windows with a float file as its reference, without the file: the
// float model runs as in calibration, a layer in memory at a time; the file runs as it does for
// its users. `tokens` as for Calibration::Create. `progress` gets the share done; returning false
// cancels. Independent of the thread count.
Result<Divergence> MeasureDivergence(const Checkpoint& checkpoint, const std::string& path,
                                     const std::vector<TokenId>& tokens,
                                     const DivergenceOptions& options,
                                     const std::function<bool(double)>& progress);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_DIVERGENCE_H_
