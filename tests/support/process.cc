#include "tests/support/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>

namespace sdq::test {
namespace {

constexpr int kCannotStart = 127;

struct Pipe {
  int read = -1;
  int write = -1;

  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return;
    read = ends[0];
    write = ends[1];
  }
  ~Pipe() {
    Close(&read);
    Close(&write);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  static void Close(int* fd) {
    if (*fd >= 0) ::close(*fd);
    *fd = -1;
  }
};

void ConnectOutput(Sink sink, int pipe_end, int target) {
  if (sink == Sink::kNone) {
    ::close(target);
  } else if (sink == Sink::kFull) {
    ::dup2(::open("/dev/full", O_WRONLY | O_CLOEXEC), target);
  } else {
    ::dup2(pipe_end, target);
  }
}

void ConnectInput(const ProcessOptions& options, int pipe_end) {
  if (options.no_input) {
    ::close(STDIN_FILENO);
  } else if (!options.input_folder.empty()) {
    ::dup2(::open(options.input_folder.c_str(), O_RDONLY | O_CLOEXEC), STDIN_FILENO);
  } else {
    ::dup2(pipe_end, STDIN_FILENO);
  }
}

[[noreturn]] void Become(const std::vector<std::string>& arguments, const ProcessOptions& options) {
  ::signal(SIGPIPE, SIG_DFL);
  for (const auto& [name, value] : options.environment) {
    ::setenv(name.c_str(), value.c_str(), 1);
  }
  if (!options.working_folder.empty() && ::chdir(options.working_folder.c_str()) != 0) {
    ::_exit(kCannotStart);
  }
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  ::_exit(kCannotStart);
}

// The parent's side: feeds and reads the pipes until the program has closed its ends.
class Conversation {
 public:
  Conversation(const ProcessOptions& options, pid_t child, Pipe* in, Pipe* out, Pipe* err)
      : options_(options), child_(child), in_(in), out_(out), err_(err) {
    Pipe::Close(&in_->read);
    Pipe::Close(&out_->write);
    Pipe::Close(&err_->write);
    if (options.out == Sink::kClosedAtOnce) Pipe::Close(&out_->read);
    if (options.err == Sink::kClosedAtOnce) Pipe::Close(&err_->read);
    ::fcntl(in_->write, F_SETFL, O_NONBLOCK);
    if (options.input.empty()) Pipe::Close(&in_->write);
  }

  ProcessResult Run() {
    while (out_->read >= 0 || err_->read >= 0 || in_->write >= 0) {
      // Negative descriptors are ignored by poll().
      std::array<pollfd, 3> fds{
          {{in_->write, POLLOUT, 0}, {out_->read, POLLIN, 0}, {err_->read, POLLIN, 0}}};
      const int left = MillisecondsLeft();
      if (left == 0) break;
      if (::poll(fds.data(), fds.size(), left) < 0 && errno != EINTR) break;
      if (fds[0].revents != 0) Feed();
      if (fds[1].revents != 0) Read(&out_->read, options_.out, &result_.out);
      if (fds[2].revents != 0) Read(&err_->read, options_.err, &result_.err);
      SignalIfDue();
    }
    Wait();
    return std::move(result_);
  }

 private:
  using Clock = std::chrono::steady_clock;

  int MillisecondsLeft() const {
    const auto spent = std::chrono::duration<double>(Clock::now() - start_).count();
    return spent < options_.timeout_seconds
               ? static_cast<int>(1000 * (options_.timeout_seconds - spent)) + 1
               : 0;
  }

  void Feed() {
    const std::string& input = options_.input;
    const ssize_t n = ::write(in_->write, input.data() + fed_, input.size() - fed_);
    if (n > 0) fed_ += static_cast<size_t>(n);
    if (fed_ == input.size() || (n < 0 && errno != EAGAIN)) Pipe::Close(&in_->write);
  }

  static void Read(int* fd, Sink sink, std::string* text) {
    char buffer[4096];
    const ssize_t n = ::read(*fd, buffer, sizeof(buffer));
    if (n > 0) text->append(buffer, static_cast<size_t>(n));
    if (n <= 0 || sink == Sink::kClosedEarly) Pipe::Close(fd);
  }

  void SignalIfDue() {
    const std::string& after = options_.signal_after;
    if (signalled_ || after.empty() || result_.out.find(after) == std::string::npos) return;
    ::kill(child_, options_.signal);
    signalled_ = true;
  }

  // It may have closed its streams and still run.
  void Wait() {
    int status = 0;
    while (::waitpid(child_, &status, WNOHANG) == 0) {
      if (MillisecondsLeft() > 0) {
        ::usleep(1000);
        continue;
      }
      result_.timed_out = true;
      ::kill(child_, SIGKILL);
      ::waitpid(child_, &status, 0);
      break;
    }
    if (WIFEXITED(status)) result_.exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) result_.ended_by_signal = WTERMSIG(status);
  }

  const ProcessOptions& options_;
  pid_t child_;
  Pipe* in_;
  Pipe* out_;
  Pipe* err_;
  Clock::time_point start_ = Clock::now();
  size_t fed_ = 0;
  bool signalled_ = false;
  ProcessResult result_;
};

}  // namespace

ProcessResult RunProcess(const std::vector<std::string>& arguments, const ProcessOptions& options) {
  ::signal(SIGPIPE, SIG_IGN);  // a program that does not read its input is no reason to die
  Pipe in;
  Pipe out;
  Pipe err;
  const pid_t child = ::fork();
  if (child < 0) return {};
  if (child == 0) {
    ConnectInput(options, in.read);
    ConnectOutput(options.out, out.write, STDOUT_FILENO);
    ConnectOutput(options.err, err.write, STDERR_FILENO);
    Become(arguments, options);
  }
  return Conversation(options, child, &in, &out, &err).Run();
}

}  // namespace sdq::test
