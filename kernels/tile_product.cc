#include "kernels/tile_product.h"

#if defined(__x86_64__) && defined(__linux__)

#include <algorithm>
#include <cstdint>

#include "kernels/aligned_buffer.h"
#include "kernels/dispatch.h"
#include "kernels/parallel.h"
#include "kernels/tile_pack.h"
#include "kernels/tile_session.h"

namespace sdq::kernels {
namespace {

using tiles::kPairColumns;
using tiles::kPairValues;
using tiles::kStepDepth;

constexpr size_t kGroupValues = size_t{1} << 18;  // left panels in a second-level cache

// Memory for packed factors; AlignedFloats aligns and frees it.
class PackedValues {
 public:
  explicit PackedValues(size_t count) : floats_((count + 1) / 2) {}
  tiles::Bf16* data() const { return reinterpret_cast<tiles::Bf16*>(floats_.data()); }

 private:
  AlignedFloats floats_;
};

// One product: what to multiply and what becomes of 32 x 32 elements of it. Panels are pairs of
// tiles, 32 rows of L or 32 columns of R.
class Product {
 public:
  Product(size_t rows, size_t columns, size_t depth)
      : rows_(rows), columns_(columns), steps_((depth + kStepDepth - 1) / kStepDepth) {}
  virtual ~Product() = default;

  void Run() {
    const size_t panels = Panels(columns_);
    const size_t panel = steps_ * kPairValues;
    const PackedValues right(panels * panel);
    ParallelFor(panels, 1, [&](size_t begin, size_t end, size_t) {
      for (size_t p = begin; p < end; ++p) PackRight(p * kPairColumns, right.data() + p * panel);
    });
    const size_t group = std::clamp<size_t>(kGroupValues / panel, 1, 8);
    const PackedValues left(Threads() * group * panel);
    ParallelFor(Panels(rows_), group, [&](size_t begin, size_t end, size_t thread) {
      const TileSession session;
      for (size_t first = begin; first < end; first += group) {
        RunGroup(first, std::min(end, first + group), right.data(),
                 left.data() + thread * group * panel);
      }
    });
  }

 protected:
  size_t rows() const { return rows_; }
  size_t columns() const { return columns_; }

 private:
  static size_t Panels(size_t n) { return (n + kPairColumns - 1) / kPairColumns; }

  virtual void PackLeft(size_t row, tiles::Bf16* to) const = 0;
  virtual void PackRight(size_t column, tiles::Bf16* to) const = 0;
  virtual bool Wanted(size_t, size_t) const { return true; }
  virtual void Emit(const tiles::Sums& sums, size_t row, size_t column) const = 0;

  // Panels [begin, end) of L.
  void RunGroup(size_t begin, size_t end, const tiles::Bf16* right, tiles::Bf16* left) const {
    const size_t panel = steps_ * kPairValues;
    for (size_t i = begin; i < end; ++i) PackLeft(i * kPairColumns, left + (i - begin) * panel);
    tiles::Sums sums;
    for (size_t j = 0; j < Panels(columns_); ++j) {
      for (size_t i = begin; i < end; ++i) {
        if (!Wanted(i, j)) continue;
        tiles::Multiply(left + (i - begin) * panel, right + j * panel, steps_, &sums);
        Emit(sums, i * kPairColumns, j * kPairColumns);
      }
    }
  }

  size_t rows_;
  size_t columns_;
  size_t steps_;
};

// L = W, R = X^T, so that only the smaller factor is transposed.
class DenseRows final : public Product {
 public:
  DenseRows(const DenseMatrix& w, const float* x, size_t tokens, size_t x_stride, float* y,
            size_t y_stride)
      : Product(w.rows, tokens, w.columns), w_(w), x_{x, x_stride}, y_(y), y_stride_(y_stride) {}

 private:
  void PackLeft(size_t row, tiles::Bf16* to) const override {
    const size_t count = std::min(kPairColumns, rows() - row);
    switch (w_.type) {
      case ElementType::kF16:
      case ElementType::kBF16: {
        const auto* data = static_cast<const uint16_t*>(w_.data) + row * w_.columns;
        return tiles::PackHalfRows(data, w_.type == ElementType::kF16, w_.columns, count,
                                   w_.columns, to);
      }
      default:
        return tiles::PackRows({static_cast<const float*>(w_.data) + row * w_.columns, w_.columns},
                               count, w_.columns, to);
    }
  }
  void PackRight(size_t token, tiles::Bf16* to) const override {
    tiles::PackRows({x_.data + token * x_.stride, x_.stride},
                    std::min(kPairColumns, columns() - token), w_.columns, to);
    tiles::TransposeTiles(w_.columns, to);
  }
  void Emit(const tiles::Sums& sums, size_t row, size_t token) const override {
    tiles::StoreTransposed(
        sums, {std::min(kPairColumns, rows() - row), std::min(kPairColumns, columns() - token)},
        w_.bias != nullptr ? w_.bias + row : nullptr, y_ + token * y_stride_ + row, y_stride_);
  }

