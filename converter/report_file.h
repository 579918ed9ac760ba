// A report as a file: opened before the work that it is about, written after it.
#ifndef SDQ_CONVERTER_REPORT_FILE_H_
#define SDQ_CONVERTER_REPORT_FILE_H_

#include <memory>
#include <string>

#include "converter/report.h"
#include "format/atomic_file.h"
#include "format/status.h"

namespace sdq::converter {

class ReportFile {
 public:
  // By the ending of `path`: .svg, the figure, or .html, the page (kInvalidArgument for others).
  // Errors as AtomicFile::Create: a folder that is missing is known at once, not after hours.
  static Result<std::unique_ptr<ReportFile>> Create(const std::string& path);

  // At most once. The file appears whole, or not at all.
  Status Write(const ReportContent& content);

 private:
  ReportFile() = default;
  bool page_ = false;
  std::unique_ptr<format::AtomicFile> file_;
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_REPORT_FILE_H_
