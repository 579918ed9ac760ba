// Dense products with f32, f16, bf16 and 8-bit row matrices, and float matrix algebra for the
// converter. Every output element is summed in an order that depends on the number of columns
// only: not on threads, nor on how many tokens or rows share a call.
#ifndef SDQ_KERNELS_DENSE_H_
#define SDQ_KERNELS_DENSE_H_

#include <cstddef>
#include <cstdint>

namespace sdq::kernels {

enum class ElementType : uint16_t { kF32 = 1, kF16 = 2, kBF16 = 3, kQ8 = 4 };

// How exact a product has to be. kRounded: where the machine multiplies bfloat16 far faster
// (tile_product.h), factors may be rounded to its eight significant bits; sums stay in f32. For
// statistics over many tokens, where that error (-54 dB) drowns in what is measured.
enum class Precision : uint8_t { kSingle, kRounded };

// Non-owning, row-major, no padding between rows, aligned to its element size only.
struct DenseMatrix {
  const void* data = nullptr;
  ElementType type = ElementType::kF32;
  size_t rows = 0;
  size_t columns = 0;
  const uint16_t* scales_f16 = nullptr;  // kQ8: one per row, times scale_base
  float scale_base = 1.0f;
  const float* bias = nullptr;  // rows, or null
  Precision precision = Precision::kSingle;
};

// y[t][r] = bias_r + sum_c W[r][c] x[t][c]. f16/bf16/q8 weights are widened to f32 exactly and
// accumulated in f32; activations stay in f32. In parallel over rows.
void DenseProduct(const DenseMatrix& w, const float* x, size_t tokens, size_t x_stride, float* y,
                  size_t y_stride);

// Row r of W in f32 (embedding look-up).
void DenseRow(const DenseMatrix& w, size_t r, float* out);

// H += X^T X for X[tokens][n], full symmetric H[n][n] in f64 (partial sums in f32 over at most
// 256 tokens; all tokens of the call where kRounded rounds). Fixed order: independent of the thread
// count.
void AccumulateGram(const float* x, size_t tokens, size_t n, size_t x_stride, double* h);

// The same in two steps, for many calls with one H: only the elements on and above the diagonal are
// touched by the first, the second copies them below.
void AccumulateGramUpper(const float* x, size_t tokens, size_t n, size_t x_stride, double* h,
                         Precision precision = Precision::kSingle);
void MirrorUpper(size_t n, double* h);

// sums[m][n] += E^T X for E[tokens][m] and X[tokens][n], no padding between rows, as above.
void AccumulateCross(const float* e, size_t m, const float* x, size_t n, size_t tokens,
                     double* sums, Precision precision = Precision::kSingle);

// C[m][n] (+)= A[m][k] B[k][n], row-major with leading dimensions, f32; in parallel over rows.
void MatMul(const float* a, size_t lda, const float* b, size_t ldb, float* c, size_t ldc, size_t m,
            size_t n, size_t k, bool accumulate, Precision precision = Precision::kSingle);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_DENSE_H_
