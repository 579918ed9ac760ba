// sdq-ppl: figures, and what cannot be measured.
#include <cmath>

#include "tests/cli/programs.h"

namespace sdq::test {
namespace {

using Json = nlohmann::json;

TEST_CASE("sdq-ppl: perplexity of the float models as computed from their checkpoints alone") {
  // Mean nll of tokens 2 to 64 of the reference text, from a float64 evaluation of the safetensors
  // files that shares nothing with this project. The margin is for the KV cache, which holds f16.
  const auto [checkpoint, nll] = GENERATE(table<const char*, double>(
      {{"stories-llama-5m", 1.33976089}, {"stories-opt-6m", 1.35580685}}));
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, checkpoint);
  WriteText(folder / "text.txt", std::string(kReferenceText) + "\n");
  const Json json =
      MustRunJson("sdq-ppl", {model, "-f", folder / "text.txt", "-c", "64", "--json"});
  CHECK(json["nll"].get<double>() == Approx(nll).margin(5e-4));
  CHECK(json["perplexity"].get<double>() == Approx(std::exp(json["nll"].get<double>())));
  CHECK(json["tokens"] == 63);
  CHECK(json["windows"] == 1);
  CHECK(json["seconds"].get<double>() > 0);
  CHECK_FALSE(json.contains("kl"));

  const std::string text = MustRun("sdq-ppl", {model, "-f", folder / "text.txt", "-c", "64"});
  CHECK(Contains(text, "63 tokens in 1 windows"));
}

TEST_CASE("sdq-ppl: a model against itself, and a quantized one against it") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  const std::string coarse = folder / "coarse.sdq";
  MustRun("sdq-convert",
          {BundledModel("stories-llama-5m"), "-o", coarse, "--osr", "1", "--calib", "none", "-q"});
  WriteText(folder / "text.txt", kReferenceText);
  const Arguments common = {"-f", folder / "text.txt", "-c", "16", "--reference", model, "--json"};
  const auto run = [&](const std::string& measured, const Arguments& more) {
    Arguments all = {measured};
    all.insert(all.end(), common.begin(), common.end());
    all.insert(all.end(), more.begin(), more.end());
    return MustRunJson("sdq-ppl", all);
  };
  const Json same = run(model, {"-t", "1"});
  CHECK(same["windows"] == 4);
  CHECK(same["tokens"] == 60);
  CHECK(std::abs(same["kl"].get<double>()) < 1e-5);
  CHECK(same["top1"] == 1.0);
  CHECK(same["reference_perplexity"] == same["perplexity"]);

  const Json other = run(coarse, {"-t", "1"});
  CHECK(other["kl"].get<double>() > 0.1);
  CHECK(other["top1"].get<double>() < 1.0);
  CHECK(other["top1"].get<double>() >= 0.0);
  CHECK(other["reference_perplexity"] == same["perplexity"]);

  // Neither batches nor threads show in the figures.
  const Json again = run(coarse, {"-t", "2", "-b", "5"});
  CHECK(again["kl"] == other["kl"]);
  CHECK(again["nll"] == other["nll"]);
}

TEST_CASE("sdq-ppl: documents end at the separator, windows at --chunks") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  const std::string one = kReferenceText;
  WriteText(folder / "text.txt", one + "\n<|endoftext|>\n\n" + one + "\n");
  const Arguments cut = {model, "-f", folder / "text.txt", "-c",           "64", "--json",
                         "-t",  "1",  "--separator",       "<|endoftext|>"};
  const Json two = MustRunJson("sdq-ppl", cut);
  CHECK(two["windows"] == 2);
  // Both documents have 64 tokens with the BOS in front: equal windows.
  Arguments first_only = cut;
  first_only.insert(first_only.end(), {"--chunks", "1"});
  const Json first = MustRunJson("sdq-ppl", first_only);
  CHECK(first["windows"] == 1);
  CHECK(first["nll"].get<double>() == Approx(two["nll"].get<double>()).epsilon(1e-9));
}

TEST_CASE("sdq-ppl: texts shorter than a window, contexts and references that do not fit") {
  const TemporaryFolder folder;
  const std::string model = FloatModel(folder, "stories-llama-5m");
  const std::string other = FloatModel(folder, "stories-opt-6m", "opt.sdq");
  const std::string text = folder / "text.txt";
  WriteText(text, kReferenceText);
  CheckFailure("sdq-ppl", {model, "-f", text, "-c", "65"}, 1, "the text has 64 tokens");
  // Both have 4096 tokens, which are not the same ones.
  CheckFailure("sdq-ppl", {model, "-f", text, "-c", "32", "--reference", other}, 1,
               "opt.sdq: its tokens are not those of the model");
  std::string long_text;
  for (int i = 0; i < 40; ++i) long_text += kReferenceText;
  WriteText(text, long_text);
  CheckFailure("sdq-ppl", {model, "-f", text, "-c", "1025"}, 1, "the model has 1024 positions");
}

}  // namespace
}  // namespace sdq::test
