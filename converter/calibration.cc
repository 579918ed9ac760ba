#include "converter/calibration.h"

#include <algorithm>
#include <span>

#include "fmt/format.h"
#include "kernels/dense.h"
#include "kernels/vector_math.h"

namespace sdq::converter {

const std::vector<double>& LayerHessians::For(const LayerWeights& weights,
                                              const Linear* linear) const {
  if (linear == &weights.o) return attn_out;
  if (linear == &weights.gate || linear == &weights.up) return ffn_in;
  if (linear == &weights.down) return ffn_mid;
  return attn_in;
}

std::vector<TokenId> SpreadWindows(const std::vector<TokenId>& tokens, size_t window,
                                   size_t windows) {
  const size_t whole = window > 0 ? tokens.size() / window : 0;
  if (whole <= windows) return tokens;
  std::vector<TokenId> chosen;
  for (size_t w = 0; w < windows; ++w) {
    const auto begin = tokens.begin() + std::ptrdiff_t(w * whole / windows * window);
    chosen.insert(chosen.end(), begin, begin + std::ptrdiff_t(window));
  }
  return chosen;
}

struct Calibration::Impl {
  ModelConfig config;
  size_t window = 0;
  size_t windows = 0;
  size_t hidden = 0;
  std::vector<float> states;   // [windows][window][hidden]
  std::vector<float> scratch;  // one window
  std::vector<float> rotary;
  std::vector<float> keys, values;  // KV of one window, f32
  std::unique_ptr<BlockWorkspace> workspace;

  std::span<float> State(size_t w) {
    return std::span(states).subspan(w * window * hidden, window * hidden);
  }

  Status Embed(const Checkpoint& checkpoint, const std::vector<TokenId>& tokens);
};

namespace {

Status CheckTokens(const std::vector<TokenId>& tokens, size_t count, int64_t vocab) {
  for (size_t i = 0; i < count; ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocab) {
      return Status::OutOfRange(
          fmt::format("calibration token {} is outside the vocabulary of {}", tokens[i], vocab));
    }
  }
  return Status::Ok();
}

}  // namespace

Status Calibration::Impl::Embed(const Checkpoint& checkpoint, const std::vector<TokenId>& tokens) {
  const size_t count = windows * window;
  const size_t width = size_t(config.embed_size);
  SDQ_RETURN_IF_ERROR(CheckTokens(tokens, count, config.vocab_size));
  std::vector<float> table;
  SDQ_RETURN_IF_ERROR(checkpoint.Read("embed.tokens", &table));
  std::vector<float> embedded(count * width);
  for (size_t i = 0; i < count; ++i) {
    std::copy_n(table.begin() + std::ptrdiff_t(size_t(tokens[i]) * width), width,
                embedded.begin() + std::ptrdiff_t(i * width));
  }
  if (checkpoint.Has("embed.project_in")) {
    std::vector<float> matrix;
    SDQ_RETURN_IF_ERROR(checkpoint.Read("embed.project_in", &matrix));
    const Linear project = MakeFloatLinear("embed.project_in", hidden, width, matrix, {});
    states.resize(count * hidden);
    kernels::DenseProduct(project.dense, embedded.data(), count, width, states.data(), hidden);
  } else {
    states = std::move(embedded);
  }
  if (!checkpoint.Has("embed.positions")) return Status::Ok();
  std::vector<float> positions;
  SDQ_RETURN_IF_ERROR(checkpoint.Read("embed.positions", &positions));
  for (size_t i = 0; i < count; ++i) {
    const size_t row = i % window + size_t(config.position_offset);
    kernels::AddInPlace(&states[i * hidden], &positions[row * hidden], hidden);
  }
  return Status::Ok();
}

Calibration::Calibration() : impl_(std::make_unique<Impl>()) {}
Calibration::~Calibration() = default;

