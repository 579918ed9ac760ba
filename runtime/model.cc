#include "runtime/model.h"

#include <fmt/format.h>

#include <new>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>

#include "runtime/activation_map_cache.h"

namespace sdq {

struct Model::Impl {
  explicit Impl(format::MappedFile mapped) : map(std::move(mapped)) {}

  format::MappedFile map;
  format::SdqFile file;
  ModelConfig config;
  ActivationMapCache activation_maps;
  ModelWeights weights;
};

namespace {

// Where a tensor of a given name goes: a linear, a table of rows, or a vector of floats.
struct Table {
  Linear* linear;
};
using Slot = std::variant<Linear*, Table, const float**>;
using Slots = std::unordered_map<std::string, Slot>;

void AddNorm(const std::string& name, Norm* norm, Slots* slots) {
  slots->emplace(name + ".weight", &norm->weight);
  slots->emplace(name + ".bias", &norm->bias);
}

void AddLayer(int64_t n, LayerWeights* layer, Slots* slots) {
  AddNorm(LayerTensorName(n, "attn_norm"), &layer->attn_norm, slots);
  AddNorm(LayerTensorName(n, "ffn_norm"), &layer->ffn_norm, slots);
  slots->emplace(LayerTensorName(n, "attn.q"), &layer->q);
  slots->emplace(LayerTensorName(n, "attn.k"), &layer->k);
  slots->emplace(LayerTensorName(n, "attn.v"), &layer->v);
  slots->emplace(LayerTensorName(n, "attn.o"), &layer->o);
  slots->emplace(LayerTensorName(n, "ffn.gate"), &layer->gate);
  slots->emplace(LayerTensorName(n, "ffn.up"), &layer->up);
  slots->emplace(LayerTensorName(n, "ffn.down"), &layer->down);
}

// Every name that ExpectedTensors() may ask for. weights->layers has its final size.
Slots SlotsOf(ModelWeights* weights) {
  Slots slots;
  slots.emplace("embed.tokens", Table{&weights->embed_tokens});
  slots.emplace("embed.positions", Table{&weights->embed_positions});
  slots.emplace("embed.project_in", &weights->project_in);
  slots.emplace("embed.project_out", &weights->project_out);
  slots.emplace("head", &weights->head);
  AddNorm("final_norm", &weights->final_norm, &slots);
  for (size_t n = 0; n < weights->layers.size(); ++n) {
    AddLayer(static_cast<int64_t>(n), &weights->layers[n], &slots);
  }
  return slots;
}

bool IsUnderKnownPrefix(std::string_view name) {
  return name == "head" || name.starts_with("embed.") || name.starts_with("layers.") ||
         name.starts_with("final_norm.");
}

kernels::DenseMatrix MatrixOf(const format::DenseView& view) {
  kernels::DenseMatrix matrix;
  matrix.data = view.data.data();
  switch (view.type) {
    case format::DenseType::kF32:
      matrix.type = kernels::ElementType::kF32;
      break;
    case format::DenseType::kF16:
      matrix.type = kernels::ElementType::kF16;
      break;
    case format::DenseType::kBF16:
      matrix.type = kernels::ElementType::kBF16;
      break;
    case format::DenseType::kQ8:
      matrix.type = kernels::ElementType::kQ8;
      break;
  }
  matrix.rows = view.rows;
  matrix.columns = view.columns;
  matrix.scales_f16 = view.scales_f16.empty() ? nullptr : view.scales_f16.data();
  matrix.scale_base = view.scale_base;
  matrix.bias = view.bias.empty() ? nullptr : view.bias.data();
  return matrix;
}

kernels::StreamMatrix MatrixOf(const format::StreamView& view) {
  kernels::StreamMatrix matrix;
  matrix.bits = view.bits.data();
  matrix.rows = view.rows;
  matrix.scales_f16 = view.scales_f16.data();
  matrix.scale_base = view.scale_base;
  matrix.per_block = view.granularity == format::ScaleGranularity::kBlock;
  matrix.means_f16 = view.means_f16.empty() ? nullptr : view.means_f16.data();
  matrix.mean_base = view.mean_base;
  matrix.bias = view.bias.empty() ? nullptr : view.bias.data();
  return matrix;
}

// Ties the tensors of a file to the slots of a model. No weight is read.
class Binder {
 public:
  Binder(const format::SdqFile& file, ActivationMapCache* maps) : file_(file), maps_(maps) {}

