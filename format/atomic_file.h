// A file that appears under its name all at once, or not at all.
#ifndef SDQ_FORMAT_ATOMIC_FILE_H_
#define SDQ_FORMAT_ATOMIC_FILE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "format/status.h"

namespace sdq::format {

// Bytes go to a temporary file in the target's folder; Commit() makes them durable and renames.
// Destruction before Commit() removes the temporary file and leaves an older target as it was.
// Readers that have the older target open or mapped keep seeing it, whole.
class AtomicFile {
 public:
  // kInvalidArgument if `path` is a directory or anything else that is not a regular file;
  // kNotFound / kIoError if its folder is missing or not writable.
  static Result<std::unique_ptr<AtomicFile>> Create(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // kResourceExhausted if the disk or the quota is full or a file size limit is reached. Bytes are
  // gathered and written some at a time, so that it may be a later call that says so.
  Status Append(std::span<const uint8_t> bytes);
  // Replaces bytes that were appended before.
  Status Overwrite(uint64_t offset, std::span<const uint8_t> bytes);
  // fsync, rename, fsync of the folder. At most once.
  Status Commit();

  uint64_t size() const { return size_; }

 private:
  AtomicFile() = default;
  Status WriteAt(uint64_t offset, std::span<const uint8_t> bytes);
  Status Flush();

  std::string path_;
  std::string folder_;
  std::string temporary_;  // empty when there is none to remove
  int fd_ = -1;
  uint64_t size_ = 0;
  std::vector<uint8_t> gathered_;  // the last bytes, not yet written
};

}  // namespace sdq::format

#endif  // SDQ_FORMAT_ATOMIC_FILE_H_
