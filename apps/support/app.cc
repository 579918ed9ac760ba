#include "apps/support/app.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <new>

#include "fmt/format.h"
#include "fmt/ranges.h"
#include "kernels/dispatch.h"
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

// A closed descriptor 0, 1 or 2 would be given to the next file that is opened, and messages would
// go into that file. The stand-ins cannot be used in the stream's direction, so that reading or
// writing still fails.
void OpenStandardStreams() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
    // The lowest free descriptor is `fd`: all before it are open.
    if (::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0) return;
  }
}

template <typename T>
CLI::Validator RangeOf(const char* kind, const char* type, T least, T most, T no_limit) {
  const std::string limits = most == no_limit ? fmt::format("of at least {}", least)
                                              : fmt::format("from {} to {}", least, most);
  return CLI::Validator(
      [=](const std::string& text) -> std::string {
        T value{};
        const char* end = text.data() + text.size();
        const auto [rest, error] = std::from_chars(text.data(), end, value);
        // Written so that NaN fails.
        if (error == std::errc() && rest == end && value >= least && value <= most) return "";
        return fmt::format("'{}' is not a {} {}", text, kind, limits);
      },
      type);
}

std::string Duration(double seconds) {
  const int64_t s = int64_t(seconds + 0.5);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{}:{:02} min", s / 60, s % 60);
  return fmt::format("{}:{:02} h", s / 3600, s / 60 % 60);
}

}  // namespace

int RunProgram(const char* name, int (*program)(int argc, char** argv), int argc, char** argv) {
  OpenStandardStreams();
  std::string what;
  try {
    return program(argc, argv);
  } catch (const std::bad_alloc&) {
    what = "not enough memory";
  } catch (const std::exception& error) {
    what = error.what();
  }
  Say(fmt::format("{}: error: {}\n", name, what));
  return kExitFailure;
}

bool Parse(CLI::App& app, int argc, char** argv, int* exit_code) {
  ::signal(SIGPIPE, SIG_IGN);  // --help into a closed pipe is a failed write, not a death
  app.set_version_flag("--version", fmt::format("{} {}", app.get_name(), SDQ_VERSION));
  try {
    app.parse(argc, argv);
    return true;
  } catch (const CLI::CallForHelp&) {
    *exit_code = WriteOut(app.help()).ok() ? kExitOk : kExitFailure;
  } catch (const CLI::CallForVersion& version) {
    *exit_code = WriteOut(fmt::format("{}\n", version.what())).ok() ? kExitOk : kExitFailure;
  } catch (const CLI::RequiredError& error) {
    // CLI11 names what is missing first; a flag that nobody knows is the likelier mistake.
    const std::vector<std::string> unknown = app.remaining();
    *exit_code =
        Misuse(app, unknown.empty() ? error.what() : "unknown argument: " + unknown.front());
  } catch (const CLI::ParseError& error) {
    *exit_code = Misuse(app, error.what());
  }
  return false;
}

void Say(const std::string& text) { (void)!std::fwrite(text.data(), 1, text.size(), stderr); }

int Misuse(const CLI::App& app, const std::string& message) {
  Say(fmt::format("{}: error: {}\nTry '{} --help'.\n", app.get_name(), message, app.get_name()));
  return kExitUsage;
}

int Fail(const CLI::App& app, const Status& status) {
  Say(fmt::format("{}: error: {}\n", app.get_name(), status.message()));
  return kExitFailure;
}

CLI::Validator IntegerFrom(int64_t least, int64_t most) {
  return RangeOf<int64_t>("whole number", "INT", least, most, INT64_MAX);
}

CLI::Validator NumberFrom(double least, double most) {
  return RangeOf<double>("number", "NUMBER", least, most, HUGE_VAL);
}

void AddThreadsOption(CLI::App& app, int* threads) {
  app.add_option("-t,--threads", *threads, "threads (default: one per core)")
      ->check(IntegerFrom(1, 256))
      ->type_name("N");
}

namespace {
const std::map<std::string, kernels::KvType>& KvTypes() {
  static const std::map<std::string, kernels::KvType> types = {
      {"f16", kernels::KvType::kF16}, {"f32", kernels::KvType::kF32}, {"q8", kernels::KvType::kQ8}};
  return types;
}
}  // namespace

void AddKvOption(CLI::App& app, kernels::KvType* type) {
  const auto set = [type](const std::string& name) { *type = KvTypes().at(name); };
  app.add_option_function<std::string>(
         "--kv", set, "KV cache: f16 (default), f32, or q8, half the memory of f16")
      ->check(CLI::IsMember(KvTypes()));
}

std::string KvName(kernels::KvType type) {
  for (const auto& [name, value] : KvTypes()) {
    if (value == type) return name;
  }
  return "";
}

void ApplyThreads(int threads) { kernels::SetThreads(size_t(threads)); }

void WarnIfTargetIgnored(const CLI::App& app) {
  const char* wanted = std::getenv("SDQ_TARGET");
  if (wanted == nullptr || *wanted == '\0' || kernels::TargetName() == wanted) return;
  Say(fmt::format(
      "{}: warning: SDQ_TARGET={} is unknown or cannot run here, {} is used; there are: "
      "{}\n",
      app.get_name(), wanted, kernels::TargetName(), fmt::join(kernels::AvailableTargets(), ", ")));
}

void InstallSignalHandlers() {
  struct sigaction action {};
  action.sa_handler = OnSignal;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

bool Interrupted() { return interrupted.load(std::memory_order_relaxed); }

std::string CommandText(const CLI::App& app, int argc, char** argv) {
  std::string command = app.get_name();
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const bool plain = !argument.empty() && argument.find_first_not_of(
                                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                "abcdefghijklmnopqrstuvwxyz"
                                                "0123456789_@%+=:,./-") == std::string::npos;
    std::string quoted;
    for (const char c : argument) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    command += plain ? " " + argument : " '" + quoted + "'";
  }
  return command;
}

Status WriteOut(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) {
    return Status::Ok();
  }
  return Status::IoError(fmt::format("cannot write to stdout: {}", std::strerror(errno)));
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
    Say("\r\x1b[K" + line);
    drawn_ = true;
  } else {
    Say(line + "\n");
  }
}

void ProgressLine::Finish() {
  if (drawn_) Say("\r\x1b[K");
  drawn_ = false;
}

}  // namespace sdq::apps
