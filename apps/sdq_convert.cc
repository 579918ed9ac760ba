// sdq-convert: a checkpoint in, an .sdq file out.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>

#include "apps/convert_command.h"
#include "apps/convert_journal.h"
#include "apps/convert_report.h"
#include "apps/support/app.h"
#include "converter/allocate.h"
#include "converter/checkpoint.h"
#include "converter/file_plan.h"
#include "converter/finished_work.h"
#include "converter/journal.h"
#include "converter/own_text.h"
#include "converter/pipeline.h"
#include "converter/random_checkpoint.h"
#include "converter/random_model.h"
#include "converter/rate_plan.h"
#include "converter/report_file.h"
#include "fmt/format.h"
#include "runtime/corpus.h"
#include "runtime/tokenizer.h"

namespace sdq::apps {
namespace {

using converter::ConvertReport;
using converter::Method;

using Options = ConvertCommand;

constexpr double kTrellisDamping = 0.1;

// Keys of a journal, beside those of layers.
constexpr char kOwnTextKey[] = "own text";
constexpr char kSensitivitiesKey[] = "sensitivities";
constexpr char kTablesKey[] = "table sensitivities";

Status WriteCalibration(const converter::Checkpoint& checkpoint, Options& o) {
  converter::Journal* journal = o.convert.journal;
  if (journal != nullptr && journal->Has(kOwnTextKey)) {
    SDQ_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, journal->Read(kOwnTextKey));
    SDQ_ASSIGN_OR_RETURN(o.convert.calibration, converter::DecodeTokens(bytes));
    return Status::Ok();
  }
  converter::OwnTextOptions options;
  options.tokens = o.calibration_tokens != 0 ? o.calibration_tokens : kOwnTokens;
  options.window = o.convert.calibration_window;
  options.seed = o.convert.seed;
  ProgressLine progress(!o.quiet);
  auto text = converter::WriteOwnText(checkpoint, options, [&](size_t done, size_t total) {
    progress.Update("calibration text by the float model", double(done) / double(total));
    return !Interrupted();
  });
  progress.Finish();
  if (!text.ok()) return std::move(text).status();
  o.convert.calibration = *std::move(text);
  if (journal == nullptr) return Status::Ok();
  return journal->Append(kOwnTextKey, converter::EncodeTokens(o.convert.calibration));
}

Status ReadCalibration(const converter::Checkpoint& checkpoint, Options& o) {
  SDQ_ASSIGN_OR_RETURN(TokenizerSpec spec, checkpoint.LoadTokenizer());
  SDQ_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Create(std::move(spec)));
  SDQ_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(o.calibration_file));
  SDQ_ASSIGN_OR_RETURN(o.convert.calibration, TokenizeDocuments(tokenizer, text, o.separator));
  const size_t tokens = o.calibration_tokens != 0 ? o.calibration_tokens : kFileTokens;
  if (o.convert.calibration.size() > tokens) o.convert.calibration.resize(tokens);
  return Status::Ok();
}

bool WantsText(const Options& o) { return o.calibration_file != kNoCalibration && !o.random; }

bool IsStream(const converter::TableStorage& table) {
  return table.type == converter::TableType::kStream;
}

// Of a text that CheckTable() accepts; for "auto" the default, until the plan decides.
converter::TableStorage ParseTable(const std::string& text) {
  converter::TableStorage storage;
  if (const auto type = kTableTypes.find(text); type != kTableTypes.end()) {
    storage.type = type->second;
  } else if (const auto rate = converter::ParseRate(text); rate.ok()) {
    storage = {converter::TableType::kStream, *rate};
  }
  return storage;
}

// How embeddings and head are stored, and whether they share the budget.
void ReadTableOptions(const converter::Checkpoint& checkpoint, Options& o,
                      converter::RateRequest* request) {
  const bool share = !o.target_size.empty() && o.convert.method == Method::kTrellis &&
                     request->allocation == converter::Allocation::kSensitivity;
  if (o.embeddings.empty()) o.embeddings = share ? kShared : "q8";
  if (o.head.empty()) o.head = o.embeddings;
  o.convert.embeddings = ParseTable(o.embeddings);
  o.convert.head = ParseTable(o.head);
  if (o.embeddings == kShared) request->shared_tables.push_back("embed.tokens");
  if (o.head == kShared && !checkpoint.config().tied_embeddings) {
    request->shared_tables.push_back("head");
  }
}

