// Per-survivor work of the trellis search; converter/trellis_core.h states what each part does.
#include "converter/trellis_core.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "converter/trellis_core.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sdq::converter {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, kChunkColumns>;
using I32 = hn::Rebind<int32_t, F32>;
using U8 = hn::Rebind<uint8_t, F32>;

// For every survivor of the step: the cheapest way in, its cost and where it comes from.
void SelectSurvivors(const TrellisPhase& phase, const float* HWY_RESTRICT cost,
                     TrellisScratch& scratch, uint8_t* HWY_RESTRICT back) {
  const F32 df;
  const I32 di;
  const U8 du8;
  const size_t lanes = hn::Lanes(df);
  const size_t parents = phase.parents;
  for (size_t p = 0; p < parents; p += lanes) {
    auto best = hn::LoadU(df, cost + p);
    auto way = hn::Zero(di);
    for (uint32_t t = 1; t < phase.radix; ++t) {
      const auto other = hn::LoadU(df, cost + p + t * parents);
      const auto less = hn::Lt(other, best);
      best = hn::IfThenElse(less, other, best);
      way = hn::IfThenElse(hn::RebindMask(di, less), hn::Set(di, int32_t(t)), way);
    }
    const auto state =
        hn::Add(hn::Mul(way, hn::Set(di, int32_t(parents))), hn::Iota(di, static_cast<int32_t>(p)));
    hn::StoreU(best, df, scratch.best.get() + p);
    hn::StoreU(state, di, scratch.state.get() + p);
    hn::StoreU(hn::DemoteTo(du8, way), du8, back + p);
  }
}

// cost[c] = best[parent of c] + d (target[parent of c] - value[c])^2.
void ExtendSurvivors(const TrellisPhase& phase, const float* HWY_RESTRICT values, float d,
                     size_t states, const TrellisScratch& scratch, float* HWY_RESTRICT cost) {
  const F32 df;
  const I32 di;
  const size_t lanes = hn::Lanes(df);
  const auto weight = hn::Set(df, d);
  for (size_t c = 0; c < states; c += lanes) {
    const int32_t first = phase.parent[c];
    const auto offset = hn::Sub(hn::LoadU(di, phase.parent.data() + c), hn::Set(di, first));
    const auto index = hn::IndicesFromVec(df, offset);
    const auto best = hn::TableLookupLanes(hn::LoadU(df, scratch.best.get() + first), index);
    const auto target = hn::TableLookupLanes(hn::LoadU(df, scratch.target.get() + first), index);
    const auto error = hn::Sub(target, hn::LoadU(df, values + c));
    hn::StoreU(hn::Add(best, hn::Mul(weight, hn::Mul(error, error))), df, cost + c);
  }
}

// Moves every survivor's lanes to its new place and enters the error of lane `lane`.
// a_row: what an error of that lane does to the lanes behind it.
void MoveLanes(const TrellisPhase& phase, const TrellisPhase& before, size_t lane,
               const float* HWY_RESTRICT a_row, const float* HWY_RESTRICT from,
               const TrellisScratch& scratch, float* HWY_RESTRICT to) {
  const F32 df;
  const size_t lanes = hn::Lanes(df);
  const int32_t* HWY_RESTRICT state = scratch.state.get();
  const int32_t* HWY_RESTRICT parent = before.parent.data();
  const float* HWY_RESTRICT error = scratch.error.get();
  for (size_t k = 0; k < kChunkColumns; k += lanes) {
    const auto a = hn::LoadU(df, a_row + k);
    const auto here = hn::Eq(hn::Iota(df, float(k)), hn::Set(df, float(lane)));
    for (size_t p = 0; p < phase.parents; ++p) {
      const size_t source = size_t(parent[state[p]]);
      const auto e = hn::Set(df, error[p]);
      const auto old = hn::LoadU(df, from + source * kChunkColumns + k);
      const auto moved = hn::IfThenElse(here, e, hn::Add(old, hn::Mul(e, a)));
      hn::StoreU(moved, df, to + p * kChunkColumns + k);
    }
  }
}

