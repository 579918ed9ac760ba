// From a stored bitstream back to float weights, as the encoders see them.
#ifndef SDQ_CONVERTER_RECONSTRUCT_H_
#define SDQ_CONVERTER_RECONSTRUCT_H_

#include <vector>

#include "converter/encoder.h"

namespace sdq::converter {

// EncodedLinear::reconstructed, bit for bit, from everything else that is in it: [rows][columns].
// `encoded`: valid (format::ValidateView), polyphase without means or ideal low-pass. In parallel
// over rows; on one instruction set the same for any number of threads.
std::vector<float> Reconstruct(const EncodedLinear& encoded);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_RECONSTRUCT_H_
