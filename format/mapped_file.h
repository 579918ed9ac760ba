// A file's bytes: mmap where it works, read() into aligned memory where it does not.
#ifndef SDQ_FORMAT_MAPPED_FILE_H_
#define SDQ_FORMAT_MAPPED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "format/status.h"

namespace sdq::format {

// Movable, not copyable. The span stays valid, at the same address, until destruction.
// At least 64 zero bytes are readable after the last byte (kernels may over-read a vector).
// A mapped file must not be cut short while in use: the system answers a read behind the new end
// with SIGBUS. Replacing it by rename, as SdqWriter does, is safe; Mode::kRead has no such risk.
class MappedFile {
 public:
  enum class Mode { kAuto, kMmap, kRead };  // kAuto: map, or read where mapping fails
  // Directories, devices and empty files are refused with a message that says so.
  static Result<MappedFile> Open(const std::string& path, Mode mode = Mode::kAuto);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  bool is_mapped() const { return mapped_; }
  // Gives back the memory of the whole pages of `part`, a part of bytes(), until they are read
  // again; nothing where the file was read into memory.
  void Forget(std::span<const uint8_t> part) const;

 private:
  MappedFile() = default;
  void Release();
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
  size_t reserved_ = 0;
  bool mapped_ = false;
};

}  // namespace sdq::format

#endif  // SDQ_FORMAT_MAPPED_FILE_H_