// sum = base + sum_i errors[i] * band[i][0..16).
void AddFeedback(const float* HWY_RESTRICT base, const float* HWY_RESTRICT errors,
                 const float* HWY_RESTRICT band, float* HWY_RESTRICT sum) {
  const F32 df;
  const size_t lanes = hn::Lanes(df);
  for (size_t k = 0; k < kChunkColumns; k += lanes) {
    auto total = hn::LoadU(df, base + k);
    for (size_t i = 0; i < kChunkColumns; ++i) {
      const auto a = hn::LoadU(df, band + i * kChunkColumns + k);
      total = hn::Add(total, hn::Mul(hn::Set(df, errors[i]), a));
    }
    hn::StoreU(total, df, sum + k);
  }
}

// Errors that the survivors made in the column before.
void LastErrors(const Trellis& trellis, size_t column, const TrellisRow& row,
                TrellisScratch& scratch) {
  const F32 df;
  const I32 di;
  const size_t lanes = hn::Lanes(df);
  const float* values = trellis.Values(column - 1);
  const auto weight = hn::Set(df, row.weights[column - 1]);
  for (size_t p = 0; p < trellis.Phase(column).parents; p += lanes) {
    const auto state = hn::LoadU(di, scratch.state.get() + p);
    hn::StoreU(hn::Sub(weight, hn::GatherIndex(df, values, state)), df, scratch.error.get() + p);
  }
}

// Keeps only the nodes that survivors still descend from, newest generation first.
void ThinGenerations(TrellisRow& row, TrellisScratch& scratch) {
  constexpr uint16_t kUnused = 0xffff;
  for (size_t age = row.live_generations - 1; age-- > 0;) {
    Generation& older = row.At(age);
    Generation& younger = row.At(age + 1);
    auto& renumber = scratch.renumber;
    std::fill_n(renumber.begin(), older.count, kUnused);
    for (size_t i = 0; i < younger.count; ++i) renumber[younger.parent[i]] = 0;
    size_t kept = 0;
    for (size_t i = 0; i < older.count; ++i) {
      if (renumber[i] == kUnused) continue;
      renumber[i] = uint16_t(kept);
      if (kept != i) {
        std::copy_n(&older.errors[i * kChunkColumns], kChunkColumns,
                    &older.errors[kept * kChunkColumns]);
        older.parent[kept] = older.parent[i];
      }
      ++kept;
    }
    older.count = kept;
    for (size_t i = 0; i < younger.count; ++i) younger.parent[i] = renumber[younger.parent[i]];
  }
}

// The survivors enter a new chunk: their errors of the last one become a generation.
void StartGeneration(const Trellis& trellis, const TrellisChunk& chunk, TrellisRow& row,
                     TrellisScratch& scratch) {
  const size_t max_parents = trellis.max_parents();
  const TrellisPhase& phase = trellis.Phase(chunk.first);
  const TrellisPhase& before = trellis.Phase(chunk.first - 1);
  Generation& newest = row.At(row.live_generations++);
  newest.first_column = chunk.first - kChunkColumns;
  newest.count = phase.parents;
  static constexpr float kNothing[kChunkColumns] = {};
  const float* from = row.lanes.get() + row.current * max_parents * kChunkColumns;
  MoveLanes(phase, before, kChunkColumns - 1, kNothing, from, scratch, newest.errors.get());
  const uint16_t* ancestor = row.ancestor.data() + row.current * max_parents;
  for (size_t p = 0; p < phase.parents; ++p) {
    newest.parent[p] = ancestor[before.parent[size_t(scratch.state[p])]];
  }
  ThinGenerations(row, scratch);
}

// Targets of the whole chunk for every survivor, from the tree of its past.
void InitLanes(const Trellis& trellis, const TrellisChunk& chunk, TrellisRow& row,
               TrellisScratch& scratch) {
  const size_t max_parents = trellis.max_parents();
  const size_t parents = trellis.Phase(chunk.first).parents;
  HWY_ALIGN float base[kChunkColumns] = {};
  std::copy_n(&row.targets[chunk.first], chunk.count, base);
  row.current ^= 1;
  float* lanes = row.lanes.get() + row.current * max_parents * kChunkColumns;
  uint16_t* ancestor = row.ancestor.data() + row.current * max_parents;
  if (row.live_generations == 0) {
    for (size_t p = 0; p < parents; ++p) {
      std::copy_n(base, kChunkColumns, lanes + p * kChunkColumns);
      ancestor[p] = 0;
    }
    return;
  }
  for (size_t age = 0; age < row.live_generations; ++age) {
    const Generation& generation = row.At(age);
    const float* band = chunk.band + (generation.first_column - chunk.band_first) * kChunkColumns;
    const float* older = scratch.sums[(age + 1) % 2].get();
    const bool newest = age + 1 == row.live_generations;
    float* sums = newest ? lanes : scratch.sums[age % 2].get();
    for (size_t i = 0; i < generation.count; ++i) {
      const float* start = age == 0 ? base : older + generation.parent[i] * kChunkColumns;
      AddFeedback(start, &generation.errors[i * kChunkColumns], band, sums + i * kChunkColumns);
    }
  }
  for (size_t p = 0; p < parents; ++p) ancestor[p] = uint16_t(p);
}

