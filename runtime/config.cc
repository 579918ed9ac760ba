#include "runtime/config.h"

namespace sdq {

std::string LayerTensorName(int64_t layer, const char* part) {
  return "layers." + std::to_string(layer) + "." + part;
}

}  // namespace sdq