// How the linears are to share what; nothing is measured yet.
Result<converter::RateRequest> MakeRequest(const converter::Checkpoint& checkpoint, Options& o) {
  using Kind = converter::RateBudget::Kind;
  converter::RateRequest request;
  const bool has_text = WantsText(o);
  // The published method stays as published unless asked otherwise.
  const bool measure = has_text && o.convert.method == Method::kTrellis;
  request.allocation =
      kAllocations.at(!o.allocation.empty() ? o.allocation : (measure ? "sensitivity" : "uniform"));
  if (!o.rate_file.empty()) {
    SDQ_ASSIGN_OR_RETURN(request.overrides, ReadTextFile(o.rate_file));
  }
  if (o.bits_per_weight > 0) request.budget = {Kind::kBitsPerWeight, o.bits_per_weight};
  if (!o.target_size.empty()) {
    SDQ_ASSIGN_OR_RETURN(const uint64_t bytes,
                         converter::ParseTargetSize(
                             o.target_size, converter::FilePlan::HalfPrecisionBytes(checkpoint)));
    request.budget = {Kind::kFileBytes, double(bytes)};
  }
  if (request.allocation == converter::Allocation::kSensitivity && !has_text) {
    return Status::InvalidArgument("--allocate sensitivity needs calibration text");
  }
  ReadTableOptions(checkpoint, o, &request);
  return request;
}

Result<converter::Sensitivities> MeasureOrRestore(const converter::Checkpoint& checkpoint,
                                                  const Options& o) {
  converter::Journal* journal = o.convert.journal;
  if (journal != nullptr && journal->Has(kSensitivitiesKey) && journal->Has(kTablesKey)) {
    converter::Sensitivities restored;
    SDQ_ASSIGN_OR_RETURN(const std::vector<uint8_t> linears, journal->Read(kSensitivitiesKey));
    SDQ_ASSIGN_OR_RETURN(restored.linears, converter::DecodeSensitivities(linears));
    SDQ_ASSIGN_OR_RETURN(const std::vector<uint8_t> tables, journal->Read(kTablesKey));
    SDQ_ASSIGN_OR_RETURN(restored.tables, converter::DecodeTableSensitivities(tables));
    return restored;
  }
  std::vector<double> errors;
  for (const converter::Rate rate : converter::CandidateRates(o.convert)) {
    errors.push_back(converter::ExpectedError(o.convert, rate));
  }
  converter::SensitivityOptions options;
  options.window = o.convert.calibration_window;
  options.damping = o.convert.damping;
  options.seed = o.convert.seed;
  options.precision = kernels::Precision::kRounded;
  ProgressLine progress(!o.quiet);
  auto measured = converter::MeasureSensitivity(checkpoint, o.convert.calibration, errors, options,
                                                [&](double share) {
                                                  progress.Update("sensitivities", share);
                                                  return !Interrupted();
                                                });
  progress.Finish();
  if (!measured.ok() || journal == nullptr) return measured;
  if (!journal->Has(kSensitivitiesKey)) {
    SDQ_RETURN_IF_ERROR(
        journal->Append(kSensitivitiesKey, converter::EncodeSensitivities(measured->linears)));
  }
  SDQ_RETURN_IF_ERROR(
      journal->Append(kTablesKey, converter::EncodeTableSensitivities(measured->tables)));
  return measured;
}

// What errors of linears and tables cost, as far as anything depends on it: measured, or as it was
// before.
Status Measure(const converter::Checkpoint& checkpoint, Options& o,
               converter::RateRequest* request) {
  const bool by_sensitivity = request->allocation == converter::Allocation::kSensitivity;
  const bool streams = IsStream(o.convert.embeddings) || IsStream(o.convert.head);
  const bool report = !o.report_file.empty();
  if (!WantsText(o) || (!by_sensitivity && !streams && !report)) return Status::Ok();
  SDQ_ASSIGN_OR_RETURN(converter::Sensitivities measured, MeasureOrRestore(checkpoint, o));
  for (const converter::TableSensitivity& table : measured.tables) {
    o.convert.table_hessians[table.name] = table.hessian;
  }
  if (by_sensitivity || report) request->sensitivities = std::move(measured.linears);
  if (by_sensitivity) request->tables = std::move(measured.tables);
  return Status::Ok();
}

struct Planned {
  converter::RateRequest request;
  converter::RatePlan plan;
};

