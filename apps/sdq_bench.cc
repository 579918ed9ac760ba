// sdq-bench: tokens per second of models, beside what the machine's memory allows.
#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/support/app.h"
#include "apps/support/machine.h"
#include "apps/support/model_bytes.h"
#include "apps/support/prefill.h"
#include "apps/support/roofline.h"
#include "apps/support/statistics.h"
#include "apps/support/table.h"
#include "fmt/format.h"
#include "kernels/dispatch.h"
#include "kernels/parallel.h"
#include "runtime/model.h"
#include "runtime/session.h"

namespace sdq::apps {
namespace {

struct Options {
  std::vector<std::string> models;
  std::vector<size_t> prompts = {512};
  std::vector<size_t> decodes = {128};
  std::vector<size_t> depths = {0};
  std::vector<size_t> threads;
  size_t repetitions = 5;
  size_t batch = 64;
  kernels::KvType kv_type = kernels::KvType::kF16;
  Prefill prefill = Prefill::kExact;
  std::vector<std::string> targets;
  std::string format = "md";
  bool roofline = false;
  bool quiet = false;
};

const std::map<std::string, TableFormat> kFormats = {
    {"md", TableFormat::kMarkdown}, {"csv", TableFormat::kCsv}, {"json", TableFormat::kJson}};

void Declare(CLI::App& app, Options& o) {
  const auto list = [&app](const char* names, auto& values, const char* help) {
    return app.add_option(names, values, help)->delimiter(',');
  };
  list("-m,--model", o.models, "model files (.sdq), separated by commas or one -m each")
      ->required();
  list("-p,--n-prompt", o.prompts, "prompt sizes (default 512; 0: none)")
      ->check(IntegerFrom(0, int64_t{1} << 24));
  list("-n,--n-gen", o.decodes, "numbers of tokens to decode (default 128; 0: none)")
      ->check(IntegerFrom(0, int64_t{1} << 24));
  list("-d,--n-depth", o.depths, "tokens in the context before each test (default 0)")
      ->check(IntegerFrom(0, int64_t{1} << 24));
  list("-t,--threads", o.threads, "numbers of threads (default: one per core)")
      ->check(IntegerFrom(1, 256));
  app.add_option("-r,--repetitions", o.repetitions, "runs of each test (default 5)")
      ->check(IntegerFrom(1, 10000));
  app.add_option("-b,--batch-size", o.batch, "prompt tokens evaluated together (default 64)")
      ->check(IntegerFrom(1, 4096));
  AddKvOption(app, &o.kv_type);
  AddPrefillOption(app, &o.prefill);
  list("--kernels", o.targets,
       "instruction sets to compare by name, or 'all' that this machine runs (default: the best)");
  app.add_flag("--roofline", o.roofline, "print what bounds each phase (of exact products)")
      ->excludes("--prefill");
  app.add_option("-o,--output", o.format, "md (default), csv or json")
      ->check(CLI::IsMember(kFormats));
  app.add_flag("-q,--quiet", o.quiet, "no progress");
}

// One kind of run: a prompt or a decode of `tokens` tokens behind `depth` others.
struct Test {
  bool decode = false;
  size_t tokens = 0;
  size_t depth = 0;

  std::string Name() const {
    const std::string name = fmt::format("{}{}", decode ? "tg" : "pp", tokens);
    return depth == 0 ? name : fmt::format("{} @ d{}", name, depth);
  }
};

std::vector<Test> MakeTests(const Options& o) {
  std::vector<Test> tests;
  for (const size_t depth : o.depths) {
    for (const size_t n : o.prompts) {
      if (n > 0) tests.push_back({false, n, depth});
    }
    for (const size_t n : o.decodes) {
      if (n > 0) tests.push_back({true, n, depth});
    }
  }
  return tests;
}

Table ResultTable() {
  return Table({{"file", "file"},
                {"file_mb", "MB", true, 1},
                {"commit", ""},
                {"cpu", ""},
                {"threads", "threads", true},
                {"target", "target"},
                {"kv", ""},
                {"prefill", ""},
                {"test", "test"},
                {"repetitions", ""},
                {"tokens_per_second", "tokens/s", true},
                {"deviation", "±", true},
                {"median_tokens_per_second", "median", true},
                {"gigabytes_per_second", "GB/s", true},
                {"read_gigabytes_per_second", "read GB/s", true},
                {"read_from", "from"},
                {"percent_of_read_bandwidth", "% of read", true, 1}});
}

Table RooflineTable() {
  return Table({{"file", "file"},
                {"threads", "threads", true},
                {"target", "target"},
                {"test", "test"},
                {"ms_per_token", "ms/token", true, 3},
                {"weights_ms", "weights", true, 3},
                {"streams_ms", "stream kernels", true, 3},
                {"dense_ms", "dense kernels", true, 3},
                {"activations_ms", "activations", true, 3},
                {"hand_offs_ms", "hand-offs", true, 3},
                {"bound_ms", "bound", true, 3},
                {"rest_ms", "rest", true, 3},
                {"giga_additions_per_second", "Gadd/s", true, 1},
                {"bound_by", "bound by"}});
}

class Bench {
 public:
  explicit Bench(const Options& options)
      : options_(options), tests_(MakeTests(options)), progress_(!options.quiet) {
    runs_ = options_.models.size() * options_.threads.size() * options_.targets.size() *
            std::max<size_t>(tests_.size(), 1);
  }

