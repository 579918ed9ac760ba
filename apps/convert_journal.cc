#include "apps/convert_journal.h"

#include <filesystem>
#include <set>
#include <utility>
#include <vector>

#include "apps/support/app.h"
#include "apps/support/machine.h"
#include "converter/fingerprint.h"
#include "fmt/format.h"
#include "format/checksum.h"
#include "kernels/dispatch.h"
#include "kernels/tile_product.h"
#include "runtime/corpus.h"

namespace sdq::apps {
namespace {

// Options that the bytes of the output do not depend on. Those that name a file count by what is in
// it; the checkpoint has its fingerprint.
bool IsNeutral(const std::string& option) {
  static const std::set<std::string> kNeutral = {"--help",  "--version", "--output",  "--resume",
                                                 "--quiet", "--report",  "--threads", "checkpoint"};
  return kNeutral.contains(option);
}

Result<std::string> SettingOf(const CLI::Option& option) {
  const std::string value = fmt::format("{}", fmt::join(option.results(), " "));
  const bool file = option.get_name() == "--calib" || option.get_name() == "--osr-file";
  if (!file || value.empty() || value == "none") return value;
  SDQ_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(value));
  return fmt::format(
      "{}, checksum {:016x}", std::filesystem::path(value).filename().string(),
      format::Checksum({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
}

// Everything that the output depends on.
Result<std::vector<converter::JournalSetting>> Settings(const CLI::App& app,
                                                        const converter::Checkpoint& checkpoint,
                                                        bool show_progress) {
  std::vector<converter::JournalSetting> settings;
  for (const CLI::Option* option : app.get_options()) {
    if (IsNeutral(option->get_name())) continue;
    SDQ_ASSIGN_OR_RETURN(std::string value, SettingOf(*option));
    settings.push_back({option->get_name(), std::move(value)});
  }
  settings.push_back({"the program", fmt::format("{} ({})", app.version(), BuildCommit())});
  settings.push_back(
      {"the instruction set (SDQ_TARGET)",
       kernels::TargetName() + (kernels::TileProductsAvailable() ? " and tiles" : "")});
  ProgressLine progress(show_progress);
  const auto fingerprint = converter::Fingerprint(checkpoint, [&](double share) {
    progress.Update("reading the checkpoint", share);
    return !Interrupted();
  });
  progress.Finish();
  if (!fingerprint.ok()) return fingerprint.status();
  settings.push_back({"the checkpoint's checksum", fmt::format("{:016x}", *fingerprint)});
  return settings;
}

}  // namespace

Result<std::unique_ptr<converter::Journal>> OpenJournal(const CLI::App& app,
                                                        const converter::Checkpoint& checkpoint,
                                                        const std::string& output, bool resume,
                                                        bool talk) {
  SDQ_ASSIGN_OR_RETURN(const auto settings, Settings(app, checkpoint, talk));
  SDQ_ASSIGN_OR_RETURN(auto journal, converter::Journal::Open(output, settings, resume));
  if (talk && !journal->empty()) {
    Say(fmt::format("going on from {}, finished layers: {}\n", journal->path(),
                    journal->finished_layers()));
  }
  return journal;
}

Status KeepFinished(converter::Journal& journal, Status error) {
  const bool interrupted = error.code() == StatusCode::kCancelled;
  if (journal.finished_layers() == 0 && (journal.empty() || !interrupted)) {
    journal.Remove();
    return error;
  }
  return {error.code(),
          fmt::format("{}; {} keeps what is finished ({} layers), --resume goes on from there",
                      error.message(), journal.path(), journal.finished_layers())};
}

}  // namespace sdq::apps
