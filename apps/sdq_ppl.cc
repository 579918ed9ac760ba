// sdq-ppl: perplexity of a model on a text, and KL divergence from a reference model.
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/support/app.h"
#include "apps/support/prefill.h"
#include "fmt/format.h"
#include "runtime/corpus.h"
#include "runtime/model.h"
#include "runtime/perplexity.h"

namespace sdq::apps {
namespace {

struct Options {
  std::string model;
  std::string reference;
  std::string file;
  std::string separator;
  size_t window = 512;
  size_t windows = 0;
  size_t batch = 64;
  kernels::KvType kv = kernels::KvType::kF16;
  Prefill prefill = Prefill::kExact;
  int threads = 0;
  bool json = false;
};

void Declare(CLI::App& app, Options& options) {
  app.add_option("model,-m,--model", options.model, "model file (.sdq)")->required();
  app.add_option("-f,--file", options.file, "text to evaluate")->required();
  app.add_option("-c,--ctx-size", options.window, "tokens per window (default 512)")
      ->check(IntegerFrom(2, 1 << 20));
  app.add_option("--separator", options.separator,
                 "line that separates documents, e.g. '<|endoftext|>' (default: one document)");
  app.add_option("--reference", options.reference,
                 "model to compare with: adds KL divergence and top-1 agreement");
  app.add_option("--chunks", options.windows, "evaluate the first N windows only")
      ->check(IntegerFrom(1));
  app.add_option("-b,--batch-size", options.batch, "positions evaluated together (default 64)")
      ->check(IntegerFrom(1, 4096));
  AddKvOption(app, &options.kv);
  AddPrefillOption(app, &options.prefill);
  app.add_flag("--json", options.json, "print one JSON object");
  AddThreadsOption(app, &options.threads);
}

std::string ToJson(const PerplexityResult& result, double seconds) {
  nlohmann::ordered_json json;
  json["perplexity"] = result.perplexity;
  json["nll"] = result.nll;
  json["tokens"] = result.tokens;
  json["windows"] = result.windows;
  if (result.has_reference) {
    json["kl"] = result.kl;
    json["top1"] = result.top1;
    json["reference_perplexity"] = result.reference_perplexity;
  }
  json["seconds"] = seconds;
  return json.dump() + "\n";
}

std::string ToText(const PerplexityResult& result, double seconds) {
  std::string text = fmt::format("perplexity {:.4f}  (nll {:.5f} nats, {} tokens in {} windows)\n",
                                 result.perplexity, result.nll, result.tokens, result.windows);
  if (result.has_reference) {
    text += fmt::format(
        "reference  {:.4f}\nKL         {:.5f} nats per token\ntop-1      {:.2f}% agreement\n",
        result.reference_perplexity, result.kl, 100 * result.top1);
  }
  return text + fmt::format("time       {:.1f} s\n", seconds);
}

// Distributions over different tokens would compare without complaint where the counts are equal.
Status CheckSameTokens(const TokenizerSpec& spec, const Model& reference, const std::string& path) {
  SDQ_ASSIGN_OR_RETURN(const TokenizerSpec other, TokenizerSpec::Load(reference.file().metadata()));
  if (other.tokens == spec.tokens) return Status::Ok();
  return Status::InvalidArgument(
      fmt::format("{}: its tokens are not those of the model, they cannot be compared", path));
}

Result<PerplexityResult> Evaluate(const Options& options) {
  SDQ_ASSIGN_OR_RETURN(const auto model, Model::Open(options.model));
  SDQ_ASSIGN_OR_RETURN(TokenizerSpec spec, TokenizerSpec::Load(model->file().metadata()));
  std::unique_ptr<Model> reference;
  if (!options.reference.empty()) {
    SDQ_ASSIGN_OR_RETURN(reference, Model::Open(options.reference));
    SDQ_RETURN_IF_ERROR(CheckSameTokens(spec, *reference, options.reference));
  }
  SDQ_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Create(std::move(spec)));
  SDQ_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(options.file));
  SDQ_ASSIGN_OR_RETURN(const std::vector<TokenId> tokens,
                       TokenizeDocuments(tokenizer, text, options.separator));
  PerplexityOptions evaluation;
  evaluation.window = options.window;
  evaluation.max_windows = options.windows;
  evaluation.batch = options.batch;
  evaluation.kv = options.kv;
  evaluation.prefill = options.prefill;
  const std::string why_exact = WhyExact(*model);
  if (options.prefill == Prefill::kInt8 && !why_exact.empty()) {
    Say(fmt::format("sdq-ppl: --prefill int8 changes nothing: {}\n", why_exact));
  }
  ProgressLine progress(!options.json);
  auto result =
      EvaluatePerplexity(*model, reference.get(), tokens, evaluation,
                         [&](const PerplexityResult& so_far, size_t total) {
                           progress.Update(fmt::format("window {}/{}, perplexity {:.3f}",
                                                       so_far.windows, total, so_far.perplexity),
                                           double(so_far.windows) / double(total));
                           return !Interrupted();
                         });
  progress.Finish();
  return result;
}

int Main(int argc, char** argv) {
  CLI::App app("Perplexity of a model on a text, and its distance from a reference model.",
               "sdq-ppl");
  Options options;
  Declare(app, options);
  int exit_code = kExitOk;
  if (!Parse(app, argc, argv, &exit_code)) return exit_code;
  InstallSignalHandlers();
  ApplyThreads(options.threads);
  WarnIfTargetIgnored(app);
  const Stopwatch watch;
  const Result<PerplexityResult> result = Evaluate(options);
  if (!result.ok()) return Fail(app, result.status());
  const double seconds = watch.seconds();
  const Status written =
      WriteOut(options.json ? ToJson(*result, seconds) : ToText(*result, seconds));
  return written.ok() ? kExitOk : Fail(app, written);
}

}  // namespace
}  // namespace sdq::apps

int main(int argc, char** argv) {
  return sdq::apps::RunProgram("sdq-ppl", sdq::apps::Main, argc, argv);
}