  Status Bind(const TensorShape& expected, const Slot& slot) {
    const format::TensorView* view = file_.Find(expected.name);
    if (view == nullptr) {
      if (expected.optional) return Status::Ok();
      return Status::Corrupt(fmt::format("tensor '{}' is missing, expected [{}][{}]", expected.name,
                                         expected.rows, expected.columns));
    }
    SDQ_RETURN_IF_ERROR(CheckShape(expected, *view));
    if (Linear* const* linear = std::get_if<Linear*>(&slot)) return BindLinear(*view, *linear);
    if (const Table* table = std::get_if<Table>(&slot)) return BindTable(*view, table->linear);
    return BindVector(*view, std::get<const float**>(slot));
  }

 private:
  static Status CheckShape(const TensorShape& expected, const format::TensorView& view) {
    const auto [rows, columns] = std::visit(
        [](const auto& v) { return std::pair<int64_t, int64_t>(v.rows, v.columns); }, view);
    if (rows == expected.rows && columns == expected.columns) return Status::Ok();
    return Status::Corrupt(
        fmt::format("tensor '{}' is [{}][{}], but the model config implies "
                    "[{}][{}]",
                    expected.name, rows, columns, expected.rows, expected.columns));
  }

  Status BindLinear(const format::TensorView& view, Linear* linear) {
    std::visit(
        [&](const auto& v) {
          linear->name = v.name;
          linear->rows = v.rows;
          linear->columns = v.columns;
        },
        view);
    if (const auto* dense = std::get_if<format::DenseView>(&view)) {
      linear->dense = MatrixOf(*dense);
    } else {
      const auto& stream = std::get<format::StreamView>(view);
      linear->stream = MatrixOf(stream);
      linear->map = maps_->Get(MapSpecOf(stream));
    }
    return Status::Ok();
  }

  // Rows are looked up: a bias would mean nothing. Positions are added to every token's activation
  // and are stored as they are.
  Status BindTable(const format::TensorView& view, Linear* linear) {
    SDQ_RETURN_IF_ERROR(BindLinear(view, linear));
    if ((linear->is_stream() ? linear->stream.bias : linear->dense.bias) != nullptr) {
      return Status::Corrupt(fmt::format("tensor '{}' has a bias, expected none", linear->name));
    }
    if (linear->is_stream() && linear->name == "embed.positions") {
      return Status::Unsupported(
          fmt::format("tensor '{}' is a bitstream, expected a dense tensor", linear->name));
    }
    return Status::Ok();
  }

  Status BindVector(const format::TensorView& view, const float** vector) {
    const auto* dense = std::get_if<format::DenseView>(&view);
    if (dense == nullptr || dense->type != format::DenseType::kF32 || !dense->bias.empty()) {
      const std::string name = std::visit([](const auto& v) { return v.name; }, view);
      return Status::Unsupported(
          fmt::format("tensor '{}' is not a plain f32 vector, as normalization needs", name));
    }
    *vector = reinterpret_cast<const float*>(dense->data.data());
    return Status::Ok();
  }

