#include "runtime/session.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "kernels/parallel.h"
#include "kernels/rotation.h"
#include "kernels/vector_math.h"
#include "runtime/block_buffers.h"
#include "runtime/rotary.h"

namespace sdq {
namespace {

// Positions whose logits AppendAll computes at once: enough to share each row of the head, few
// enough that the logits of a large vocabulary stay at about four megabytes.
size_t HeadChunk(size_t vocab_size, size_t batch) {
  constexpr size_t kLogits = size_t{1} << 20;
  return std::min(batch, std::clamp<size_t>(kLogits / std::max<size_t>(vocab_size, 1), 8, 64));
}

size_t PhysicalMemoryBytes() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page_bytes = ::sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page_bytes <= 0) return std::numeric_limits<size_t>::max();
  return SaturatingMul(static_cast<size_t>(pages), static_cast<size_t>(page_bytes));
}

double Gigabytes(size_t bytes) { return static_cast<double>(bytes) * 1e-9; }

}  // namespace

struct Session::Impl {
  Impl(const Model& m, const SessionOptions& o);

  // Bytes of a layer's keys (as many for values), and of their scales (kQ8).
  size_t KvElements() const;
  size_t KvScales() const;
  bool Int8() const { return options.prefill == Prefill::kInt8; }
  // Session's own arrays, all strides = widths. Returns the bytes of their arena.
  size_t Carve(uint8_t* base);
  void CarveKv();
  Status CheckMemory() const;

  Status CheckTokens(std::span<const TokenId> tokens) const;
  void Embed(std::span<const TokenId> tokens);
  void RunLayers(std::span<const TokenId> tokens);
  // Logits of `count` rows of hidden_, from row `first`, into out[count][vocab].
  void Head(size_t first, size_t count, float* out);
  void NormalizeFinal(const float* x, float* y) const;

  const Model& model;
  const ModelConfig& config;
  const ModelWeights& weights;
  SessionOptions options;
  size_t hidden_size, embed_size, vocab_size, kv_width;
  bool rotary, projected;

  AlignedBuffer arena;
  float* hidden = nullptr;          // [batch][hidden_size]
  float* embedded = nullptr;        // [batch][embed_size], only with projections
  float* head_input = nullptr;      // [chunk][hidden_size]
  float* head_projected = nullptr;  // [chunk][embed_size], only with projections
  float* chunk_logits = nullptr;    // [chunk][vocab_size]
  float* last_logits = nullptr;     // [vocab_size]
  float* rotary_table = nullptr;    // [context][head_dim], filled as positions come into use
  std::vector<double> rotary_frequencies;
  size_t rotary_rows = 0;

  AlignedBuffer kv_memory;
  std::vector<KvLayer> kv;
  kernels::Rotation kv_rotation;  // of a head; none but for kQ8
  std::unique_ptr<BlockWorkspace> workspace;

  size_t position = 0;
  bool has_logits = false;
  MemoryPlan plan;
};

Session::Impl::Impl(const Model& m, const SessionOptions& o)
    : model(m),
      config(m.config()),
      weights(m.weights()),
      options(o),
      hidden_size(static_cast<size_t>(config.hidden_size)),
      embed_size(static_cast<size_t>(config.embed_size)),
      vocab_size(static_cast<size_t>(config.vocab_size)),
      kv_width(static_cast<size_t>(config.kv_heads * config.head_dim)),
      rotary(config.architecture == Architecture::kLlama),
      projected(weights.project_in.rows != 0),
      kv_rotation(static_cast<size_t>(config.head_dim),
                  options.kv == kernels::KvType::kQ8 ? static_cast<size_t>(config.head_dim) : 0,
                  0) {
  if (options.context == 0) options.context = static_cast<size_t>(config.max_positions);
  options.batch = std::min(options.batch, options.context);
  plan.file_bytes = m.file().file_bytes();
  plan.kv_bytes = SaturatingMul(static_cast<size_t>(config.layers),
                                SaturatingMul(2, SaturatingAdd(KvElements(), KvScales())));
  plan.workspace_bytes = SaturatingAdd(
      Carve(nullptr),
      BlockWorkspace::PlanBytes(config, options.batch, options.context, model.maps(), Int8()));
}

size_t Session::Impl::Carve(uint8_t* base) {
  Carver carver(base);
  const size_t chunk = HeadChunk(vocab_size, options.batch);
  hidden = carver.Floats(options.batch, hidden_size);
  head_input = carver.Floats(chunk, hidden_size);
  if (projected) {
    embedded = carver.Floats(options.batch, embed_size);
    head_projected = carver.Floats(chunk, embed_size);
  }
  chunk_logits = carver.Floats(chunk, vocab_size);
  last_logits = carver.Floats(1, vocab_size);
  if (rotary) {
    rotary_table = carver.Floats(options.context, static_cast<size_t>(config.head_dim));
  }
  return carver.used();
}

