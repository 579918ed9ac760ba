// Which checkpoint this is: a number that another one has not.
#ifndef SDQ_CONVERTER_FINGERPRINT_H_
#define SDQ_CONVERTER_FINGERPRINT_H_

#include <cstdint>
#include <functional>

#include "converter/checkpoint.h"
#include "format/status.h"

namespace sdq::converter {

// Checksum of the config, the tokenizer, whatever else the checkpoint gives to a file, and every
// weight as it reads. One pass over the checkpoint, a tensor at a time. `progress` gets the share
// done; returning false cancels.
Result<uint64_t> Fingerprint(const Checkpoint& checkpoint,
                             const std::function<bool(double)>& progress);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_FINGERPRINT_H_
