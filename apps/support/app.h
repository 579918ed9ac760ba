// What every program of the project shares: exit codes, errors, signals, threads, progress.
#ifndef SDQ_APPS_SUPPORT_APP_H_
#define SDQ_APPS_SUPPORT_APP_H_

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <string>

#include "format/status.h"

namespace sdq::apps {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;

// Parses; returns true to go on, else sets *exit_code (0 after --help / --version, 2 on misuse).
bool Parse(CLI::App& app, int argc, char** argv, int* exit_code);

// "<program>: error: <message>" on stderr; returns 1 (2 for kInvalidArgument when `usage`).
int Fail(const CLI::App& app, const Status& status);

// Adds -t/--threads (checked to be 1..256) and applies it after parsing by ApplyThreads.
void AddThreadsOption(CLI::App& app, int* threads);
void ApplyThreads(int threads);

// Ctrl-C and SIGTERM set a flag instead of ending the process; a second one ends it at once.
// SIGPIPE is ignored: writes report errors instead.
void InstallSignalHandlers();
bool Interrupted();

// Writes all of `text` to stdout and flushes; false if nobody reads any more.
bool WriteOut(const std::string& text);

// "12.3 MiB"
std::string HumanBytes(uint64_t bytes);

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// One line on stderr with percentage and remaining time: redrawn on a terminal, printed every few
// seconds elsewhere.
class ProgressLine {
 public:
  explicit ProgressLine(bool enabled);
  void Update(const std::string& step, double fraction);
  void Finish();  // clears the line on a terminal

 private:
  bool enabled_;
  bool terminal_;
  bool drawn_ = false;
  Stopwatch watch_;
  double last_ = -1e9;
};

}  // namespace sdq::apps

#endif  // SDQ_APPS_SUPPORT_APP_H_
