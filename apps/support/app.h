// What every program of the project shares: exit codes, errors, signals, threads, progress.
#ifndef SDQ_APPS_SUPPORT_APP_H_
#define SDQ_APPS_SUPPORT_APP_H_

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <string>

#include "format/status.h"
#include "kernels/kv_cache.h"

namespace sdq::apps {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;

// What main() calls: sees that the standard streams exist, so that no model file is opened in the
// place of one that the caller closed, and turns an exception (memory, mostly) into a failure.
int RunProgram(const char* name, int (*program)(int argc, char** argv), int argc, char** argv);

// Parses; returns true to go on, else sets *exit_code (0 after --help / --version, 2 on misuse).
bool Parse(CLI::App& app, int argc, char** argv, int* exit_code);

// Text on stderr, as far as anybody reads it.
void Say(const std::string& text);

// "<program>: error: <message>" on stderr; returns 1.
int Fail(const CLI::App& app, const Status& status);

// The same with a hint at --help; returns 2.
int Misuse(const CLI::App& app, const std::string& message);

// Checks for options. Unlike CLI11's own they refuse NaN, signs on unsigned numbers and values that
// wrap around, and say the limits as a person would write them.
CLI::Validator IntegerFrom(int64_t least, int64_t most = INT64_MAX);
CLI::Validator NumberFrom(double least, double most);

// Adds -t/--threads (checked to be 1..256) and applies it after parsing by ApplyThreads.
void AddThreadsOption(CLI::App& app, int* threads);
void ApplyThreads(int threads);

// Adds --kv: elements of the KV cache.
void AddKvOption(CLI::App& app, kernels::KvType* type);
// As --kv names it.
std::string KvName(kernels::KvType type);

// Says so on stderr when SDQ_TARGET names an instruction set that is not in use.
void WarnIfTargetIgnored(const CLI::App& app);

// Ctrl-C and SIGTERM set a flag instead of ending the process; a second one ends it at once.
// SIGPIPE is ignored: writes report errors instead.
void InstallSignalHandlers();
bool Interrupted();

// The command as it could be typed into a shell, under the program's own name.
std::string CommandText(const CLI::App& app, int argc, char** argv);

// Writes all of `text` to stdout and flushes. kIoError if it cannot: nobody reads, the disk is
// full.
Status WriteOut(const std::string& text);

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

// One line on stderr with percentage and remaining time: redrawn on a terminal, printed every ten
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
  double last_ = 0;  // when a line was last drawn
};

}  // namespace sdq::apps

#endif  // SDQ_APPS_SUPPORT_APP_H_