// What is asked for. What cannot be had is refused here, before the first of long works.
Status Prepare(const converter::Checkpoint& checkpoint, Options& o, Planned* planned) {
  if (o.convert.method == Method::kFloat) {
    if (o.bits_per_weight > 0 || !o.target_size.empty()) {
      return Status::InvalidArgument("--bpw and --target-size need a method that quantizes");
    }
    if (IsStream(ParseTable(o.embeddings)) || IsStream(ParseTable(o.head))) {
      return Status::InvalidArgument("embeddings and head as bitstreams need --method trellis");
    }
    return Status::Ok();
  }
  if (o.convert.method == Method::kTrellis && !o.damping_given) o.convert.damping = kTrellisDamping;
  if (WantsText(o)) {
    o.convert.calibration_name =
        o.calibration_file.empty() ? "own text"
                                   : std::filesystem::path(o.calibration_file).filename().string();
  }
  SDQ_ASSIGN_OR_RETURN(planned->request, MakeRequest(checkpoint, o));
  return converter::CheckRequest(checkpoint, o.convert, planned->request);
}

// Calibration text and rates.
Status Plan(const converter::Checkpoint& checkpoint, Options& o, Planned* planned) {
  converter::RateRequest& request = planned->request;
  if (WantsText(o)) {
    SDQ_RETURN_IF_ERROR(o.calibration_file.empty() ? WriteCalibration(checkpoint, o)
                                                   : ReadCalibration(checkpoint, o));
  }
  SDQ_RETURN_IF_ERROR(Measure(checkpoint, o, &request));
  for (const converter::Sensitivity& linear : request.sensitivities) {
    o.convert.row_costs[linear.name] = linear.row_costs;
  }
  converter::RatePlan& plan = planned->plan;
  SDQ_ASSIGN_OR_RETURN(plan, converter::PlanRates(checkpoint, o.convert, request));
  o.convert.rates = plan.rates;
  for (const converter::TablePlan& table : plan.tables) {
    (table.name == "head" ? o.convert.head : o.convert.embeddings) = table.storage;
  }
  if (request.budget) o.convert.osr = plan.mean_osr;
  if (o.quiet) return Status::Ok();
  std::string text = converter::FormatAllocation(plan.items, plan.rates) + "\n";
  double tables_loss = 0;
  for (const converter::TablePlan& table : plan.tables) {
    tables_loss += table.predicted_loss;
    text += fmt::format("{}: {}\n", table.name,
                        table.storage.type == converter::TableType::kStream
                            ? fmt::format("OSR {:.4g}", table.storage.rate.osr())
                            : "8-bit rows");
  }
  if (!plan.predicted_losses.empty()) {
    text += fmt::format(
        "predicted KL {:.4f} nats per token\n\n",
        std::accumulate(plan.predicted_losses.begin(), plan.predicted_losses.end(), tables_loss));
  }
  return WriteOut(text);
}

std::string ReportText(const ConvertReport& report, const std::string& path, double seconds) {
  std::string text;
  if (!report.linears.empty()) {
    text += fmt::format("{:<28} {:>14} {:>7} {:>8} {:>12}\n", "linear", "shape", "OSR", "bits/w",
                        "rel. error");
    const auto add = [&](const converter::LinearReport& linear) {
      text += fmt::format("{:<28} {:>14} {:>7.3f} {:>8.3f} {:>12.5f}\n", linear.name,
                          fmt::format("{} x {}", linear.rows, linear.columns), linear.osr,
                          linear.bits_per_weight, linear.relative_error);
    };
    std::for_each(report.linears.begin(), report.linears.end(), add);
    std::for_each(report.tables.begin(), report.tables.end(), add);
    text += fmt::format("mean OSR {:.4f}, {:.4f} bits per weight in quantized linears\n",
                        report.mean_osr, report.bits_per_weight);
  }
  if (report.encoder_seconds > 0) {
    const auto weights = double(report.encoded_weights);
    text += fmt::format("encoder: {:.0f} weights/s, {:.0f} with calibration\n",
                        weights / report.encoder_seconds, weights / seconds);
  }
  text += fmt::format("{}: {} ({} bytes) in {:.1f} s\n", path, HumanBytes(report.file_bytes),
                      report.file_bytes, seconds);
  return text;
}

