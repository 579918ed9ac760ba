#include "kernels/rank_update.h"

#include "kernels/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rank_update.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Doubles = hn::CappedTag<double, kUpdateStripe / 2>;
inline constexpr size_t kTileRows = 4;

// Rows 0 .. 3 of `left` times two vectors of `right`, both [depth][16], subtracted from m.
HWY_INLINE void UpdateTile(const double* left, const double* right, size_t depth, size_t n,
                           double* m) {
  const Doubles d;
  const size_t lanes = hn::Lanes(d);
  auto s00 = hn::Zero(d), s01 = hn::Zero(d), s10 = hn::Zero(d), s11 = hn::Zero(d);
  auto s20 = hn::Zero(d), s21 = hn::Zero(d), s30 = hn::Zero(d), s31 = hn::Zero(d);
  for (size_t k = 0; k < depth; ++k, left += kUpdateStripe, right += kUpdateStripe) {
    const auto b0 = hn::LoadU(d, right);
    const auto b1 = hn::LoadU(d, right + lanes);
    const auto a0 = hn::Set(d, left[0]);
    s00 = hn::MulAdd(a0, b0, s00);
    s01 = hn::MulAdd(a0, b1, s01);
    const auto a1 = hn::Set(d, left[1]);
    s10 = hn::MulAdd(a1, b0, s10);
    s11 = hn::MulAdd(a1, b1, s11);
    const auto a2 = hn::Set(d, left[2]);
    s20 = hn::MulAdd(a2, b0, s20);
    s21 = hn::MulAdd(a2, b1, s21);
    const auto a3 = hn::Set(d, left[3]);
    s30 = hn::MulAdd(a3, b0, s30);
    s31 = hn::MulAdd(a3, b1, s31);
  }
  HWY_ALIGN double sums[kTileRows][kUpdateStripe];
  hn::Store(s00, d, sums[0]);
  hn::StoreU(s01, d, sums[0] + lanes);
  hn::Store(s10, d, sums[1]);
  hn::StoreU(s11, d, sums[1] + lanes);
  hn::Store(s20, d, sums[2]);
  hn::StoreU(s21, d, sums[2] + lanes);
  hn::Store(s30, d, sums[3]);
  hn::StoreU(s31, d, sums[3] + lanes);
  for (size_t r = 0; r < kTileRows; ++r) {
    for (size_t c = 0; c < 2 * lanes; ++c) m[r * n + c] -= sums[r][c];
  }
}

// All of the stripe's rows, on and right of the diagonal.
void UpdateStripe(const double* packed, size_t depth, size_t stripe, size_t stripes, size_t n,
                  double* m) {
  const size_t pair = 2 * hn::Lanes(Doubles());
  const double* left = packed + stripe * depth * kUpdateStripe;
  double* rows = m + stripe * kUpdateStripe * n;
  for (size_t s = stripe; s < stripes; ++s) {
    const double* right = packed + s * depth * kUpdateStripe;
    for (size_t j = 0; j < kUpdateStripe; j += pair) {
      for (size_t r = 0; r < kUpdateStripe; r += kTileRows) {
        UpdateTile(left + r, right + j, depth, n, rows + r * n + s * kUpdateStripe + j);
      }
    }
  }
}

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sdq::kernels {

HWY_EXPORT(UpdateStripe);

void SubtractOwnProduct(const double* packed, size_t depth, size_t size, size_t n, double* m) {
  const size_t stripes = size / kUpdateStripe;
  ParallelFor(stripes, 1, [&](size_t begin, size_t end, size_t) {
    for (size_t s = begin; s < end; ++s) {
      // Long rows and short ones alternate, so that equal ranges are equal work.
      const size_t stripe = s % 2 == 0 ? s / 2 : stripes - 1 - s / 2;
      HWY_DYNAMIC_DISPATCH(UpdateStripe)(packed, depth, stripe, stripes, n, m);
    }
  });
}

}  // namespace sdq::kernels
#endif  // HWY_ONCE