size_t Session::Impl::KvElements() const {
  const size_t elements = SaturatingMul(kernels::KvPositions(options.context), kv_width);
  return SaturatingMul(elements, kernels::KvElementBytes(options.kv));
}

size_t Session::Impl::KvScales() const {
  if (options.kv != kernels::KvType::kQ8) return 0;
  const size_t heads = static_cast<size_t>(config.kv_heads);
  return SaturatingMul(SaturatingMul(kernels::KvPositions(options.context), heads), sizeof(float));
}

// The scales of all layers lie before all elements, aligned as floats.
void Session::Impl::CarveKv() {
  kv_memory = AlignedBuffer(plan.kv_bytes);
  kv.resize(static_cast<size_t>(config.layers));
  uint8_t* scales = kv_memory.data();
  uint8_t* elements = scales + 2 * KvScales() * kv.size();
  for (KvLayer& layer : kv) {
    layer.type = options.kv;
    layer.positions = kernels::KvPositions(options.context);
    layer.keys = elements;
    layer.values = elements + KvElements();
    elements += 2 * KvElements();
    if (options.kv != kernels::KvType::kQ8) continue;
    layer.key_scales = reinterpret_cast<float*>(scales);
    layer.value_scales = reinterpret_cast<float*>(scales + KvScales());
    layer.rotation = &kv_rotation;
    scales += 2 * KvScales();
  }
}

// Systems that overcommit would hand out the pages and fail when they are used.
Status Session::Impl::CheckMemory() const {
  const size_t wanted = SaturatingAdd(plan.kv_bytes, plan.workspace_bytes);
  const size_t available = PhysicalMemoryBytes();
  if (wanted <= available) return Status::Ok();
  return Status::ResourceExhausted(fmt::format(
      "a context of {} tokens needs {:.1f} GB (KV cache {:.1f} GB), the machine has {:.1f} GB: ask "
      "for a smaller context",
      options.context, Gigabytes(wanted), Gigabytes(plan.kv_bytes), Gigabytes(available)));
}

Result<std::unique_ptr<Session>> Session::Create(const Model& model, SessionOptions options) try {
  if (options.batch == 0) return Status::InvalidArgument("batch is 0, expected at least 1");
  const size_t limit = static_cast<size_t>(model.config().max_positions);
  if (options.context > limit) {
    return Status::OutOfRange(
        fmt::format("a context of {} tokens was asked for, but the model has {} positions",
                    options.context, limit));
  }
  std::unique_ptr<Session> session(new Session());
  session->impl_ = std::make_unique<Impl>(model, options);
  Impl& impl = *session->impl_;
  SDQ_RETURN_IF_ERROR(impl.CheckMemory());
  impl.CarveKv();
  impl.arena = AlignedBuffer(impl.Carve(nullptr));
  impl.Carve(impl.arena.data());
  impl.workspace = std::make_unique<BlockWorkspace>(
      impl.config, impl.options.batch, impl.options.context, model.maps(), impl.Int8());
  if (impl.rotary) impl.rotary_frequencies = RotaryFrequencies(impl.config);
  return session;
} catch (const std::bad_alloc&) {
  return Status::ResourceExhausted("not enough memory for the session: ask for a smaller context");
}

Session::Session() = default;
Session::~Session() = default;

Status Session::Impl::CheckTokens(std::span<const TokenId> tokens) const {
  if (tokens.empty()) return Status::InvalidArgument("no tokens to append");
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && static_cast<size_t>(tokens[i]) < vocab_size) continue;
    return Status::OutOfRange(fmt::format("token {} has id {}, but the vocabulary has {} tokens", i,
                                          tokens[i], vocab_size));
  }
  if (tokens.size() > options.context - position) {
    const bool at_limit = options.context == static_cast<size_t>(config.max_positions);
    return Status::OutOfRange(fmt::format(
        "the context of {} tokens is full: it holds {}, {} more do not fit ({})", options.context,
        position, tokens.size(),
        at_limit ? "it is the longest that the model has positions for"
                 : fmt::format("a context of up to {} can be asked for", config.max_positions)));
  }
  return Status::Ok();
}

void Session::Impl::Embed(std::span<const TokenId> tokens) {
  float* rows = projected ? embedded : hidden;
  kernels::ParallelFor(tokens.size(), 1, [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      Row(weights.embed_tokens, static_cast<size_t>(tokens[t]), rows + t * embed_size);
    }
  });
  BlockWorkspace::Buffers& buffers = workspace->buffers();
  if (projected) {
    buffers.input.SetInput(embedded, tokens.size(), embed_size);
    Forward(weights.project_in, buffers.input, hidden, hidden_size);
  }
  if (config.architecture != Architecture::kOpt) return;
  const size_t first = position + static_cast<size_t>(config.position_offset);
  kernels::ParallelFor(tokens.size(), 1, [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      float* row = buffers.normed + t * hidden_size;
      Row(weights.embed_positions, first + t, row);
      kernels::AddInPlace(hidden + t * hidden_size, row, hidden_size);
    }
  });
}