  Status Run() {
    for (const std::string& path : options_.models) {
      SDQ_ASSIGN_OR_RETURN(const auto model, Model::Open(path));
      SDQ_RETURN_IF_ERROR(RunModel(*model, path));
    }
    progress_.Finish();
    return Status::Ok();
  }

  std::string Report() const {
    const TableFormat format = kFormats.at(options_.format);
    if (format == TableFormat::kJson && options_.roofline) {
      return fmt::format("{{\"results\": {}, \"roofline\": {}}}\n", results_.Format(format),
                         rooflines_.Format(format));
    }
    std::string text;
    if (format == TableFormat::kMarkdown) {
      text = fmt::format("sdq-bench {}, {}\n\n", BuildCommit(), CpuModel());
    }
    text += results_.Format(format);
    if (options_.roofline) text += "\n" + rooflines_.Format(format);
    return text;
  }

 private:
  Status RunModel(const Model& model, const std::string& path) {
    SessionOptions session_options;
    session_options.batch = options_.batch;
    session_options.kv = options_.kv_type;
    session_options.prefill = options_.prefill;
    for (const Test& test : tests_) {
      session_options.context = std::max(session_options.context, test.depth + test.tokens);
    }
    for (const size_t threads : options_.threads) {
      kernels::SetThreads(threads);
      for (const std::string& target : options_.targets) {
        kernels::ForceTarget(target);
        SDQ_ASSIGN_OR_RETURN(const auto session, Session::Create(model, session_options));
        Context context{model,   *session, std::filesystem::path(path).filename().string(),
                        threads, target,   nullptr};
        Tell(context, "read bandwidth");
        context.yardstick = std::make_unique<ReadYardstick>(WeightBytesPerToken(model));
        for (const Test& test : tests_) {
          Tell(context, test.Name());
          SDQ_RETURN_IF_ERROR(RunTest(context, test));
          ++done_;
        }
      }
      kernels::ForceTarget("");
    }
    return Status::Ok();
  }

  struct Context {
    const Model& model;
    Session& session;
    std::string file;
    size_t threads;
    std::string target;
    std::unique_ptr<ReadYardstick> yardstick;
  };

  void Tell(const Context& context, const std::string& what) {
    progress_.Update(
        fmt::format("{}, {} threads, {}: {}", context.file, context.threads, context.target, what),
        double(done_) / double(runs_));
  }

  // What --prefill amounts to.
  sdq::Prefill PrefillOf(const Context& context) const {
    return WhyExact(context.model).empty() ? options_.prefill : Prefill::kExact;
  }

  // Some token of the vocabulary; which one does not matter for speed.
  static TokenId TokenAt(const Context& context, size_t position) {
    const uint64_t hash = (uint64_t(position) + 1) * 0x9e3779b97f4a7c15u >> 33;
    return TokenId(hash % uint64_t(context.model.config().vocab_size));
  }

  static Status Prefill(Context& context, size_t tokens) {
    if (tokens == 0) return Status::Ok();
    std::vector<TokenId> ids(tokens);
    for (size_t i = 0; i < tokens; ++i) ids[i] = TokenAt(context, context.session.position() + i);
    return context.session.Append(ids);
  }

  static Status Decode(Context& context, size_t tokens) {
    for (size_t i = 0; i < tokens; ++i) {
      if (Interrupted()) return Status::Cancelled("interrupted");
      const TokenId token = TokenAt(context, context.session.position());
      SDQ_RETURN_IF_ERROR(context.session.Append(std::span(&token, 1)));
    }
    return Status::Ok();
  }

  // What the repetitions of a test gave.
  struct Rates {
    std::vector<double> tokens;  // per second
    std::vector<double> read;    // bytes per second of the yardstick: before them all, after each
  };

  Status RunTest(Context& context, const Test& test) {
    context.session.Truncate(0);
    SDQ_RETURN_IF_ERROR(Prefill(context, test.depth));
    Rates rates;
    rates.read.push_back(context.yardstick->BytesPerSecond());
    for (size_t r = 0; r < options_.repetitions; ++r) {
      if (r == 0 || test.decode) SDQ_RETURN_IF_ERROR(WarmUp(context, test));
      if (Interrupted()) return Status::Cancelled("interrupted");
      context.session.Truncate(test.depth);
      const Stopwatch watch;
      SDQ_RETURN_IF_ERROR(test.decode ? Decode(context, test.tokens)
                                      : Prefill(context, test.tokens));
      rates.tokens.push_back(double(test.tokens) / watch.seconds());
      // Decode only, which memory bounds: other tenants change its speed within a second.
      if (test.decode) rates.read.push_back(context.yardstick->BytesPerSecond());
    }
    Record(context, test, rates);
    return Status::Ok();
  }

