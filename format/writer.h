// Streaming writer: tensors go to disk as they come; memory holds one tensor at most.
//
// The file appears under its final name only when Finish() succeeded: bytes go to a temporary file
// in the same folder, which is fsynced and renamed (the folder is fsynced too). A writer that is
// destroyed before Finish() removes its temporary file and leaves an older target file whole.
#ifndef SDQ_FORMAT_WRITER_H_
#define SDQ_FORMAT_WRITER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/metadata.h"
#include "format/status.h"
#include "format/tensor.h"

namespace sdq::format {

class SdqWriter {
 public:
  static Result<std::unique_ptr<SdqWriter>> Create(const std::string& path,
                                                   uint32_t alignment = kDefaultAlignment);
  ~SdqWriter();

  // Views are written at once and need not outlive the call. Names must be unique; sizes must be
  // what the description implies (InvalidArgument otherwise, nothing written).
  Status Add(const DenseView& tensor);
  Status Add(const StreamView& tensor);

  // Writes metadata and tables, fsyncs, renames. No other call may follow.
  Status Finish(const Metadata& metadata);

  uint64_t bytes_written() const;

 private:
  SdqWriter();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sdq::format

#endif  // SDQ_FORMAT_WRITER_H_
