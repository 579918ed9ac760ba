#include "converter/attention_gradient.h"

#include <algorithm>
#include <cmath>

#include "kernels/dense.h"
#include "kernels/parallel.h"
#include "kernels/vector_math.h"
#include "runtime/transformer.h"

namespace sdq::converter {
namespace {

using Matrix = std::vector<float>;

Matrix Transposed(const float* x, size_t rows, size_t columns) {
  Matrix t(rows * columns);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; ++c) t[c * rows + r] = x[r * columns + c];
  }
  return t;
}

// C[m][n] = A[m][k] B[k][n]
Matrix Product(const float* a, const float* b, size_t m, size_t n, size_t k) {
  Matrix c(m * n);
  kernels::MatMul(a, k, b, n, c.data(), n, m, n, k, false);
  return c;
}

void AddToHead(const Matrix& part, size_t tokens, size_t dim, size_t width, size_t head,
               std::vector<float>* x) {
  for (size_t t = 0; t < tokens; ++t) {
    kernels::AddInPlace(x->data() + t * width + head * dim, part.data() + t * dim, dim);
  }
}

}  // namespace

AttentionDifferentiator::AttentionDifferentiator(const ModelConfig& config, size_t tokens)
    : tokens_(tokens),
      heads_(size_t(config.heads)),
      kv_heads_(size_t(config.kv_heads)),
      dim_(size_t(config.head_dim)),
      scale_(1.0f / std::sqrt(float(config.head_dim))),
      rotary_(RotaryTable(config, tokens)),
      rotary_back_(rotary_) {
  for (size_t p = 0; p < rotary_back_.size() / std::max<size_t>(dim_, 1); ++p) {
    for (size_t i = dim_ / 2; i < dim_; ++i) rotary_back_[p * dim_ + i] *= -1;
  }
}

void AttentionDifferentiator::Turn(std::vector<float>* x, size_t heads, bool back) const {
  if (rotary_.empty()) return;
  const std::vector<float>& table = back ? rotary_back_ : rotary_;
  for (size_t t = 0; t < tokens_; ++t) {
    kernels::Rotary(x->data() + t * heads * dim_, heads, dim_, table.data() + t * dim_);
  }
}

std::vector<float> AttentionDifferentiator::Slice(const std::vector<float>& x, size_t heads,
                                                  size_t h) const {
  Matrix slice(tokens_ * dim_);
  for (size_t t = 0; t < tokens_; ++t) {
    std::copy_n(x.data() + (t * heads + h) * dim_, dim_, slice.data() + t * dim_);
  }
  return slice;
}

void AttentionDifferentiator::Forward(const std::vector<float>& q, const std::vector<float>& k,
                                      const std::vector<float>& v, std::vector<float>* out) {
  q_ = q;
  k_ = k;
  v_ = v;
  Turn(&q_, heads_, false);
  Turn(&k_, kv_heads_, false);
  weights_.assign(heads_ * tokens_ * tokens_, 0.0f);
  out->assign(tokens_ * heads_ * dim_, 0.0f);
  const size_t group = heads_ / kv_heads_;
  kernels::ParallelFor(heads_, 1, [&](size_t begin, size_t end, size_t) {
    for (size_t h = begin; h < end; ++h) {
      const Matrix query = Slice(q_, heads_, h);
      const Matrix key = Slice(k_, kv_heads_, h / group);
      const Matrix value = Slice(v_, kv_heads_, h / group);
      float* p = weights_.data() + h * tokens_ * tokens_;
      const Matrix scores = Product(query.data(), Transposed(key.data(), tokens_, dim_).data(),
                                    tokens_, tokens_, dim_);
      for (size_t t = 0; t < tokens_; ++t) {
        for (size_t j = 0; j <= t; ++j) p[t * tokens_ + j] = scores[t * tokens_ + j] * scale_;
        kernels::Softmax(p + t * tokens_, t + 1);
      }
      AddToHead(Product(p, value.data(), tokens_, dim_, tokens_), tokens_, dim_, heads_ * dim_, h,
                out);
    }
  });
}

void AttentionDifferentiator::Backward(const std::vector<float>& d_out, std::vector<float>* dq,
                                       std::vector<float>* dk, std::vector<float>* dv) const {
  dq->assign(q_.size(), 0.0f);
  dk->assign(k_.size(), 0.0f);
  dv->assign(v_.size(), 0.0f);
  const size_t group = heads_ / kv_heads_;
  // By KV head: the query heads of a group add to the same keys and values, in order.
  kernels::ParallelFor(kv_heads_, 1, [&](size_t begin, size_t end, size_t) {
    for (size_t h = begin * group; h < end * group; ++h) {
      const size_t kv = h / group;
      const Matrix query = Slice(q_, heads_, h);
      const Matrix key = Slice(k_, kv_heads_, kv);
      const Matrix value = Slice(v_, kv_heads_, kv);
      const Matrix d_head = Slice(d_out, heads_, h);
      const float* p = weights_.data() + h * tokens_ * tokens_;
      const Matrix p_transposed = Transposed(p, tokens_, tokens_);
      AddToHead(Product(p_transposed.data(), d_head.data(), tokens_, dim_, tokens_), tokens_, dim_,
                kv_heads_ * dim_, kv, dv);
      Matrix ds = Product(d_head.data(), Transposed(value.data(), tokens_, dim_).data(), tokens_,
                          tokens_, dim_);
      for (size_t t = 0; t < tokens_; ++t) {
        float* row = ds.data() + t * tokens_;
        const float* weights = p + t * tokens_;
        const float mean = kernels::Dot(row, weights, t + 1);
        for (size_t j = 0; j <= t; ++j) row[j] = weights[j] * (row[j] - mean) * scale_;
        std::fill(row + t + 1, row + tokens_, 0.0f);
      }
      AddToHead(Product(ds.data(), key.data(), tokens_, dim_, tokens_), tokens_, dim_,
                heads_ * dim_, h, dq);
      AddToHead(Product(Transposed(ds.data(), tokens_, tokens_).data(), query.data(), tokens_, dim_,
                        tokens_),
                tokens_, dim_, kv_heads_ * dim_, kv, dk);
    }
  });
  Turn(dq, heads_, true);
  Turn(dk, kv_heads_, true);
}

}  // namespace sdq::converter