// Evaluates at most a batch of tokens; their final residual stream is then in `hidden`.
void Session::Impl::RunLayers(std::span<const TokenId> tokens) {
  workspace->buffers().FitThreads();
  workspace->buffers().input.set_int8(Int8());
  plan.workspace_bytes = arena.bytes() + workspace->bytes();
  Embed(tokens);
  const size_t end = position + tokens.size();
  const size_t dim = static_cast<size_t>(config.head_dim);
  if (rotary && end > rotary_rows) {
    FillRotaryRows(rotary_frequencies, rotary_rows, end - rotary_rows,
                   rotary_table + rotary_rows * dim);
    rotary_rows = end;
  }
  const std::span<const float> table(rotary_table, rotary ? rotary_rows * dim : 0);
  for (size_t layer = 0; layer < kv.size(); ++layer) {
    RunBlock(config, weights.layers[layer], kv[layer], table, position, tokens.size(), hidden,
             *workspace, LinearTap());
  }
}

void Session::Impl::NormalizeFinal(const float* x, float* y) const {
  const float eps = static_cast<float>(config.norm_eps);
  const Norm& norm = weights.final_norm;
  if (!config.final_norm) {
    std::memcpy(y, x, hidden_size * sizeof(float));
  } else if (config.architecture == Architecture::kLlama) {
    kernels::RmsNorm(x, norm.weight, eps, hidden_size, y);
  } else {
    kernels::LayerNorm(x, norm.weight, norm.bias, eps, hidden_size, y);
  }
}

void Session::Impl::Head(size_t first, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) {
    NormalizeFinal(hidden + (first + i) * hidden_size, head_input + i * hidden_size);
  }
  PreparedInput& input = workspace->buffers().input;
  input.set_int8(false);
  input.SetInput(head_input, count, hidden_size);
  if (projected) {
    Forward(weights.project_out, input, head_projected, embed_size);
    input.SetInput(head_projected, count, embed_size);
  }
  Forward(weights.head, input, out, vocab_size);
}

Status Session::Append(std::span<const TokenId> tokens) try {
  Impl& impl = *impl_;
  SDQ_RETURN_IF_ERROR(impl.CheckTokens(tokens));
  impl.has_logits = false;
  while (!tokens.empty()) {
    const size_t count = std::min(tokens.size(), impl.options.batch);
    impl.RunLayers(tokens.first(count));
    impl.position += count;
    tokens = tokens.subspan(count);
    if (tokens.empty()) impl.Head(count - 1, 1, impl.last_logits);
  }
  impl.has_logits = true;
  return Status::Ok();
} catch (const std::bad_alloc&) {
  return Status::ResourceExhausted("not enough memory for this many threads");
}

Status Session::AppendAll(
    std::span<const TokenId> tokens,
    const std::function<void(size_t, std::span<const float>)>& on_logits) try {
  Impl& impl = *impl_;
  SDQ_RETURN_IF_ERROR(impl.CheckTokens(tokens));
  impl.has_logits = false;
  const size_t chunk = HeadChunk(impl.vocab_size, impl.options.batch);
  const size_t vocab = impl.vocab_size;
  for (size_t done = 0; done < tokens.size();) {
    const size_t count = std::min(tokens.size() - done, impl.options.batch);
    impl.RunLayers(tokens.subspan(done, count));
    impl.position += count;
    for (size_t first = 0; first < count; first += chunk) {
      const size_t rows = std::min(chunk, count - first);
      impl.Head(first, rows, impl.chunk_logits);
      for (size_t i = 0; i < rows; ++i) {
        on_logits(done + first + i, {impl.chunk_logits + i * vocab, vocab});
      }
      std::memcpy(impl.last_logits, impl.chunk_logits + (rows - 1) * vocab, vocab * sizeof(float));
    }
    done += count;
  }
  impl.has_logits = true;
  return Status::Ok();
} catch (const std::bad_alloc&) {
  return Status::ResourceExhausted("not enough memory for this many threads");
}

std::span<const float> Session::logits() const {
  return {impl_->last_logits, impl_->has_logits ? impl_->vocab_size : 0};
}

size_t Session::position() const { return impl_->position; }
size_t Session::context() const { return impl_->options.context; }

void Session::Truncate(size_t position) {
  if (position >= impl_->position) return;
  impl_->position = position;
  impl_->has_logits = false;
}

const MemoryPlan& Session::memory() const { return impl_->plan; }

}  // namespace sdq
