// Calibration without a data set: text that the float model writes itself.
//
// What a model writes is distributed as it believes text to be, so that its own samples show its
// linears the inputs that they will see (as in Liu et al. 2023, "LLM-QAT: Data-Free Quantization
// Aware Training"). Documents are drawn at temperature 1 from the beginning-of-text token on.
#ifndef SDQ_CONVERTER_OWN_TEXT_H_
#define SDQ_CONVERTER_OWN_TEXT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "converter/checkpoint.h"
#include "format/status.h"
#include "runtime/tokenizer.h"

namespace sdq::converter {

struct OwnTextOptions {
  size_t tokens = 0;
  size_t window = 512;  // every window of so many tokens begins a document
  uint64_t seed = 0;
};

// Called after each step, for progress; returning false cancels.
using OwnTextTick = std::function<bool(size_t done, size_t total)>;

// options.tokens tokens, rounded up to whole windows (none longer than the model's positions). A
// document begins with BOS (the end-of-text token where there is none; else a token drawn evenly)
// and ends where the model ends it, which is not written, or with its window. Same checkpoint and
// options, same tokens, for any number of threads. Holds the model in f16 meanwhile.
Result<std::vector<TokenId>> WriteOwnText(const Checkpoint& checkpoint,
                                          const OwnTextOptions& options, const OwnTextTick& tick);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_OWN_TEXT_H_