  // Pages, caches and threads awake. A large last-level cache holds what the yardstick read, and
  // takes several tokens to fill with weights instead: as long as the yardstick warms up itself.
  Status WarmUp(Context& context, const Test& test) {
    const Stopwatch warm;
    do {
      context.session.Truncate(test.depth);
      SDQ_RETURN_IF_ERROR(test.decode ? Decode(context, std::min(test.tokens, size_t{2}))
                                      : Prefill(context, std::min(test.tokens, options_.batch)));
    } while (test.decode && warm.seconds() < ReadYardstick::kWarmSeconds);
    return Status::Ok();
  }

  // Of the weights, and of the keys and values of the positions before.
  double BytesPerToken(const Context& context, const Test& test) const {
    const ModelConfig& config = context.model.config();
    const double head_bytes =
        double(kernels::KvElementBytes(options_.kv_type)) * double(config.head_dim) +
        (options_.kv_type == kernels::KvType::kQ8 ? sizeof(float) : 0);
    const double position_bytes = 2 * head_bytes * double(config.layers) * double(config.kv_heads);
    const double mean_length = double(test.depth) + double(test.tokens + 1) / 2;
    return double(WeightBytesPerToken(context.model)) + position_bytes * mean_length;
  }

  void Record(const Context& context, const Test& test, const Rates& rates) {
    Table::Cell speed, bandwidth, read_from, percent;
    const Summary rate = Summarize(rates.tokens);
    const double read = Summarize(rates.read).median;
    if (read > 0) {
      bandwidth = 1e-9 * read;
      read_from = std::string(context.yardstick->cached() ? "cache" : "memory");
    }
    if (test.decode) {
      const double bytes = BytesPerToken(context, test);
      speed = 1e-9 * rate.median * bytes;
      // Each repetition beside what was read just before and just after it.
      std::vector<double> shares;
      for (size_t r = 0; r < rates.tokens.size(); ++r) {
        shares.push_back(rates.tokens[r] * bytes / ((rates.read[r] + rates.read[r + 1]) / 2));
      }
      if (read > 0) percent = 100 * Summarize(shares).median;
    }
    results_.Add({context.file, 1e-6 * double(context.model.file().file_bytes()), BuildCommit(),
                  CpuModel(), int64_t(context.threads), context.target, KvName(options_.kv_type),
                  PrefillName(PrefillOf(context)), test.Name(), int64_t(options_.repetitions),
                  rate.mean, rate.deviation, rate.median, speed, bandwidth, read_from, percent});
    if (options_.roofline && read > 0) RecordRoofline(context, test, 1 / rate.median, read);
  }

  void RecordRoofline(const Context& context, const Test& test, double seconds, double read) {
    const size_t batch = test.decode ? 1 : std::min(options_.batch, test.tokens);
    const Roofline roofline =
        MeasureRoofline(context.model, batch, test.decode ? 1 : test.tokens, read);
    rooflines_.Add({context.file, int64_t(context.threads), context.target, test.Name(),
                    1e3 * seconds, 1e3 * roofline.memory, 1e3 * roofline.streams,
                    1e3 * roofline.dense, 1e3 * roofline.activations, 1e3 * roofline.hand_offs,
                    1e3 * roofline.Bound(), 1e3 * (seconds - roofline.Bound()),
                    1e-9 * roofline.samples_per_second, roofline.BoundBy()});
  }

  const Options& options_;
  std::vector<Test> tests_;
  Table results_ = ResultTable();
  Table rooflines_ = RooflineTable();
  ProgressLine progress_;
  size_t runs_ = 0;
  size_t done_ = 0;
};

int Main(int argc, char** argv) {
  CLI::App app("Measures the speed of models, and of the memory that bounds it.", "sdq-bench");
  Options options;
  Declare(app, options);
  int exit_code = kExitOk;
  if (!Parse(app, argc, argv, &exit_code)) return exit_code;
  InstallSignalHandlers();
  WarnIfTargetIgnored(app);
  if (options.threads.empty()) options.threads = {kernels::DefaultThreads()};
  if (const Status known = ResolveTargets(&options.targets); !known.ok()) {
    Fail(app, known);
    return kExitUsage;
  }
  Bench bench(options);
  if (const Status status = bench.Run(); !status.ok()) return Fail(app, status);
  const Status written = WriteOut(bench.Report());
  return written.ok() ? kExitOk : Fail(app, written);
}

}  // namespace
}  // namespace sdq::apps

int main(int argc, char** argv) {
  return sdq::apps::RunProgram("sdq-bench", sdq::apps::Main, argc, argv);
}
