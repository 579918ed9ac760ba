#include "tests/support/files.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace sdq::test {
namespace fs = std::filesystem;

std::string BundledModel(const std::string& name) {
  return std::string(SDQ_SOURCE_DIR) + "/apps/models/" + name;
}

std::string SharedPath(const std::string& relative) {
  const char* env = std::getenv("SDQ_SHARED");
  const fs::path root = env != nullptr ? fs::path(env) : fs::path(SDQ_SOURCE_DIR) / ".." / "shared";
  const fs::path path = root / relative;
  std::error_code error;
  return fs::exists(path, error) ? path.lexically_normal().string() : "";
}

std::vector<uint8_t> ReadBytes(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

void WriteBytes(const std::string& path, const std::vector<uint8_t>& bytes) {
  std::ofstream stream(path, std::ios::binary);
  stream.write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (fs::temp_directory_path() / "sdq-test-XXXXXX").string();
  path_ = ::mkdtemp(pattern.data()) != nullptr ? pattern : std::string();
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code error;
  if (!path_.empty()) fs::remove_all(path_, error);
}

}  // namespace sdq::test
