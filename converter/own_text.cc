#include "converter/own_text.h"

#include <algorithm>
#include <memory>

#include "converter/batch_decoder.h"
#include "converter/random_bits.h"
#include "kernels/parallel.h"
#include "kernels/vector_math.h"

namespace sdq::converter {
namespace {

// Sequences that are written side by side: enough to use each weight often, and no more than their
// keys and values may take.
constexpr size_t kMostLanes = 64;
constexpr size_t kCacheBytes = size_t(512) << 20;

double Uniform(SplitMix64* random) { return double(random->Next() >> 11) * 0x1p-53; }

// Draws from the softmax of `logits`, which are overwritten.
TokenId Draw(std::span<float> logits, SplitMix64* random) {
  kernels::Softmax(logits.data(), logits.size());
  double total = 0;
  for (const float p : logits) total += double(p);
  double left = Uniform(random) * total;
  size_t last = 0;
  for (size_t id = 0; id < logits.size(); ++id) {
    if (logits[id] == 0.0f) continue;
    last = id;
    left -= double(logits[id]);
    if (left < 0) break;
  }
  return TokenId(last);
}

// One of the sequences that are written side by side.
struct Lane {
  SplitMix64 random;
  TokenId token = 0;    // the next one to put down
  size_t position = 0;  // within its document
  std::vector<TokenId> text;
};

class Writer {
 public:
  Writer(const ModelConfig& config, size_t window, uint64_t seed, size_t lanes)
      : config_(config), window_(window) {
    for (size_t i = 0; i < lanes; ++i) {
      lanes_.push_back({SplitMix64(HashName("own text") ^ seed ^ (uint64_t(i) << 32)), 0, 0, {}});
      Begin(&lanes_.back());
    }
  }

  void Step(BatchDecoder* decoder) {
    std::vector<TokenId> tokens;
    std::vector<size_t> positions;
    for (Lane& lane : lanes_) {
      lane.text.push_back(lane.token);
      tokens.push_back(lane.token);
      positions.push_back(lane.position++);
    }
    decoder->Step(tokens, positions);
    kernels::ParallelFor(lanes_.size(), 1, [&](size_t begin, size_t end, size_t) {
      for (size_t i = begin; i < end; ++i) {
        Lane& lane = lanes_[i];
        lane.token = Draw(decoder->logits(i), &lane.random);
        if (IsEnd(lane.token) || lane.text.size() % window_ == 0) Begin(&lane);
      }
    });
  }

  std::vector<TokenId> Text() const {
    std::vector<TokenId> all;
    for (const Lane& lane : lanes_) all.insert(all.end(), lane.text.begin(), lane.text.end());
    return all;
  }

 private:
  bool IsEnd(TokenId token) const {
    const auto& ends = config_.eos_tokens;
    return std::find(ends.begin(), ends.end(), int64_t(token)) != ends.end();
  }

  void Begin(Lane* lane) const {
    lane->position = 0;
    if (config_.bos_token >= 0) {
      lane->token = TokenId(config_.bos_token);
    } else if (!config_.eos_tokens.empty()) {
      lane->token = TokenId(config_.eos_tokens.front());
    } else {
      lane->token = TokenId(Uniform(&lane->random) * double(config_.vocab_size));
    }
  }

  const ModelConfig& config_;
  size_t window_;
  std::vector<Lane> lanes_;
};

}  // namespace

Result<std::vector<TokenId>> WriteOwnText(const Checkpoint& checkpoint,
                                          const OwnTextOptions& options, const OwnTextTick& tick) {
  const ModelConfig& config = checkpoint.config();
  const size_t window = std::min(options.window, size_t(config.max_positions));
  if (window == 0 || options.tokens == 0) {
    return Status::InvalidArgument("own calibration text of no tokens or windows of none");
  }
  const size_t windows = (options.tokens + window - 1) / window;
  const size_t most =
      std::clamp(kCacheBytes / BatchDecoder::CacheBytes(config, window), size_t(1), kMostLanes);
  const size_t rounds = (windows + most - 1) / most;
  const size_t lanes = (windows + rounds - 1) / rounds;
  SDQ_ASSIGN_OR_RETURN(
      const std::unique_ptr<BatchDecoder> decoder,
      BatchDecoder::Create(checkpoint, lanes, window, kernels::Precision::kRounded));
  Writer writer(config, window, options.seed, lanes);
  const size_t steps = rounds * window;
  for (size_t step = 0; step < steps; ++step) {
    writer.Step(decoder.get());
    if (tick && !tick(step + 1, steps)) return Status::Cancelled("interrupted");
  }
  std::vector<TokenId> text = writer.Text();
  text.resize(windows * window);
  return text;
}

}  // namespace sdq::converter
