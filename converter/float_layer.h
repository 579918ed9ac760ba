// One transformer layer in f32, owned by the converter, in the form that the runtime's block runs.
#ifndef SDQ_CONVERTER_FLOAT_LAYER_H_
#define SDQ_CONVERTER_FLOAT_LAYER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "format/status.h"
#include "runtime/model.h"

namespace sdq::converter {

// Weights may be overwritten in place (by their quantized reconstruction): `weights` sees it.
// Not movable: `weights` points into the owned vectors.
class FloatLayer {
 public:
  // `precision`: of the products with its linears.
  static Result<std::unique_ptr<FloatLayer>> Load(
      const Checkpoint& checkpoint, int64_t layer,
      kernels::Precision precision = kernels::Precision::kSingle);

  const LayerWeights& weights() const { return weights_; }

  struct NamedLinear {
    std::string name;  // canonical
    Linear* linear;
    std::vector<float>* values;  // [rows][columns]
    std::vector<float>* bias;    // may be empty
  };
  // In the order of ExpectedTensors.
  const std::vector<NamedLinear>& linears() const { return linears_; }

  struct NamedVector {
    std::string name;
    std::vector<float>* values;
  };
  const std::vector<NamedVector>& vectors() const { return vectors_; }

 private:
  FloatLayer() = default;
  std::map<std::string, std::vector<float>> storage_;  // by canonical name; addresses are stable
  std::vector<NamedLinear> linears_;
  std::vector<NamedVector> vectors_;
  LayerWeights weights_;
};

// A dense f32 Linear over vectors that outlive it.
Linear MakeFloatLinear(const std::string& name, size_t rows, size_t columns,
                       const std::vector<float>& values, const std::vector<float>& bias);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_FLOAT_LAYER_H_
