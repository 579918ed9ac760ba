// sdq-run: text in, text out.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "apps/support/app.h"
#include "apps/support/model_bytes.h"
#include "apps/support/prefill.h"
#include "apps/support/process_memory.h"
#include "fmt/format.h"
#include "kernels/dispatch.h"
#include "kernels/parallel.h"
#include "runtime/corpus.h"
#include "runtime/model.h"
#include "runtime/sampler.h"
#include "runtime/session.h"
#include "runtime/tokenizer.h"

namespace sdq::apps {
namespace {

struct Options {
  std::string model;
  std::string prompt;
  std::string prompt_file;
  int64_t predict = -1;
  size_t context = 0;
  size_t batch = 64;
  int threads = 0;
  int64_t seed = -1;
  SamplerOptions sampler;
  std::vector<std::string> reverse_prompts;
  kernels::KvType kv_type = kernels::KvType::kF16;
  Prefill prefill = Prefill::kExact;
  bool ignore_eos = false;
  bool no_display_prompt = false;
  bool special = false;
  bool parse_special = false;
  bool quiet = false;
  bool json = false;
};

void Declare(CLI::App& app, Options& o) {
  app.add_option("model,-m,--model", o.model, "model file (.sdq)")->required();
  auto* prompt = app.add_option("-p,--prompt", o.prompt, "prompt (default: read from stdin)");
  app.add_option("-f,--file", o.prompt_file, "read the prompt from a file")->excludes(prompt);
  app.add_option("-n,--predict,--n-predict", o.predict,
                 "tokens to generate (default -1: until the model ends or the context is full)")
      ->check(IntegerFrom(-1, int64_t(1) << 31));
  app.add_option("-c,--ctx-size", o.context, "context in tokens (default 0: the model's longest)")
      ->check(IntegerFrom(0, 1 << 24));
  app.add_option("-b,--batch-size", o.batch, "prompt tokens evaluated together (default 64)")
      ->check(IntegerFrom(1, 4096));
  AddThreadsOption(app, &o.threads);
  app.add_option("-s,--seed", o.seed, "random seed (default -1: a new one each time)")
      ->check(IntegerFrom(-1, 0xffffffff));
  app.add_option("--temp", o.sampler.temperature, "temperature (default 0.8; 0: greedy)");
  app.add_option("--top-k", o.sampler.top_k, "top-k (default 40; 0: off)");
  app.add_option("--top-p", o.sampler.top_p, "top-p (default 0.95; 1: off)");
  app.add_option("--min-p", o.sampler.min_p, "min-p (default 0.05; 0: off)");
  app.add_option("--repeat-penalty", o.sampler.repeat_penalty,
                 "penalty for repeated tokens (default 1: off)");
  app.add_option("--repeat-last-n", o.sampler.repeat_last_n,
                 "tokens that the penalty looks back at (default 64; 0: off, -1: all)");
  app.add_option("-r,--reverse-prompt", o.reverse_prompts,
                 "stop when this text was generated (may be given more than once)")
      ->allow_extra_args(false);
  AddKvOption(app, &o.kv_type);
  AddPrefillOption(app, &o.prefill);
  app.add_flag("--ignore-eos", o.ignore_eos, "go on after the end-of-text token");
  app.add_flag("--no-display-prompt", o.no_display_prompt, "print the generated text only");
  app.add_flag("--special", o.special, "show control tokens in the output");
  app.add_flag("--parse-special", o.parse_special,
               "control tokens written in the prompt become tokens (default: plain text)");
  app.add_flag("-q,--quiet", o.quiet, "no memory and speed lines on stderr");
  app.add_flag("--json", o.json, "print one JSON object at the end instead of streaming");
}

// What the process may hold beside the model, the session and what loading them left on the heap:
// code and libraries (5 MiB), stacks, the text.
constexpr uint64_t kProgramBytes = uint64_t{8} << 20;

struct Timings {
  double load_seconds = 0;
  double prefill_seconds = 0;
  double decode_seconds = 0;
  double first_token_seconds = 0;  // since launch, without the time that typing the prompt takes
  size_t prefill_tokens = 0;
  size_t decode_tokens = 0;  // tokens evaluated one by one
};

double Rate(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

// Finds the first stop text in generated text that grows piece by piece, holding back what may
// still become one.
class StopScanner {
 public:
  explicit StopScanner(const std::vector<std::string>& stops) : stops_(stops) {}

  // Adds text; returns what can be shown. stopped() turns true at the first stop text, which
  // itself is shown too, as llama.cpp does.
  std::string Push(const std::string& text) {
    pending_ += text;
    size_t end = std::string::npos;
    for (const std::string& stop : stops_) {
      const size_t at = stop.empty() ? std::string::npos : pending_.find(stop);
      if (at != std::string::npos) end = std::min(end, at + stop.size());
    }
    if (end != std::string::npos) {
      stopped_ = true;
      return Take(end);
    }
    return Take(pending_.size() - HeldBack());
  }
  std::string Flush() { return Take(pending_.size()); }
  bool stopped() const { return stopped_; }

 private:
  std::string Take(size_t n) {
    std::string shown = pending_.substr(0, n);
    pending_.erase(0, n);
    return shown;
  }
  // Length of the longest suffix of pending_ that begins some stop text.
  size_t HeldBack() const {
    size_t held = 0;
    for (const std::string& stop : stops_) {
      for (size_t n = std::min(stop.size(), pending_.size()); n > held; --n) {
        if (pending_.ends_with(std::string_view(stop).substr(0, n))) held = n;
      }
    }
    return held;
  }

  const std::vector<std::string>& stops_;
  std::string pending_;
  bool stopped_ = false;
};

class Run {
 public:
  explicit Run(const Options& options) : options_(options), stops_(options.reverse_prompts) {}

  Status Load() {
    SDQ_ASSIGN_OR_RETURN(model_, Model::Open(options_.model));
    SDQ_ASSIGN_OR_RETURN(TokenizerSpec spec, TokenizerSpec::Load(model_->file().metadata()));
    SDQ_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Create(std::move(spec)));
    tokenizer_ = std::make_unique<Tokenizer>(std::move(tokenizer));
    SessionOptions session;
    session.context = options_.context;
    session.batch = options_.batch;
    session.kv = options_.kv_type;
    session.prefill = options_.prefill;
    SDQ_ASSIGN_OR_RETURN(session_, Session::Create(*model_, session));
    timings_.load_seconds = launch_.seconds();
    const MemoryPlan& memory = session_->memory();
    resident_limit_ = memory.file_bytes + memory.kv_bytes + memory.workspace_bytes +
                      ReadProcessMemory().anonymous + kProgramBytes;
    if (!options_.quiet) PrintPlan();
    return Status::Ok();
  }

  Status Generate(const std::string& prompt) {
    const Stopwatch since_prompt;
    SDQ_RETURN_IF_ERROR(Prefill(prompt));
    if (!options_.json && !options_.no_display_prompt) Emit(prompt);
    SamplerOptions sampler_options = options_.sampler;
    sampler_options.seed =
        options_.seed >= 0 ? uint64_t(options_.seed) : uint64_t(std::random_device{}());
    Sampler sampler(sampler_options, size_t(model_->config().vocab_size));
    const Stopwatch watch;
    while (!Done()) {
      const TokenId token = sampler.Sample(session_->logits(), history_);
      if (token == Sampler::kNoToken) {
        return Status::Corrupt("the model gives no number for any token: its file is damaged");
      }
      if (generated_ == 0) {
        timings_.first_token_seconds = timings_.load_seconds + since_prompt.seconds();
      }
      if (IsEos(token) && !options_.ignore_eos) {
        finish_reason_ = "eos";
        break;
      }
      history_.push_back(token);
      ++generated_;
      Show(token, /*begins_text=*/prompt.empty() && generated_ == 1);
      if (Done()) break;
      if (session_->position() >= session_->context()) {
        finish_reason_ = "context full";
        break;
      }
      SDQ_RETURN_IF_ERROR(session_->Append(std::span(&token, 1)));
      ++timings_.decode_tokens;
    }
    timings_.decode_seconds = watch.seconds();
    if (!stops_.stopped()) Output(stops_.Push(utf8_.Flush()) + stops_.Flush());
    return output_status_;
  }

  Status Finish(const std::string& prompt) {
    SDQ_RETURN_IF_ERROR(WriteOut(options_.json ? ToJson(prompt) : "\n"));
    if (!options_.quiet) PrintTimings();
    return Status::Ok();
  }

 private:
  Status Prefill(const std::string& prompt) {
    SDQ_ASSIGN_OR_RETURN(history_,
                         tokenizer_->Encode(prompt, /*add_special=*/true, options_.parse_special));
    if (history_.empty() && model_->config().bos_token >= 0) {
      history_.push_back(TokenId(model_->config().bos_token));
    }
    if (history_.empty()) {
      return Status::InvalidArgument(
          "the prompt is empty and this model has no begin-of-text "
          "token to start from: give a prompt with -p, -f or stdin");
    }
    if (history_.size() > session_->context()) {
      return Status::OutOfRange(fmt::format(
          "the prompt has {} tokens but the context holds {}: shorten it, or raise -c up to the "
          "model's {} positions",
          history_.size(), session_->context(), model_->config().max_positions));
    }
    const Stopwatch watch;
    // In steps, so that Ctrl-C is heard during a long prompt.
    for (size_t begin = 0; begin < history_.size(); begin += options_.batch) {
      if (Interrupted()) return Status::Cancelled("interrupted");
      const size_t count = std::min(options_.batch, history_.size() - begin);
      SDQ_RETURN_IF_ERROR(session_->Append(std::span(history_).subspan(begin, count)));
    }
    timings_.prefill_seconds = watch.seconds();
    timings_.prefill_tokens = history_.size();
    return Status::Ok();
  }

  bool IsEos(TokenId token) const {
    const std::vector<int64_t>& eos = model_->config().eos_tokens;
    return std::find(eos.begin(), eos.end(), int64_t(token)) != eos.end();
  }

  bool Done() {
    if (stops_.stopped()) {
      finish_reason_ = "reverse prompt";
    } else if (Interrupted()) {
      finish_reason_ = "interrupted";
    } else if (!output_status_.ok()) {
      finish_reason_ = "output error";
    } else if (options_.predict >= 0 && generated_ >= size_t(options_.predict)) {
      finish_reason_ = "length";
    } else {
      return false;
    }
    return true;
  }

  void Show(TokenId token, bool begins_text) {
    std::string bytes = tokenizer_->TokenBytes(token, options_.special);
    // No text begins with the space that SentencePiece puts before its first word.
    const bool strip = begins_text && tokenizer_->spec().strip_prefix_space;
    if (strip && bytes.starts_with(' ')) bytes.erase(0, 1);
    Output(stops_.Push(utf8_.Push(bytes)));
  }

  void Output(const std::string& text) {
    output_ += text;
    Emit(text);
  }

  void Emit(const std::string& text) {
    if (options_.json || text.empty()) return;
    if (output_status_.ok()) output_status_ = WriteOut(text);
  }

  void PrintPlan() const {
    const MemoryPlan& memory = session_->memory();
    Say(fmt::format(
        "{}: {} mapped, KV cache {} ({} positions), workspace {}: at most {} resident; {} {}, "
        "{}{}\n",
        options_.model, HumanBytes(memory.file_bytes), HumanBytes(memory.kv_bytes),
        session_->context(), HumanBytes(memory.workspace_bytes), HumanBytes(resident_limit_),
        kernels::Threads(), kernels::Threads() == 1 ? "thread" : "threads", kernels::TargetName(),
        PrefillNote()));
  }

  // What becomes of --prefill int8.
  std::string PrefillNote() const {
    if (options_.prefill == Prefill::kExact) return "";
    const std::string why_exact = WhyExact(*model_);
    return why_exact.empty() ? "; prefill int8" : "; prefill exact: " + why_exact;
  }

  void PrintTimings() const {
    const double decode_rate = Rate(double(timings_.decode_tokens), timings_.decode_seconds);
    const double bytes = double(WeightBytesPerToken(*model_));
    Say(fmt::format(
        "\nload     {:8.1f} ms\n"
        "prefill  {:8.1f} ms  {:5} tokens  {:8.1f} tokens/s\n"
        "decode   {:8.1f} ms  {:5} tokens  {:8.1f} tokens/s  {:.2f} GB/s of weights\n"
        "first token after {:.1f} ms; peak {} resident; ended by: {}\n",
        1e3 * timings_.load_seconds, 1e3 * timings_.prefill_seconds, timings_.prefill_tokens,
        Rate(double(timings_.prefill_tokens), timings_.prefill_seconds),
        1e3 * timings_.decode_seconds, timings_.decode_tokens, decode_rate,
        decode_rate * bytes * 1e-9, 1e3 * timings_.first_token_seconds,
        HumanBytes(ReadProcessMemory().peak_resident), finish_reason_));
  }

  std::string ToJson(const std::string& prompt) const {
    const double decode_rate = Rate(double(timings_.decode_tokens), timings_.decode_seconds);
    nlohmann::ordered_json json;
    json["prompt"] = prompt;
    json["text"] = output_;
    json["prompt_tokens"] = timings_.prefill_tokens;
    json["tokens"] = std::vector<TokenId>(
        history_.begin() + std::ptrdiff_t(timings_.prefill_tokens), history_.end());
    json["finish_reason"] = finish_reason_;
    json["load_ms"] = 1e3 * timings_.load_seconds;
    json["first_token_ms"] = 1e3 * timings_.first_token_seconds;
    json["prefill_ms"] = 1e3 * timings_.prefill_seconds;
    json["prefill_tokens_per_second"] =
        Rate(double(timings_.prefill_tokens), timings_.prefill_seconds);
    json["decode_tokens_per_second"] = decode_rate;
    json["gigabytes_per_second"] = decode_rate * double(WeightBytesPerToken(*model_)) * 1e-9;
    const MemoryPlan& memory = session_->memory();
    json["file_bytes"] = memory.file_bytes;
    json["kv_bytes"] = memory.kv_bytes;
    json["resident_limit_bytes"] = resident_limit_;
    json["resident_peak_bytes"] = ReadProcessMemory().peak_resident;
    return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }

  const Options& options_;
  Stopwatch launch_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Session> session_;
  uint64_t resident_limit_ = 0;   // stated before the work begins
  std::vector<TokenId> history_;  // prompt and generated tokens
  size_t generated_ = 0;
  Utf8Stream utf8_;
  StopScanner stops_;
  std::string output_;
  std::string finish_reason_;
  Timings timings_;
  Status output_status_;
};

Result<std::string> ReadStdin() {
  if (::isatty(STDIN_FILENO) == 1) Say("prompt (end it with Ctrl-D on a line of its own):\n");
  std::string text;
  char buffer[65536];
  while (const size_t n = std::fread(buffer, 1, sizeof buffer, stdin)) text.append(buffer, n);
  if (Interrupted()) return Status::Cancelled("interrupted");
  if (std::ferror(stdin) != 0) {
    return Status::IoError(
        fmt::format("cannot read the prompt from stdin: {}", std::strerror(errno)));
  }
  return text;
}

// A prompt file is read before the model, for a mistake shows at once; stdin after it, for a person
// may be typing.
Status Generate(const Options& options, bool prompt_given) {
  std::string prompt = options.prompt;
  if (!options.prompt_file.empty()) {
    SDQ_ASSIGN_OR_RETURN(prompt, ReadTextFile(options.prompt_file));
  }
  Run run(options);
  SDQ_RETURN_IF_ERROR(run.Load());
  if (!prompt_given && options.prompt_file.empty()) {
    SDQ_ASSIGN_OR_RETURN(prompt, ReadStdin());
  }
  // The newline that ends the last line of a file is not meant as part of the prompt.
  if (!prompt_given && prompt.ends_with('\n')) prompt.pop_back();
  SDQ_RETURN_IF_ERROR(run.Generate(prompt));
  return run.Finish(prompt);
}

int Main(int argc, char** argv) {
  CLI::App app("Generates text with a model.", "sdq-run");
  Options options;
  Declare(app, options);
  int exit_code = kExitOk;
  if (!Parse(app, argc, argv, &exit_code)) return exit_code;
  if (const Status status = options.sampler.Validate(); !status.ok()) {
    return Misuse(app, status.message());
  }
  InstallSignalHandlers();
  ApplyThreads(options.threads);
  WarnIfTargetIgnored(app);
  const Status status = Generate(options, app.count("--prompt") > 0);
  return status.ok() ? kExitOk : Fail(app, status);
}

}  // namespace
}  // namespace sdq::apps

int main(int argc, char** argv) {
  return sdq::apps::RunProgram("sdq-run", sdq::apps::Main, argc, argv);
}