  const DenseMatrix& w_;
  tiles::Source x_;
  float* y_;
  size_t y_stride_;
};

class PlainMatMul final : public Product {
 public:
  PlainMatMul(tiles::Source a, tiles::Source b, float* c, size_t ldc, size_t m, size_t n, size_t k,
              bool accumulate)
      : Product(m, n, k), a_(a), b_(b), c_(c), ldc_(ldc), depth_(k), accumulate_(accumulate) {}

 private:
  void PackLeft(size_t row, tiles::Bf16* to) const override {
    tiles::PackRows({a_.data + row * a_.stride, a_.stride}, std::min(kPairColumns, rows() - row),
                    depth_, to);
  }
  void PackRight(size_t column, tiles::Bf16* to) const override {
    tiles::PackColumns({b_.data + column, b_.stride}, std::min(kPairColumns, columns() - column),
                       depth_, to);
  }
  void Emit(const tiles::Sums& sums, size_t row, size_t column) const override {
    tiles::Store(sums,
                 {std::min(kPairColumns, rows() - row), std::min(kPairColumns, columns() - column)},
                 accumulate_, c_ + row * ldc_ + column, ldc_);
  }

  tiles::Source a_, b_;
  float* c_;
  size_t ldc_;
  size_t depth_;
  bool accumulate_;
};

// L = E^T, R = X.
class Cross final : public Product {
 public:
  Cross(tiles::Source e, size_t m, tiles::Source x, size_t n, size_t tokens, bool upper,
        double* sums)
      : Product(m, n, tokens), e_(e), x_(x), tokens_(tokens), upper_(upper), sums_(sums) {}

 private:
  void PackLeft(size_t row, tiles::Bf16* to) const override {
    tiles::PackColumns({e_.data + row, e_.stride}, std::min(kPairColumns, rows() - row), tokens_,
                       to);
    tiles::TransposeTiles(tokens_, to);
  }
  void PackRight(size_t column, tiles::Bf16* to) const override {
    tiles::PackColumns({x_.data + column, x_.stride}, std::min(kPairColumns, columns() - column),
                       tokens_, to);
  }
  bool Wanted(size_t i, size_t j) const override { return !upper_ || j >= i; }
  void Emit(const tiles::Sums& sums, size_t row, size_t column) const override {
    tiles::AddToDoubles(
        sums, {std::min(kPairColumns, rows() - row), std::min(kPairColumns, columns() - column)},
        upper_ && row == column, sums_ + row * columns() + column, columns());
  }

  tiles::Source e_, x_;
  size_t tokens_;
  bool upper_;
  double* sums_;
};

}  // namespace

bool TileProductsAvailable() { return ActiveExtension() == Extension::kAmx; }

void TileDenseProduct(const DenseMatrix& w, const float* x, size_t tokens, size_t x_stride,
                      float* y, size_t y_stride) {
  DenseRows(w, x, tokens, x_stride, y, y_stride).Run();
}

void TileMatMul(const float* a, size_t lda, const float* b, size_t ldb, float* c, size_t ldc,
                size_t m, size_t n, size_t k, bool accumulate) {
  PlainMatMul({a, lda}, {b, ldb}, c, ldc, m, n, k, accumulate).Run();
}

void TileAddCross(const float* e, size_t m, size_t e_stride, const float* x, size_t n,
                  size_t x_stride, size_t tokens, bool upper, double* sums) {
  Cross({e, e_stride}, m, {x, x_stride}, n, tokens, upper, sums).Run();
}

}  // namespace sdq::kernels

#else  // no such unit

namespace sdq::kernels {

bool TileProductsAvailable() { return false; }
void TileDenseProduct(const DenseMatrix&, const float*, size_t, size_t, float*, size_t) {}
void TileMatMul(const float*, size_t, const float*, size_t, float*, size_t, size_t, size_t, size_t,
                bool) {}
void TileAddCross(const float*, size_t, size_t, const float*, size_t, size_t, size_t, bool,
                  double*) {}

}  // namespace sdq::kernels

#endif
