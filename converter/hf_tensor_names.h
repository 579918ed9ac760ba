// Names of tensors: this project's canonical ones and those of Hugging Face checkpoints.
#ifndef SDQ_CONVERTER_HF_TENSOR_NAMES_H_
#define SDQ_CONVERTER_HF_TENSOR_NAMES_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "runtime/config.h"

namespace sdq::converter {

// Prefixes under which the body of a model (everything but the head) may stand: with the language
// model around it, or saved by itself.
std::span<const std::string_view> HfBodyPrefixes(Architecture architecture);

// The checkpoint's name of a canonical tensor (runtime/config.h), or of a linear's bias (canonical
// name + ".bias"): "layers.3.attn.q" -> prefix + "layers.3.self_attn.q_proj.weight". The head
// stands outside of the body: no prefix. "" if the family has no such tensor.
std::string HfTensorName(Architecture architecture, std::string_view prefix,
                         std::string_view canonical);

// N of "layers.N.rest" after the prefix; nullopt if the name has another form.
std::optional<int64_t> HfLayerNumber(std::string_view prefix, std::string_view name);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_HF_TENSOR_NAMES_H_
