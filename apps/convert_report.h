// sdq-convert --report: what the program adds to a report of the library.
#ifndef SDQ_APPS_CONVERT_REPORT_H_
#define SDQ_APPS_CONVERT_REPORT_H_

#include <memory>
#include <optional>
#include <string>

#include "converter/checkpoint.h"
#include "converter/pipeline.h"
#include "converter/rate_plan.h"
#include "converter/report_file.h"
#include "format/status.h"

namespace sdq::apps {

// What was asked for, as far as ConvertOptions do not say.
struct ReportRequest {
  std::string checkpoint, output;  // paths
  std::string allocation;          // by name
  bool overrides = false;          // some rates are exceptions
  std::optional<converter::RateBudget> budget;
  std::string embeddings;
  std::string command;
  bool quiet = false;
};

// Compares the finished file with the float model where there is calibration text, and writes the
// report.
Status WriteReport(const converter::Checkpoint& checkpoint,
                   const converter::ConvertOptions& options, const converter::RatePlan& plan,
                   const converter::ConvertReport& report, const ReportRequest& request,
                   converter::ReportFile* file);

}  // namespace sdq::apps

#endif  // SDQ_APPS_CONVERT_REPORT_H_
