// Evaluation and calibration text as windows of tokens.
//
// Protocol (of perplexity and of calibration alike): the text is cut at lines that equal the
// separator; each document is stripped of white space, tokenized with the model's BOS in front,
// all are concatenated and cut into windows of `window` tokens; a last partial one is dropped.
#ifndef SDQ_RUNTIME_CORPUS_H_
#define SDQ_RUNTIME_CORPUS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "format/status.h"
#include "runtime/tokenizer.h"

namespace sdq {

// Documents of a text, stripped, empty ones left out. An empty separator: one document.
std::vector<std::string_view> SplitDocuments(std::string_view text, std::string_view separator);

// All tokens of the text's documents, each with BOS in front (none if the tokenizer has no BOS).
Result<std::vector<TokenId>> TokenizeDocuments(const Tokenizer& tokenizer, std::string_view text,
                                               std::string_view separator);

// A whole file as a string. Directories, unreadable and empty files are errors that name the path.
Result<std::string> ReadTextFile(const std::string& path);

}  // namespace sdq

#endif  // SDQ_RUNTIME_CORPUS_H_
