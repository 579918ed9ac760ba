#include "apps/support/app.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

#include "fmt/format.h"
#include "kernels/parallel.h"

namespace sdq::apps {
namespace {

constexpr double kTerminalInterval = 0.1;  // seconds between redraws
constexpr double kLogInterval = 10.0;      // seconds between lines when stderr is a file

std::atomic<bool> interrupted{false};

extern "C" void OnSignal(int signal_number) {
  if (interrupted.exchange(true)) {
    // The second request: the default action, now.
    ::signal(signal_number, SIG_DFL);
    ::raise(signal_number);
  }
}

std::string Duration(double seconds) {
  const int64_t s = int64_t(seconds + 0.5);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{}:{:02} min", s / 60, s % 60);
  return fmt::format("{}:{:02} h", s / 3600, s / 60 % 60);
}

}  // namespace

bool Parse(CLI::App& app, int argc, char** argv, int* exit_code) {
  try {
    app.parse(argc, argv);
    return true;
  } catch (const CLI::Success& help) {
    *exit_code = app.exit(help);
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "{}: error: {}\nTry '{} --help'.\n", app.get_name(), error.what(),
               app.get_name());
    *exit_code = kExitUsage;
  }
  return false;
}

int Fail(const CLI::App& app, const Status& status) {
  fmt::print(stderr, "{}: error: {}\n", app.get_name(), status.message());
  return kExitFailure;
}

void AddThreadsOption(CLI::App& app, int* threads) {
  app.add_option("-t,--threads", *threads, "threads (default: one per core)")
      ->check(CLI::Range(1, 256))
      ->type_name("N");
}

void ApplyThreads(int threads) { kernels::SetThreads(size_t(threads)); }

void InstallSignalHandlers() {
  struct sigaction action {};
  action.sa_handler = OnSignal;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

bool Interrupted() { return interrupted.load(std::memory_order_relaxed); }

bool WriteOut(const std::string& text) {
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
         std::fflush(stdout) == 0;
}

std::string HumanBytes(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = double(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

ProgressLine::ProgressLine(bool enabled)
    : enabled_(enabled), terminal_(::isatty(STDERR_FILENO) == 1) {}

void ProgressLine::Update(const std::string& step, double fraction) {
  if (!enabled_) return;
  const double now = watch_.seconds();
  if (now - last_ < (terminal_ ? kTerminalInterval : kLogInterval)) return;
  last_ = now;
  std::string line = fmt::format("{:3.0f}%  {}", 100 * fraction, step);
  if (fraction > 0.01 && now > 1) {
    line += fmt::format("  ({} left)", Duration(now * (1 - fraction) / fraction));
  }
  if (terminal_) {
    fmt::print(stderr, "\r\x1b[K{}", line);
    std::fflush(stderr);
    drawn_ = true;
  } else {
    fmt::print(stderr, "{}\n", line);
  }
}

void ProgressLine::Finish() {
  if (drawn_) fmt::print(stderr, "\r\x1b[K");
  drawn_ = false;
}

}  // namespace sdq::apps
