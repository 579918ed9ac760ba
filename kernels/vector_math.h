// Element-wise and reducing float operations of a transformer. Fixed summation orders.
#ifndef SDQ_KERNELS_VECTOR_MATH_H_
#define SDQ_KERNELS_VECTOR_MATH_H_

#include <cstddef>

namespace sdq::kernels {

// y = x / sqrt(mean(x^2) + eps) o weight. y may be x.
void RmsNorm(const float* x, const float* weight, float eps, size_t n, float* y);
// y = (x - mean) / sqrt(var + eps) o weight + bias; weight and bias may be null. y may be x.
void LayerNorm(const float* x, const float* weight, const float* bias, float eps, size_t n,
               float* y);
void AddInPlace(float* x, const float* y, size_t n);  // x += y
void ReluInPlace(float* x, size_t n);
void SiluMul(float* gate, const float* up, size_t n);  // gate = silu(gate) o up
void GeluInPlace(float* x, size_t n);                  // erf form (OPT variants)
// In place softmax; returns log(sum exp) of the input.
float Softmax(float* x, size_t n);
float LogSumExp(const float* x, size_t n);
float Dot(const float* a, const float* b, size_t n);

// Rotary embedding, half-split (Hugging Face) order: pairs (x[i], x[i + dim/2]) of each head are
// turned by angle with cosine cos_sin[i] and sine cos_sin[dim/2 + i]. x: heads * dim.
void Rotary(float* x, size_t heads, size_t dim, const float* cos_sin);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_VECTOR_MATH_H_
