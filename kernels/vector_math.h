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

// Elements of a KV cache. kQ8: int8, times one scale for each head of a position.
enum class KvType : uint8_t { kF32 = 1, kF16 = 2, kQ8 = 3 };
// Bytes of an element.
constexpr size_t KvElementBytes(KvType type) {
  return type == KvType::kF32 ? 4 : type == KvType::kF16 ? 2 : 1;
}
// Converts n floats into cache elements at dst; not for kQ8.
void StoreKv(const float* src, size_t n, KvType type, void* dst);
// A head's n floats as integers of at most 127 (nearest even) times the scale that is returned; a
// value that is not finite makes the scale NaN.
float StoreKvQ8(const float* src, size_t n, int8_t* dst);

// The cached positions of one KV head: element (p, i) at p * stride + i, in elements of `type`.
struct KvRows {
  const void* keys = nullptr;
  const void* values = nullptr;
  KvType type = KvType::kF16;
  size_t stride = 0;
  const float* key_scales = nullptr;  // kQ8: one per position
  const float* value_scales = nullptr;
};

// One query head over the first `length` cached positions of its KV head:
//   out = softmax(q . K / scale-free: the caller has scaled q) V.
struct AttentionQuery {
  const float* q = nullptr;  // dim floats
  size_t length = 0;
  float* scores = nullptr;  // length floats of scratch
  float* out = nullptr;     // dim floats
};
// Queries of one KV head, each as if alone, bit for bit; groups of four are fastest, of like
// length.
void Attend(std::span<const AttentionQuery> queries, const KvRows& rows, size_t dim);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_VECTOR_MATH_H_
