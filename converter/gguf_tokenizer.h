// The tokenizer in the metadata of a GGUF file as a TokenizerSpec.
#ifndef SDQ_CONVERTER_GGUF_TOKENIZER_H_
#define SDQ_CONVERTER_GGUF_TOKENIZER_H_

#include <cstdint>

#include "converter/gguf_metadata.h"
#include "format/status.h"
#include "runtime/tokenizer.h"

namespace sdq::converter {

// tokenizer.ggml.model "llama" (SentencePiece BPE by scores) or "gpt2" (byte-level BPE, its
// pre-tokenizer named by tokenizer.ggml.pre), special tokens, BOS and EOS, chat template.
// kNotFound if the file has no tokenizer, kUnsupported for other models and pre-tokenizers (there
// is no default: a wrong one makes wrong tokens), kCorrupt if it has more than `vocab_size` tokens
// or contradicts itself. The result has passed Tokenizer::Create.
Result<TokenizerSpec> GgufTokenizer(const GgufMetadata& metadata, int64_t vocab_size);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_GGUF_TOKENIZER_H_
