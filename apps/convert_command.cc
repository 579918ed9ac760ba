#include "apps/convert_command.h"

#include "apps/support/app.h"
#include "converter/allocate.h"
#include "fmt/format.h"

namespace sdq::apps {

const std::map<std::string, converter::Method> kMethods = {
    {"float", converter::Method::kFloat},
    {"sdq", converter::Method::kPublished},
    {"trellis", converter::Method::kTrellis}};
const std::map<std::string, converter::TableType> kTableTypes = {
    {"keep", converter::TableType::kKeep}, {"q8", converter::TableType::kQ8}};
const std::map<std::string, converter::Allocation> kAllocations = {
    {"uniform", converter::Allocation::kUniform},
    {"sigma", converter::Allocation::kSigma},
    {"sensitivity", converter::Allocation::kSensitivity}};
const std::map<std::string, format::Alphabet> kAlphabets = {
    {"binary", format::Alphabet::kBinary},
    {"ternary", format::Alphabet::kTernaryPacked},
    {"ternary-planes", format::Alphabet::kTernaryPlanes}};

namespace {

std::string CheckTable(const std::string& text) {
  const bool good =
      text == kShared || kTableTypes.contains(text) || converter::ParseRate(text).ok();
  return good ? "" : fmt::format("'{}' is neither q8, keep, auto nor an OSR", text);
}

void DeclareMethod(CLI::App& app, ConvertCommand& o) {
  app.add_option("--method", o.method,
                 "trellis (default), sdq (the published method), float (no quantization)")
      ->check(CLI::IsMember(kMethods));
  CLI::Option* osr =
      app.add_option("--osr", o.convert.osr,
                     "over-sampling ratio: samples per weight, mean over all linears (default 2)")
          ->check(NumberFrom(0.25, 16));
  CLI::Option* bpw =
      app.add_option("--bpw", o.bits_per_weight,
                     "instead of --osr: stored bits per weight of the linears, met from below")
          ->check(NumberFrom(0.25, 64))
          ->excludes(osr);
  app.add_option("--target-size", o.target_size,
                 "instead of --osr: size of the file, met from below; bytes, KiB, MiB, GiB, or % "
                 "of the checkpoint at 16 bits")
      ->excludes(osr)
      ->excludes(bpw);
  app.add_option(
         "--allocate", o.allocation,
         "how linears share it: sensitivity (least predicted KL; default of trellis with "
         "calibration), uniform (default otherwise) or sigma (MultiOSR: more for linears of "
         "low variance)")
      ->check(CLI::IsMember(kAllocations));
  app.add_option("--osr-file", o.rate_file,
                 "exceptions, a line each: PATTERN OSR, e.g. 'layers.0.attn.* 5/2'");
  app.add_option("--alphabet", o.alphabet,
                 "binary (default of trellis), ternary (default of sdq; 5 per byte) or "
                 "ternary-planes (2 bits each)")
      ->check(CLI::IsMember(kAlphabets));
  app.add_option("--window", o.convert.window,
                 "trellis: samples that a weight depends on, 2^L states: 8, 10 or 12 (default: by "
                 "rate, longer for higher ones; ternary 3^L: 5, 6 or 7, default 5)")
      ->check(IntegerFrom(1, 16));
  app.add_flag("!--no-derived", o.convert.derived,
               "trellis: below OSR 1.75, stored samples alone: up to twice the tokens/s where "
               "arithmetic sets the pace, worse text");
  app.add_option("--scale-tries", o.convert.scale_tries,
                 "trellis with --calib: row scales to try, each costs a search (default 1)")
      ->check(IntegerFrom(1, int(converter::kMaxScaleTries)));
  app.add_option("--order", o.convert.published.order,
                 "sdq: order of the modulator, 1 (default) or 2")
      ->check(IntegerFrom(1, 2));
  app.add_option("--block", o.convert.published.block, "sdq: columns per block (default 128)")
      ->check(IntegerFrom(8, 4096));
  app.add_flag("--diagonal-compensation", o.convert.published.diagonal_compensation,
               "sdq: the publication's shortcut instead of the exact block solve");
}

}  // namespace

void DeclareConvert(CLI::App& app, ConvertCommand& o) {
  app.add_option("checkpoint", o.checkpoint,
                 "folder with config.json and *.safetensors, or a GGUF file")
      ->required();
  app.add_option("-o,--output", o.output, "file to write (.sdq)")->required();
  app.add_flag("--random", o.random,
               "random bits in the shape of a config.json, given instead of a checkpoint: for "
               "measuring speed");
  DeclareMethod(app, o);
  app.add_option("--calib", o.calibration_file,
                 "text that the model should do well on (default: text that the float model writes "
                 "itself; 'none': plain squared error)");
  app.add_option("--calib-separator", o.separator,
                 "line between documents of that text (default <|endoftext|>)");
  app.add_option("--calib-tokens", o.calibration_tokens,
                 fmt::format("tokens of it to use (default {}; {} of the model's own text)",
                             kFileTokens, kOwnTokens))
      ->check(IntegerFrom(1));
  app.add_option("--embeddings", o.embeddings,
                 "token embeddings: q8 (8-bit rows), keep (as in the checkpoint), an OSR (a "
                 "bitstream), or auto: what is best within --bpw or --target-size (default q8; "
                 "with --target-size and --allocate sensitivity auto)")
      ->check(CheckTable);
  app.add_option("--head", o.head,
                 "the head, where it is not the embeddings: the same choice (default: as those)")
      ->check(CheckTable);
  app.add_option("--damping", o.convert.damping,
                 "share of the mean diagonal added to the Hessian (default 0.1; sdq 0.01)")
      ->check(NumberFrom(0, 10));
  app.add_option("--correct-inputs", o.convert.correction.inputs,
                 "trellis: share of the change of a linear's inputs that its weights make up for "
                 "(default 0.75)")
      ->check(NumberFrom(0, 1));
  app.add_option("--correct-residual", o.convert.correction.residual,
                 "trellis: share of the error of the residual stream that o and down make up for "
                 "(default 1)")
      ->check(NumberFrom(0, 1));
  app.add_option("--tune", o.convert.tuning_epochs,
                 "passes over the calibration text that tune scales, biases and norms towards the "
                 "float model's predictions (default 0; holds the whole model in memory)")
      ->check(CLI::Range(0, 100));
  app.add_option("--tune-rate", o.convert.tuning_rate, "step size of that (default 0.003)")
      ->check(CLI::Range(1e-7, 1.0));
  app.add_option("--seed", o.convert.seed, "seed of the rotation signs (default 0)")
      ->check(IntegerFrom(0));
  app.add_flag(
      "--resume", o.resume,
      "go on where an interrupted conversion with the same options ended: it keeps what it "
      "has finished in OUTPUT.partial");
  app.add_option("--report", o.report_file,
                 "also write a figure of the rates and of predicted and measured losses: FILE.svg, "
                 "or FILE.html with all numbers")
      ->check(CLI::Validator(
          [](const std::string& path) {
            return path.ends_with(".svg") || path.ends_with(".html")
                       ? std::string()
                       : "'" + path + "': must end in .svg or .html";
          },
          "FILE.svg|FILE.html"));
  AddThreadsOption(app, &o.threads);
  app.add_flag("-q,--quiet", o.quiet, "no progress, no report");
}

}  // namespace sdq::apps