Result<std::unique_ptr<Calibration>> Calibration::Create(const Checkpoint& checkpoint,
                                                         const std::vector<TokenId>& tokens,
                                                         size_t window) {
  const ModelConfig& config = checkpoint.config();
  window = std::min(window, size_t(config.max_positions));
  if (tokens.size() < window) {
    return Status::InvalidArgument(fmt::format(
        "calibration text has {} tokens, less than one window of {}", tokens.size(), window));
  }
  std::unique_ptr<Calibration> result(new Calibration());
  Impl& impl = *result->impl_;
  impl.config = config;
  impl.window = window;
  impl.windows = tokens.size() / window;
  impl.hidden = size_t(config.hidden_size);
  impl.scratch.resize(window * impl.hidden);
  impl.rotary = RotaryTable(config, window);
  const size_t kv_width = size_t(config.kv_heads * config.head_dim);
  impl.keys.resize(kernels::KvPositions(window) * kv_width);
  impl.values.resize(kernels::KvPositions(window) * kv_width);
  impl.workspace = std::make_unique<BlockWorkspace>(
      config, window, window, std::vector<std::unique_ptr<kernels::ActivationMap>>());
  SDQ_RETURN_IF_ERROR(impl.Embed(checkpoint, tokens));
  return result;
}

size_t Calibration::tokens() const { return impl_->windows * impl_->window; }
size_t Calibration::window() const { return impl_->window; }
size_t Calibration::windows() const { return impl_->windows; }
std::span<float> Calibration::WindowStates(size_t index) { return impl_->State(index); }
std::span<const float> Calibration::states() const { return impl_->states; }

void Calibration::RunWindow(const LayerWeights& layer, BlockPart part, float* x,
                            const LinearTap& tap) {
  KvLayer kv;
  kv.keys = impl_->keys.data();
  kv.values = impl_->values.data();
  kv.type = kernels::KvType::kF32;
  kv.positions = kernels::KvPositions(impl_->window);
  RunBlock(impl_->config, layer, kv, impl_->rotary, 0, impl_->window, x, *impl_->workspace, tap,
           part);
}

Result<LayerHessians> Calibration::Collect(const LayerWeights& layer, const Tick& tick) {
  Impl& impl = *impl_;
  LayerHessians hessians;
  const auto allocate = [](std::vector<double>* h, size_t n) { h->assign(n * n, 0.0); };
  allocate(&hessians.attn_in, layer.q.columns);
  allocate(&hessians.attn_out, layer.o.columns);
  allocate(&hessians.ffn_in, layer.up.columns);
  allocate(&hessians.ffn_mid, layer.down.columns);
  const LinearTap tap = [&](const Linear& linear, const float* x, size_t tokens, size_t stride) {
    std::vector<double>* h = nullptr;  // one linear of each group that shares an input counts
    if (&linear == &layer.q) h = &hessians.attn_in;
    if (&linear == &layer.o) h = &hessians.attn_out;
    if (&linear == &layer.up) h = &hessians.ffn_in;
    if (&linear == &layer.down) h = &hessians.ffn_mid;
    if (h != nullptr) kernels::AccumulateGramUpper(x, tokens, linear.columns, stride, h->data());
    return &linear != &layer.down;  // nobody needs the block's output here
  };
  for (size_t w = 0; w < impl.windows; ++w) {
    const std::span<const float> state = impl.State(w);
    std::copy(state.begin(), state.end(), impl.scratch.begin());
    RunWindow(layer, BlockPart::kWhole, impl.scratch.data(), tap);
    if (tick && !tick(w + 1, impl.windows)) return Status::Cancelled("interrupted");
  }
  const double scale = 1.0 / double(tokens());
  const auto finish = [&](std::vector<double>* h, size_t n) {
    kernels::MirrorUpper(n, h->data());
    for (double& value : *h) value *= scale;
  };
  finish(&hessians.attn_in, layer.q.columns);
  finish(&hessians.attn_out, layer.o.columns);
  finish(&hessians.ffn_in, layer.up.columns);
  finish(&hessians.ffn_mid, layer.down.columns);
  return hessians;
}

Status Calibration::Advance(const LayerWeights& layer, const Tick& tick) {
  for (size_t w = 0; w < impl_->windows; ++w) {
    RunWindow(layer, BlockPart::kWhole, impl_->State(w).data(), LinearTap());
    if (tick && !tick(w + 1, impl_->windows)) return Status::Cancelled("interrupted");
  }
  return Status::Ok();
}

}  // namespace sdq::converter
