// Element-wise and reducing float operations of a transformer. Fixed summation orders.
#ifndef SDQ_KERNELS_VECTOR_MATH_H_
#define SDQ_KERNELS_VECTOR_MATH_H_

#include <cstddef>
#include <cstdint>
#include <span>

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

// Rows of a KV cache in f32 or f16.
enum class KvType : uint8_t { kF32 = 1, kF16 = 2 };
// Converts n floats into cache elements at dst.
void StoreKv(const float* src, size_t n, KvType type, void* dst);

// One query head over the first `length` cached positions of its KV head:
//   out = softmax(q . K / scale-free: the caller has scaled q) V.
struct AttentionQuery {
  const float* q = nullptr;  // dim floats
  size_t length = 0;
  float* scores = nullptr;  // length floats of scratch
  float* out = nullptr;     // dim floats
};
// Queries of one KV head, each as if alone, bit for bit; groups of four are fastest, of like
// length. keys and values: element (p, i) at p * stride + i (in elements of `type`).
void Attend(std::span<const AttentionQuery> queries, const void* keys, const void* values,
            KvType type, size_t stride, size_t dim);
// One query.
void AttendHead(const float* q, const void* keys, const void* values, KvType type, size_t stride,
                size_t length, size_t dim, float* scores, float* out);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_VECTOR_MATH_H_
