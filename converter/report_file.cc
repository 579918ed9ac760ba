#include "converter/report_file.h"

#include <cstdint>
#include <span>

namespace sdq::converter {

Result<std::unique_ptr<ReportFile>> ReportFile::Create(const std::string& path) {
  const bool page = path.ends_with(".html");
  if (!page && !path.ends_with(".svg")) {
    return Status::InvalidArgument("'" + path + "': a report is an .svg or .html file");
  }
  auto file = format::AtomicFile::Create(path);
  if (!file.ok()) return std::move(file).status().Annotate("report");
  std::unique_ptr<ReportFile> report(new ReportFile());
  report->page_ = page;
  report->file_ = *std::move(file);
  return report;
}

Status ReportFile::Write(const ReportContent& content) {
  const std::string text = page_ ? ReportHtml(content) : ReportSvg(content);
  SDQ_RETURN_IF_ERROR(
      file_->Append(std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size())));
  return file_->Commit();
}

}  // namespace sdq::converter
