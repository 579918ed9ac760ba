// How the tables of many tokens are multiplied by a bitstream: by permutes, or on a unit that
// multiplies tiles. Both give the same bits, so that the choice is one of speed alone.
#ifndef SDQ_KERNELS_TABLE_FORM_H_
#define SDQ_KERNELS_TABLE_FORM_H_

#include <cstddef>

namespace sdq::kernels {

// Tables are prepared for one of these, and a product must be told which. kTiles is a wish: where
// the target has no such unit, the tokens are too few (kLeastTileTokens) or the stream is not
// binary, it means kLookUp.
enum class TableForm { kLookUp, kTiles };

// Whether the target in use has such a unit.
bool HasTiles();

// What is faster here and now, by measurement: a tile unit is twice as fast as permutes on a core
// of its own, and slower than they are beside another busy hardware thread. Measures for some 150
// microseconds at most ten times a second; call it outside parallel regions.
TableForm FasterTableForm(size_t tokens);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_TABLE_FORM_H_
