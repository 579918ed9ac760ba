// The inner loops of the trellis search, compiled for every instruction set: see trellis.h.
//
// A row is walked in chunks of 16 columns. Inside a chunk a survivor owns one vector of 16 floats:
// lanes before the current column hold its errors, lanes from it on hold its targets. One
// multiply-add per survivor and column keeps it up to date. Older chunks form a tree: a generation
// per chunk, whose nodes are the distinct error vectors that living survivors descend from. The
// tree thins out to a single trunk within a few chunks, so that long windows cost little.
#ifndef SDQ_CONVERTER_TRELLIS_CORE_H_
#define SDQ_CONVERTER_TRELLIS_CORE_H_

#include <hwy/aligned_allocator.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "converter/trellis.h"

namespace sdq::converter {

inline constexpr size_t kChunkColumns = 16;
inline constexpr float kDroppedCost = 1e30f;
// Vectors may run over an array's end.
inline constexpr size_t kSlack = 2 * kChunkColumns;

// The distinct pasts of the survivors in one finished chunk.
struct Generation {
  size_t first_column = 0;
  size_t count = 0;
  hwy::AlignedFreeUniquePtr<float[]> errors;  // [count][16]
  std::vector<uint16_t> parent;               // node of the generation before
};

// One row on its way through the trellis.
struct TrellisRow {
  TrellisRow(const Trellis& trellis, size_t columns, size_t generations);

  const float* weights = nullptr;            // [columns]
  std::vector<float> targets;                // weights plus the feedback of decided columns
  hwy::AlignedFreeUniquePtr<float[]> cost;   // [padded states + slack]
  hwy::AlignedFreeUniquePtr<float[]> lanes;  // [2][max_parents][16], errors | targets
  std::vector<int32_t> ancestor;        // [2][max_parents + slack], node of the newest generation
  size_t current = 0;                   // which half of lanes and ancestor is valid
  std::vector<Generation> generations;  // ring storage
  size_t first_generation = 0;
  size_t live_generations = 0;
  std::vector<uint8_t> back;  // [columns][max_parents], the t of each survivor
  uint64_t forced = 0;

  // Of the half that is valid.
  int32_t* Ancestors(const Trellis& trellis) {
    return ancestor.data() + current * (trellis.max_parents() + kSlack);
  }
  // Age 0 is the oldest.
  Generation& At(size_t age) { return generations[(first_generation + age) % generations.size()]; }
};

// Working memory of one thread.
struct TrellisScratch {
  explicit TrellisScratch(const Trellis& trellis);

  hwy::AlignedFreeUniquePtr<float[]> best;      // [parents] least cost into each survivor
  hwy::AlignedFreeUniquePtr<float[]> target;    // [parents]
  hwy::AlignedFreeUniquePtr<float[]> error;     // [parents] of the column before
  hwy::AlignedFreeUniquePtr<int32_t[]> state;   // [parents] state at the column before
  hwy::AlignedFreeUniquePtr<int32_t[]> source;  // [parents] survivor of that column
  hwy::AlignedFreeUniquePtr<float[]> sums[2];   // [parents][16] feedback of a generation's nodes
  std::vector<uint16_t> renumber;
};

// The chunk to run: columns [first, first + count).
struct TrellisChunk {
  size_t first = 0;
  size_t count = 0;
  const float* weight_of_error = nullptr;  // [n] D_j
  // Rows of A for columns band_first.. first + 15, each [16] = A[i][first..first + 16), zero where
  // i is not before the column. Null: no feedback.
  const float* band = nullptr;
  size_t band_first = 0;
};

// Runs all columns of the chunk: cost and back pointers, and with feedback lanes and generations.
void RunChunk(const Trellis& trellis, const TrellisChunk& chunk, TrellisRow& row,
              TrellisScratch& scratch);

// Subtracts the least of a row's costs from all; returns the first state that has it.
size_t Settle(size_t states, float* cost);

// targets[k] += sum_i errors[i] a[i * stride + k] for k in [begin, end), i ascending, 16 errors;
// for `rows` rows, whose errors lie one behind the other.
void AddDecidedErrors(const float* errors, size_t rows, const float* a, size_t stride, size_t begin,
                      size_t end, float* const* targets);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_TRELLIS_CORE_H_
