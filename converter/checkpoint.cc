#include "converter/checkpoint.h"

#include <array>
#include <filesystem>
#include <fstream>

#include "converter/gguf_checkpoint.h"
#include "converter/hf_checkpoint.h"

namespace sdq::converter {
namespace {

namespace fs = std::filesystem;

// By its name or by its first bytes.
bool IsGguf(const std::string& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return false;
  if (fs::path(path).extension() == ".gguf") return true;
  std::array<char, 4> magic{};
  std::ifstream(path, std::ios::binary).read(magic.data(), magic.size());
  return LooksLikeGguf({reinterpret_cast<const uint8_t*>(magic.data()), magic.size()});
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& path) {
  return IsGguf(path) ? GgufCheckpoint::OpenFile(path) : HfCheckpoint::OpenFolder(path);
}

}  // namespace sdq::converter
