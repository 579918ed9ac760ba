#include "kernels/finish_tiles.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/finish_tiles.cc"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h before any use of Highway.
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {

// A vector that divides a tile.
using TileFloats = hn::CappedTag<float, kTileRows>;

// acc times the scales at `row`, and what is added to it. load(p) and load_f16(p): of a vector's
// rows, floats or f16.
template <class Load, class LoadF16>
HWY_INLINE hn::Vec<TileFloats> Finished(const StreamMatrix& w, size_t row, hn::Vec<TileFloats> acc,
                                        float sum, const Load& load, const LoadF16& load_f16) {
  const TileFloats d;
  const auto scales = hn::Mul(hn::Set(d, w.scale_base), load_f16(w.scales_f16 + row));
  auto y = hn::Mul(scales, acc);
  if (w.means_f16 != nullptr) {
    const auto means = hn::Mul(hn::Set(d, w.mean_base), load_f16(w.means_f16 + row));
    y = hn::Add(y, hn::Mul(means, hn::Set(d, sum)));
  }
  return w.bias == nullptr ? y : hn::Add(y, load(w.bias + row));
}

void FinishTilesTarget(const StreamMatrix& w, size_t row, size_t row_stride, size_t tiles,
                       const float* acc, float sum, float* y) {
  const TileFloats d;
  const size_t lanes = hn::Lanes(d);
  for (size_t tile = 0; tile < tiles; ++tile, row += row_stride, acc += kTileRows) {
    const size_t rows = std::min(kTileRows, w.rows - row);
    size_t r = 0;
    for (; r + lanes <= rows; r += lanes) {
      const auto products = Finished(
          w, row + r, hn::LoadU(d, acc + r), sum,
          [&](const float* p) HWY_ATTR { return hn::LoadU(d, p); },
          [&](const uint16_t* p) HWY_ATTR { return ElementF16::Load(d, p); });
      hn::StoreU(products, d, y + row + r);
    }
    if (const size_t rest = rows - r; rest > 0) {
      const auto products = Finished(
          w, row + r, hn::LoadU(d, acc + r), sum,
          [&](const float* p) HWY_ATTR { return LoadPart<ElementF32>(d, p, rest); },
          [&](const uint16_t* p) HWY_ATTR { return LoadPart<ElementF16>(d, p, rest); });
      StorePart(d, products, y + row + r, rest);
    }
  }
}

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sdq::kernels {
namespace {
HWY_EXPORT(FinishTilesTarget);
}  // namespace

void FinishTiles(const StreamMatrix& w, size_t row, size_t row_stride, size_t tiles,
                 const float* acc, float sum, float* y) {
  HWY_DYNAMIC_DISPATCH(FinishTilesTarget)(w, row, row_stride, tiles, acc, sum, y);
}

}  // namespace sdq::kernels
#endif  // HWY_ONCE
