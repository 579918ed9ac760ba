// Where tests find and leave files.
#ifndef SDQ_TESTS_SUPPORT_FILES_H_
#define SDQ_TESTS_SUPPORT_FILES_H_

#include <cstdint>
#include <string>
#include <vector>

namespace sdq::test {

// Bundled checkpoints: <source>/apps/models/<name>.
std::string BundledModel(const std::string& name);

// The data folder beside the source tree (or $SDQ_SHARED); "" if there is none. Tests that need it
// begin with SDQ_NEEDS_SHARED(path, "golden/tiny").
std::string SharedPath(const std::string& relative);

std::vector<uint8_t> ReadBytes(const std::string& path);
void WriteBytes(const std::string& path, const std::vector<uint8_t>& bytes);

// A fresh folder, removed with everything in it at the end of the scope.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace sdq::test

#define SDQ_NEEDS_SHARED(variable, relative)                                     \
  const std::string variable = ::sdq::test::SharedPath(relative);                \
  if (variable.empty()) {                                                        \
    WARN("SKIPPED: no shared data folder (set SDQ_SHARED): needs " << relative); \
    return;                                                                      \
  }

#endif  // SDQ_TESTS_SUPPORT_FILES_H_