// Plans and does the work.
Result<ConvertReport> Work(const converter::Checkpoint& checkpoint, Options& o, Planned* planned) {
  if (o.convert.method != Method::kFloat) SDQ_RETURN_IF_ERROR(Plan(checkpoint, o, planned));
  ProgressLine progress(!o.quiet);
  // Random floats need no encoder; random bitstreams come without one.
  const bool encode = !o.random || o.convert.method == Method::kFloat;
  auto report = (encode ? converter::Convert : converter::WriteRandomModel)(
      checkpoint, o.convert, o.output, [&](const converter::ConvertProgress& p) {
        progress.Update(p.step, p.fraction);
        return !Interrupted();
      });
  progress.Finish();
  return report;
}

// Null without --report. Refuses before the work what would fail after it.
Result<std::unique_ptr<converter::ReportFile>> OpenReport(const Options& o) {
  if (o.report_file.empty()) return std::unique_ptr<converter::ReportFile>();
  if (o.random || kMethods.at(o.method) == Method::kFloat) {
    return Status::InvalidArgument("--report needs weights and a method that quantizes them");
  }
  if (o.report_file == o.output) {
    return Status::InvalidArgument("--report and --output are the same file");
  }
  return converter::ReportFile::Create(o.report_file);
}

Status Report(const converter::Checkpoint& checkpoint, const Options& o, const Planned& planned,
              const ConvertReport& report, converter::ReportFile* file) {
  ReportRequest request;
  request.checkpoint = o.checkpoint;
  request.output = o.output;
  for (const auto& [name, allocation] : kAllocations) {
    if (allocation == planned.request.allocation) request.allocation = name;
  }
  request.overrides = !o.rate_file.empty();
  request.budget = planned.request.budget;
  request.embeddings = o.embeddings;
  request.command = o.command;
  request.quiet = o.quiet;
  return WriteReport(checkpoint, o.convert, planned.plan, report, request, file)
      .Annotate(o.output + " was written, its report was not");
}

Result<ConvertReport> RunConversion(const CLI::App& app, Options& o) {
  SDQ_ASSIGN_OR_RETURN(const auto report_file, OpenReport(o));
  SDQ_ASSIGN_OR_RETURN(const auto checkpoint,
                       o.random ? converter::OpenRandomCheckpoint(o.checkpoint, o.convert.seed)
                                : converter::Checkpoint::Open(o.checkpoint));
  o.convert.method = kMethods.at(o.method);
  if (o.alphabet.empty())
    o.alphabet = o.convert.method == Method::kPublished ? "ternary" : "binary";
  o.convert.alphabet = kAlphabets.at(o.alphabet);
  Planned planned;
  SDQ_RETURN_IF_ERROR(Prepare(*checkpoint, o, &planned));
  // Copies and random bits are not worth keeping half of.
  if (o.random || o.convert.method == Method::kFloat) return Work(*checkpoint, o, &planned);
  SDQ_ASSIGN_OR_RETURN(const auto journal,
                       OpenJournal(app, *checkpoint, o.output, o.resume, !o.quiet));
  o.convert.journal = journal.get();
  Result<ConvertReport> report = Work(*checkpoint, o, &planned);
  if (!report.ok()) return KeepFinished(*journal, std::move(report).status());
  journal->Remove();
  if (report_file) {
    SDQ_RETURN_IF_ERROR(Report(*checkpoint, o, planned, *report, report_file.get()));
  }
  return report;
}

int Main(int argc, char** argv) {
  CLI::App app("Converts a trained checkpoint into an .sdq file.", "sdq-convert");
  Options options;
  DeclareConvert(app, options);
  int exit_code = kExitOk;
  if (!Parse(app, argc, argv, &exit_code)) return exit_code;
  InstallSignalHandlers();
  ApplyThreads(options.threads);
  WarnIfTargetIgnored(app);
  options.damping_given = app.count("--damping") > 0;
  options.command = CommandText(app, argc, argv);
  const Stopwatch watch;
  const Result<ConvertReport> report = RunConversion(app, options);
  if (!report.ok()) return Fail(app, report.status());
  if (options.quiet) return kExitOk;
  const Status written = WriteOut(ReportText(*report, options.output, watch.seconds()));
  return written.ok() ? kExitOk : Fail(app, written);
}

}  // namespace
}  // namespace sdq::apps

int main(int argc, char** argv) {
  return sdq::apps::RunProgram("sdq-convert", sdq::apps::Main, argc, argv);
}