// Survivors' targets for a column inside the chunk.
void StepLanes(const Trellis& trellis, const TrellisChunk& chunk, size_t column, TrellisRow& row,
               TrellisScratch& scratch) {
  const size_t max_parents = trellis.max_parents();
  const TrellisPhase& phase = trellis.Phase(column);
  const TrellisPhase& before = trellis.Phase(column - 1);
  const float* from = row.lanes.get() + row.current * max_parents * kChunkColumns;
  const uint16_t* old_ancestor = row.ancestor.data() + row.current * max_parents;
  row.current ^= 1;
  float* to = row.lanes.get() + row.current * max_parents * kChunkColumns;
  uint16_t* ancestor = row.ancestor.data() + row.current * max_parents;
  const float* a_row = chunk.band + (column - 1 - chunk.band_first) * kChunkColumns;
  MoveLanes(phase, before, column - 1 - chunk.first, a_row, from, scratch, to);
  for (size_t p = 0; p < phase.parents; ++p) {
    ancestor[p] = old_ancestor[before.parent[size_t(scratch.state[p])]];
  }
}

void RunChunkT(const Trellis& trellis, const TrellisChunk& chunk, TrellisRow& row,
               TrellisScratch& scratch) {
  const size_t max_parents = trellis.max_parents();
  for (size_t j = 0; j < chunk.count; ++j) {
    const size_t column = chunk.first + j;
    const TrellisPhase& phase = trellis.Phase(column);
    SelectSurvivors(phase, row.cost.get(), scratch, &row.back[column * max_parents]);
    if (chunk.band == nullptr) {
      std::fill_n(scratch.target.get(), phase.parents, row.weights[column]);
    } else {
      if (column > 0) LastErrors(trellis, column, row, scratch);
      if (j > 0) {
        StepLanes(trellis, chunk, column, row, scratch);
      } else {
        if (column > 0) StartGeneration(trellis, chunk, row, scratch);
        InitLanes(trellis, chunk, row, scratch);
      }
      const float* lanes = row.lanes.get() + row.current * max_parents * kChunkColumns + j;
      for (size_t p = 0; p < phase.parents; ++p) scratch.target[p] = lanes[p * kChunkColumns];
    }
    ExtendSurvivors(phase, trellis.Values(column), chunk.weight_of_error[column], trellis.states(),
                    scratch, row.cost.get());
  }
}

void AddDecidedErrorsT(const float* HWY_RESTRICT errors, const float* HWY_RESTRICT a, size_t stride,
                       size_t begin, size_t end, float* HWY_RESTRICT targets) {
  const F32 df;
  const size_t lanes = hn::Lanes(df);
  size_t k = begin;
  for (; k + lanes <= end; k += lanes) {
    auto total = hn::LoadU(df, targets + k);
    for (size_t i = 0; i < kChunkColumns; ++i) {
      total = hn::Add(total, hn::Mul(hn::Set(df, errors[i]), hn::LoadU(df, a + i * stride + k)));
    }
    hn::StoreU(total, df, targets + k);
  }
  for (; k < end; ++k) {
    for (size_t i = 0; i < kChunkColumns; ++i) targets[k] += errors[i] * a[i * stride + k];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sdq::converter
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sdq::converter {

HWY_EXPORT(RunChunkT);
HWY_EXPORT(AddDecidedErrorsT);

void RunChunk(const Trellis& trellis, const TrellisChunk& chunk, TrellisRow& row,
              TrellisScratch& scratch) {
  HWY_DYNAMIC_DISPATCH(RunChunkT)(trellis, chunk, row, scratch);
}

void AddDecidedErrors(const float* errors, const float* a, size_t stride, size_t begin, size_t end,
                      float* targets) {
  HWY_DYNAMIC_DISPATCH(AddDecidedErrorsT)(errors, a, stride, begin, end, targets);
}

}  // namespace sdq::converter
#endif  // HWY_ONCE
