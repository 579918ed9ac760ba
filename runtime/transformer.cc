#include "runtime/transformer.h"

#include <array>

#include "kernels/parallel.h"
#include "kernels/vector_math.h"
#include "runtime/attention.h"
#include "runtime/block_buffers.h"

namespace sdq {
namespace {

using Buffers = BlockWorkspace::Buffers;

// fn(t) for every token, in parallel: for work that treats tokens alone.
template <typename Fn>
void ForTokens(size_t tokens, const Fn& fn) {
  kernels::ParallelFor(tokens, 1, [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) fn(t);
  });
}

// One block over one batch: names what the steps share.
struct Block {
  const ModelConfig& config;
  const LayerWeights& layer;
  // Tokens first_position, ... of the sequence of one cache; or, if positions are given, one token
  // each of the sequences of as many caches.
  std::span<const KvLayer> caches;
  std::span<const size_t> positions;
  std::span<const float> rotary_table;
  size_t first_position;
  size_t tokens;
  float* hidden;
  Buffers& buffers;
  const LinearTap& tap;

  // All linears of one input. False if the tap left out all of them.
  template <size_t N>
  bool Project(const float* x, size_t stride, std::array<LinearOutput, N> outputs) const {
    buffers.input.SetInput(x, tokens, stride);
    size_t count = 0;
    for (const LinearOutput& output : outputs) {
      if (!tap || tap(*output.linear, x, tokens, stride)) outputs[count++] = output;
    }
    ForwardAll({outputs.data(), count}, buffers.input);
    return count > 0;
  }

  void Normalize(const Norm& norm, const float* x, float* y) const {
    const size_t n = buffers.hidden;
    const float eps = static_cast<float>(config.norm_eps);
    ForTokens(tokens, [&](size_t t) {
      if (config.architecture == Architecture::kLlama) {
        kernels::RmsNorm(x + t * n, norm.weight, eps, n, y + t * n);
      } else {
        kernels::LayerNorm(x + t * n, norm.weight, norm.bias, eps, n, y + t * n);
      }
    });
  }

  // The input of a sub-block: normalized first in pre-norm models, the residual stream itself in
  // post-norm ones (OPT-350M).
  const float* Enter(const Norm& norm) const {
    if (!config.pre_norm) return hidden;
    Normalize(norm, hidden, buffers.normed);
    return buffers.normed;
  }

  // Adds the sub-block's output to the residual stream.
  void Leave(const Norm& norm) const {
    const size_t n = buffers.hidden;
    ForTokens(tokens,
              [&](size_t t) { kernels::AddInPlace(hidden + t * n, buffers.projected + t * n, n); });
    if (!config.pre_norm) Normalize(norm, hidden, hidden);
  }

  void Attention() const {
    const float* x = Enter(layer.attn_norm);
    if (!Project<3>(x, buffers.hidden,
                    {{{&layer.q, buffers.q, buffers.query},
                      {&layer.k, buffers.k, buffers.kv},
                      {&layer.v, buffers.v, buffers.kv}}})) {
      return;
    }
    if (positions.empty()) {
      Attend(config, caches[0], rotary_table, first_position, tokens, buffers);
    } else {
      AttendStep(config, caches, rotary_table, positions, buffers);
    }
    if (Project<1>(buffers.attended, buffers.query,
                   {{{&layer.o, buffers.projected, buffers.hidden}}})) {
      Leave(layer.attn_norm);
    }
  }

  void Activate() const {
    const size_t n = buffers.ffn;
    ForTokens(tokens, [&](size_t t) {
      float* up = buffers.up + t * n;
      switch (config.activation) {
        case Activation::kRelu:
          return kernels::ReluInPlace(up, n);
        case Activation::kGelu:
          return kernels::GeluInPlace(up, n);
        case Activation::kSilu:
          return kernels::SiluMul(buffers.gate + t * n, up, n);
      }
    });
  }

  void FeedForward() const {
    const float* x = Enter(layer.ffn_norm);
    const bool gated = config.architecture == Architecture::kLlama;
    const LinearOutput up{&layer.up, buffers.up, buffers.ffn};
    const bool run =
        gated ? Project<2>(x, buffers.hidden, {{{&layer.gate, buffers.gate, buffers.ffn}, up}})
              : Project<1>(x, buffers.hidden, {{up}});
    if (!run) return;
    Activate();
    if (Project<1>(gated ? buffers.gate : buffers.up, buffers.ffn,
                   {{{&layer.down, buffers.projected, buffers.hidden}}})) {
      Leave(layer.ffn_norm);
    }
  }
};

}  // namespace

void RunBlock(const ModelConfig& config, const LayerWeights& layer, const KvLayer& kv,
              std::span<const float> rotary_table, size_t first_position, size_t tokens,
              float* hidden, BlockWorkspace& workspace, const LinearTap& tap, BlockPart part) {
  if (tokens == 0) return;
  Buffers& buffers = workspace.buffers();
  buffers.FitThreads();
  const Block block{config,         layer,  {&kv, 1}, {},      rotary_table,
                    first_position, tokens, hidden,   buffers, tap};
  if (part != BlockPart::kFeedForward) block.Attention();
  if (part != BlockPart::kAttention) block.FeedForward();
}

void RunBlockStep(const ModelConfig& config, const LayerWeights& layer,
                  std::span<const KvLayer> caches, std::span<const float> rotary_table,
                  std::span<const size_t> positions, float* hidden, BlockWorkspace& workspace) {
  if (caches.empty()) return;
  Buffers& buffers = workspace.buffers();
  buffers.FitThreads();
  const LinearTap no_tap;
  const Block block{config, layer,         caches, positions, rotary_table,
                    0,      caches.size(), hidden, buffers,   no_tap};
  block.Attention();
  block.FeedForward();
}

}  // namespace sdq
