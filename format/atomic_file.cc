#include "format/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <random>

namespace sdq::format {
namespace {

constexpr size_t kWriteAtOnce = size_t{1} << 30;  // write() takes less than 2 GiB per call
constexpr int kNameAttempts = 16;
// Whole huge pages of the file at a time: the page cache then keeps them as such, as it would a
// file that was read from the disk, and a model that was just written runs as fast as it will
// later.
constexpr size_t kWriteTogether = size_t{2} << 20;

Status WriteError(const std::string& path, const char* what) {
  const int error = errno;
  std::string message = fmt::format("{}: cannot {}: {}", path, what, std::strerror(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return Status::NotFound(std::move(message));
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return Status::ResourceExhausted(std::move(message));
    default:
      return Status::IoError(std::move(message));
  }
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// rename() would replace a device or fail late on a directory: say so before any work is done.
Status CheckTarget(const std::string& path) {
  struct stat info = {};
  if (path.empty()) return Status::InvalidArgument("the output path is empty");
  if (::stat(path.c_str(), &info) != 0) {
    if (path.back() == '/') {
      return Status::InvalidArgument(fmt::format("{}: names a directory, not a file", path));
    }
    return Status::Ok();
  }
  if (S_ISDIR(info.st_mode)) {
    return Status::InvalidArgument(fmt::format("{}: is a directory, not a file", path));
  }
  if (!S_ISREG(info.st_mode)) {
    return Status::InvalidArgument(
        fmt::format("{}: is not a regular file; the output must be one", path));
  }
  return Status::Ok();
}

}  // namespace

Result<std::unique_ptr<AtomicFile>> AtomicFile::Create(const std::string& path) {
  SDQ_RETURN_IF_ERROR(CheckTarget(path));
  std::unique_ptr<AtomicFile> file(new AtomicFile());
  file->path_ = path;
  file->folder_ = FolderOf(path);
  std::random_device random;
  for (int attempt = 0; attempt < kNameAttempts && file->fd_ < 0; ++attempt) {
    const std::string name =
        fmt::format("{}/.sdq-{}-{:08x}.tmp", file->folder_, ::getpid(), random());
    file->fd_ = ::open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file->fd_ >= 0) {
      file->temporary_ = name;
    } else if (errno != EEXIST) {
      break;
    }
  }
  if (file->fd_ < 0) return WriteError(path, "create a temporary file beside it");
  return file;
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Status AtomicFile::WriteAt(uint64_t offset, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(fd_, bytes.data(), std::min(bytes.size(), kWriteAtOnce),
                                   static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return WriteError(path_, "write");
    bytes = bytes.subspan(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
  return Status::Ok();
}

Status AtomicFile::Append(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const size_t count = std::min(bytes.size(), kWriteTogether - gathered_.size());
    gathered_.insert(gathered_.end(), bytes.begin(), bytes.begin() + std::ptrdiff_t(count));
    size_ += count;
    bytes = bytes.subspan(count);
    if (gathered_.size() == kWriteTogether) SDQ_RETURN_IF_ERROR(Flush());
  }
  return Status::Ok();
}

Status AtomicFile::Flush() {
  SDQ_RETURN_IF_ERROR(WriteAt(size_ - gathered_.size(), gathered_));
  gathered_.clear();
  return Status::Ok();
}

Status AtomicFile::Overwrite(uint64_t offset, std::span<const uint8_t> bytes) {
  SDQ_RETURN_IF_ERROR(Flush());
  return WriteAt(offset, bytes);
}

Status AtomicFile::Commit() {
  SDQ_RETURN_IF_ERROR(Flush());
  if (::fsync(fd_) != 0) return WriteError(path_, "write to disk");
  const int closed = ::close(fd_);
  fd_ = -1;
  if (closed != 0) return WriteError(path_, "close");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) return WriteError(path_, "replace");
  temporary_.clear();
  // The file is in place; a folder that cannot be synced (some network disks) does not undo that.
  const int folder = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    (void)::fsync(folder);
    ::close(folder);
  }
  return Status::Ok();
}

}  // namespace sdq::format