  const format::SdqFile& file_;
  ActivationMapCache* maps_;
};

// Tensors that look like parts of the model but are none mean that file and config disagree. Other
// names are left alone: later versions may add tensors that this one need not know.
Status CheckNoStrangers(const format::SdqFile& file, const ModelConfig& config,
                        const std::vector<TensorShape>& expected) {
  if (config.tied_embeddings && file.Find("head") != nullptr) {
    return Status::Corrupt(
        "tensor 'head' is present, but model.tied_embeddings says that embed.tokens is the head");
  }
  std::unordered_map<std::string_view, const TensorShape*> known;
  for (const TensorShape& shape : expected) known.emplace(shape.name, &shape);
  for (const format::TensorView& view : file.tensors()) {
    const auto name = std::visit([](const auto& v) { return std::string_view(v.name); }, view);
    if (IsUnderKnownPrefix(name) && !known.contains(name)) {
      return Status::Corrupt(
          fmt::format("tensor '{}' does not belong to a model of this config ({} layers)", name,
                      config.layers));
    }
  }
  return Status::Ok();
}

// Sets ModelWeights::order and every Linear::next.
void LinkInOrder(ModelWeights* weights) {
  struct Group {  // of one input
    size_t first, count;
  };
  std::vector<Linear*> order;
  std::vector<Group> groups;
  const auto add = [&](std::initializer_list<Linear*> linears) {
    const size_t first = order.size();
    for (Linear* linear : linears) {
      if (linear->rows != 0) order.push_back(linear);
    }
    groups.push_back({first, order.size() - first});
  };
  for (LayerWeights& layer : weights->layers) {
    add({&layer.q, &layer.k, &layer.v});
    add({&layer.o});
    add({&layer.gate, &layer.up});
    add({&layer.down});
  }
  add({&weights->head});
  weights->order.assign(order.begin(), order.end());
  for (size_t g = 0; g < groups.size(); ++g) {
    const Group next = groups[(g + 1) % groups.size()];  // the next token's, after the head
    for (Linear* linear : std::span(order).subspan(groups[g].first, groups[g].count)) {
      linear->next = std::span(weights->order).subspan(next.first, next.count);
    }
  }
}

Status BindAll(const format::SdqFile& file, const ModelConfig& config, ActivationMapCache* maps,
               ModelWeights* weights) {
  // Before anything is sized by the layer count.
  if (static_cast<uint64_t>(config.layers) > file.tensors().size()) {
    return Status::Corrupt(fmt::format("model.layers is {}, but the file has {} tensors in all",
                                       config.layers, file.tensors().size()));
  }
  weights->layers.resize(static_cast<size_t>(config.layers));
  const Slots slots = SlotsOf(weights);
  const std::vector<TensorShape> expected = ExpectedTensors(config);
  SDQ_RETURN_IF_ERROR(CheckNoStrangers(file, config, expected));
  Binder binder(file, maps);
  for (const TensorShape& shape : expected) {
    SDQ_RETURN_IF_ERROR(binder.Bind(shape, slots.at(shape.name)));
  }
  if (config.tied_embeddings) weights->head = weights->embed_tokens;
  LinkInOrder(weights);
  return Status::Ok();
}

}  // namespace

Model::Model() = default;
Model::~Model() = default;

Result<std::unique_ptr<Model>> Model::Open(const std::string& path,
                                           format::MappedFile::Mode mode) try {
  SDQ_ASSIGN_OR_RETURN(format::MappedFile map, format::MappedFile::Open(path, mode));
  std::unique_ptr<Model> model(new Model());
  model->impl_ = std::make_unique<Impl>(std::move(map));
  Impl& impl = *model->impl_;
  SDQ_ASSIGN_OR_RETURN(impl.file, format::SdqFile::Parse(impl.map.bytes(), path));
  Result<ModelConfig> config = ModelConfig::Load(impl.file.metadata());
  if (!config.ok()) return std::move(config).status().Annotate(path);
  impl.config = *std::move(config);
  Status bound = BindAll(impl.file, impl.config, &impl.activation_maps, &impl.weights);
  if (!bound.ok()) return std::move(bound).Annotate(path);
  return model;
} catch (const std::bad_alloc&) {
  return Status::ResourceExhausted(path + ": not enough memory to open the model");
}

const ModelConfig& Model::config() const { return impl_->config; }
const ModelWeights& Model::weights() const { return impl_->weights; }
const format::SdqFile& Model::file() const { return impl_->file; }
const std::vector<std::unique_ptr<kernels::ActivationMap>>& Model::maps() const {
  return impl_->activation_maps.maps();
}

}  // namespace sdq
