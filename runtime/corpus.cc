#include "runtime/corpus.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "fmt/format.h"

namespace sdq {
namespace {

constexpr std::string_view kWhiteSpace = " \t\n\v\f\r";

std::string_view Strip(std::string_view text) {
  const size_t first = text.find_first_not_of(kWhiteSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kWhiteSpace) - first + 1);
}

}  // namespace

std::vector<std::string_view> SplitDocuments(std::string_view text, std::string_view separator) {
  std::vector<std::string_view> documents;
  const auto add = [&](size_t begin, size_t end) {
    const std::string_view document = Strip(text.substr(begin, end - begin));
    if (!document.empty()) documents.push_back(document);
  };
  if (separator.empty()) {
    add(0, text.size());
    return documents;
  }
  size_t document_begin = 0;
  for (size_t line = 0; line < text.size();) {
    const size_t newline = std::min(text.find('\n', line), text.size());
    std::string_view content = text.substr(line, newline - line);
    if (content.ends_with('\r')) content.remove_suffix(1);
    if (content == separator) {
      add(document_begin, line);
      document_begin = std::min(newline + 1, text.size());
    }
    line = newline + 1;
  }
  add(document_begin, text.size());
  return documents;
}

Result<std::vector<TokenId>> TokenizeDocuments(const Tokenizer& tokenizer, std::string_view text,
                                               std::string_view separator) {
  std::vector<TokenId> tokens;
  const int64_t bos = tokenizer.spec().bos_token;
  for (const std::string_view document : SplitDocuments(text, separator)) {
    SDQ_ASSIGN_OR_RETURN(const std::vector<TokenId> ids,
                         tokenizer.Encode(document, /*add_special=*/false,
                                          /*parse_special=*/false));
    if (bos >= 0) tokens.push_back(TokenId(bos));
    tokens.insert(tokens.end(), ids.begin(), ids.end());
  }
  return tokens;
}

Result<std::string> ReadTextFile(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    return Status::NotFound(fmt::format("{}: {}", path, std::strerror(errno)));
  }
  if (S_ISDIR(info.st_mode)) {
    return Status::InvalidArgument(fmt::format("{}: is a directory, a text file is needed", path));
  }
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return Status::IoError(fmt::format("{}: {}", path, std::strerror(errno)));
  std::ostringstream content;
  content << stream.rdbuf();
  std::string text = std::move(content).str();
  if (text.empty()) return Status::InvalidArgument(fmt::format("{}: is empty", path));
  return text;
}

}  // namespace sdq
