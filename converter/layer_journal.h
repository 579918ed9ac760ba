// Finished layers of a conversion: into its journal, and back as if they had just been encoded.
#ifndef SDQ_CONVERTER_LAYER_JOURNAL_H_
#define SDQ_CONVERTER_LAYER_JOURNAL_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "converter/encoder.h"
#include "converter/float_layer.h"
#include "converter/journal.h"
#include "converter/rate.h"
#include "format/status.h"

namespace sdq::converter {

// `encoded` in the order of layer.linears(), whose biases are what will be stored.
Status RecordLayer(int64_t index, const FloatLayer& layer,
                   const std::vector<EncodedLinear>& encoded, Journal* journal);

// False, and nothing done, if the journal has no such layer. Else `encoded` is what it was, without
// reconstruction, and the layer's linears hold that, and their biases. kCorrupt if the record is
// not one of this layer at these rates (by name).
Result<bool> RestoreLayer(const Journal& journal, int64_t index,
                          const std::map<std::string, Rate>& rates, const FloatLayer& layer,
                          std::vector<EncodedLinear>* encoded);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_LAYER_JOURNAL_H_
