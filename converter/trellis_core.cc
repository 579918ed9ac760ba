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

// Which survivor of the column before each one continues.
void FindSources(const TrellisPhase& phase, const TrellisPhase& before, TrellisScratch& scratch) {
  const I32 di;
  for (size_t p = 0; p < phase.parents; p += hn::Lanes(di)) {
    const auto state = hn::LoadU(di, scratch.state.get() + p);
    hn::StoreU(hn::GatherIndex(di, before.parent.data(), state), di, scratch.source.get() + p);
  }
}

// to[p] = from[source[p]]
void MoveAncestors(size_t parents, const int32_t* HWY_RESTRICT from, const TrellisScratch& scratch,
                   int32_t* HWY_RESTRICT to) {
  const I32 di;
  for (size_t p = 0; p < parents; p += hn::Lanes(di)) {
    const auto source = hn::LoadU(di, scratch.source.get() + p);
    hn::StoreU(hn::GatherIndex(di, from, source), di, to + p);
  }
}

// Moves every survivor's lanes to its new place and enters the error of lane `lane`.
// a_row: what an error of that lane does to the lanes behind it.
void MoveLanes(size_t parents, size_t lane, const float* HWY_RESTRICT a_row,
               const float* HWY_RESTRICT from, const TrellisScratch& scratch,
               float* HWY_RESTRICT to) {
  const F32 df;
  const size_t lanes = hn::Lanes(df);
  const int32_t* HWY_RESTRICT source = scratch.source.get();
  const float* HWY_RESTRICT error = scratch.error.get();
  for (size_t k = 0; k < kChunkColumns; k += lanes) {
    const auto a = hn::LoadU(df, a_row + k);
    const auto here = hn::Eq(hn::Iota(df, float(k)), hn::Set(df, float(lane)));
    for (size_t p = 0; p < parents; ++p) {
      const auto e = hn::Set(df, error[p]);
      const auto old = hn::LoadU(df, from + size_t(source[p]) * kChunkColumns + k);
      const auto moved = hn::IfThenElse(here, e, hn::Add(old, hn::Mul(e, a)));
      hn::StoreU(moved, df, to + p * kChunkColumns + k);
    }
  }
}

// target[p] = what lane `lane` of survivor p holds.
void ReadTargets(size_t parents, size_t lane, const float* HWY_RESTRICT survivors,
                 float* HWY_RESTRICT target) {
  const F32 df;
  const I32 di;
  const size_t lanes = hn::Lanes(df);
  const auto column = hn::Add(hn::Mul(hn::Iota(di, 0), hn::Set(di, int32_t(kChunkColumns))),
                              hn::Set(di, int32_t(lane)));
  size_t p = 0;
  for (; p + lanes <= parents; p += lanes) {
    hn::StoreU(hn::GatherIndex(df, survivors + p * kChunkColumns, column), df, target + p);
  }
  for (; p < parents; ++p) target[p] = survivors[p * kChunkColumns + lane];
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
void LastErrors(const Trellis& trellis, size_t parents, size_t column, const TrellisRow& row,
                TrellisScratch& scratch) {
  const F32 df;
  const I32 di;
  const size_t lanes = hn::Lanes(df);
  const float* values = trellis.Values(column - 1);
  const auto weight = hn::Set(df, row.weights[column - 1]);
  for (size_t p = 0; p < parents; p += lanes) {
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
void StartGeneration(const Trellis& trellis, const TrellisChunk& chunk, size_t parents,
                     TrellisRow& row, TrellisScratch& scratch) {
  Generation& newest = row.At(row.live_generations++);
  newest.first_column = chunk.first - kChunkColumns;
  newest.count = parents;
  static constexpr float kNothing[kChunkColumns] = {};
  const float* from = row.lanes.get() + row.current * trellis.max_parents() * kChunkColumns;
  MoveLanes(parents, kChunkColumns - 1, kNothing, from, scratch, newest.errors.get());
  const int32_t* ancestor = row.Ancestors(trellis);
  for (size_t p = 0; p < parents; ++p) {
    newest.parent[p] = uint16_t(ancestor[size_t(scratch.source[p])]);
  }
  ThinGenerations(row, scratch);
}

// Targets of the whole chunk for every survivor, from the tree of its past.
void InitLanes(const Trellis& trellis, const TrellisChunk& chunk, size_t parents, TrellisRow& row,
               TrellisScratch& scratch) {
  HWY_ALIGN float base[kChunkColumns] = {};
  std::copy_n(&row.targets[chunk.first], chunk.count, base);
  row.current ^= 1;
  float* lanes = row.lanes.get() + row.current * trellis.max_parents() * kChunkColumns;
  int32_t* ancestor = row.Ancestors(trellis);
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
  for (size_t p = 0; p < parents; ++p) ancestor[p] = int32_t(p);
}

// Survivors' targets for a column inside the chunk.
void StepLanes(const Trellis& trellis, const TrellisChunk& chunk, size_t column, size_t parents,
               TrellisRow& row, TrellisScratch& scratch) {
  const size_t half = trellis.max_parents() * kChunkColumns;
  const float* from = row.lanes.get() + row.current * half;
  const int32_t* old_ancestor = row.Ancestors(trellis);
  row.current ^= 1;
  const float* a_row = chunk.band + (column - 1 - chunk.band_first) * kChunkColumns;
  MoveLanes(parents, column - 1 - chunk.first, a_row, from, scratch,
            row.lanes.get() + row.current * half);
  MoveAncestors(parents, old_ancestor, scratch, row.Ancestors(trellis));
}

void RunChunkT(const Trellis& trellis, const TrellisChunk& chunk, TrellisRow& row,
               TrellisScratch& scratch) {
  const size_t max_parents = trellis.max_parents();
  const TrellisPhase* before = chunk.first > 0 ? &trellis.Phase(chunk.first - 1) : nullptr;
  for (size_t j = 0; j < chunk.count; ++j) {
    const size_t column = chunk.first + j;
    const TrellisPhase& phase = trellis.Phase(column);
    const size_t parents = phase.parents;
    SelectSurvivors(phase, row.cost.get(), scratch, &row.back[column * max_parents]);
    if (chunk.band == nullptr) {
      std::fill_n(scratch.target.get(), parents, row.weights[column]);
    } else {
      if (column > 0) {
        LastErrors(trellis, parents, column, row, scratch);
        FindSources(phase, *before, scratch);
      }
      if (j > 0) {
        StepLanes(trellis, chunk, column, parents, row, scratch);
      } else {
        if (column > 0) StartGeneration(trellis, chunk, parents, row, scratch);
        InitLanes(trellis, chunk, parents, row, scratch);
      }
      ReadTargets(parents, j, row.lanes.get() + row.current * max_parents * kChunkColumns,
                  scratch.target.get());
    }
    ExtendSurvivors(phase, trellis.Values(column, phase), chunk.weight_of_error[column],
                    trellis.states(), scratch, row.cost.get());
    before = &phase;
  }
}

size_t SettleT(size_t states, float* HWY_RESTRICT cost) {
  const F32 df;
  const size_t lanes = hn::Lanes(df);
  size_t c = 0;
  auto least = hn::Set(df, cost[0]);
  for (; c + lanes <= states; c += lanes) least = hn::Min(least, hn::LoadU(df, cost + c));
  for (; c < states; ++c) least = hn::Min(least, hn::Set(df, cost[c]));
  least = hn::MinOfLanes(df, least);
  size_t best = states;
  for (c = 0; c + lanes <= states; c += lanes) {
    const auto v = hn::LoadU(df, cost + c);
    if (best == states) {
      const intptr_t found = hn::FindFirstTrue(df, hn::Eq(v, least));
      if (found >= 0) best = c + size_t(found);
    }
    hn::StoreU(hn::Sub(v, least), df, cost + c);
  }
  const float minimum = hn::GetLane(least);
  for (; c < states; ++c) {
    if (best == states && cost[c] == minimum) best = c;
    cost[c] -= minimum;
  }
  return best;
}

// Four rows share what is read of A.
HWY_INLINE void AddToFour(const float* HWY_RESTRICT errors, const float* HWY_RESTRICT a,
                          size_t stride, size_t k, float* const* targets) {
  const F32 df;
  auto t0 = hn::LoadU(df, targets[0] + k), t1 = hn::LoadU(df, targets[1] + k);
  auto t2 = hn::LoadU(df, targets[2] + k), t3 = hn::LoadU(df, targets[3] + k);
  for (size_t i = 0; i < kChunkColumns; ++i) {
    const auto v = hn::LoadU(df, a + i * stride + k);
    t0 = hn::Add(t0, hn::Mul(hn::Set(df, errors[i]), v));
    t1 = hn::Add(t1, hn::Mul(hn::Set(df, errors[kChunkColumns + i]), v));
    t2 = hn::Add(t2, hn::Mul(hn::Set(df, errors[2 * kChunkColumns + i]), v));
    t3 = hn::Add(t3, hn::Mul(hn::Set(df, errors[3 * kChunkColumns + i]), v));
  }
  hn::StoreU(t0, df, targets[0] + k);
  hn::StoreU(t1, df, targets[1] + k);
  hn::StoreU(t2, df, targets[2] + k);
  hn::StoreU(t3, df, targets[3] + k);
}

void AddDecidedErrorsT(const float* HWY_RESTRICT errors, size_t rows, const float* HWY_RESTRICT a,
                       size_t stride, size_t begin, size_t end, float* const* targets) {
  const F32 df;
  const size_t lanes = hn::Lanes(df);
  const size_t whole = begin + (end - begin) / lanes * lanes;
  size_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    for (size_t k = begin; k < whole; k += lanes) {
      AddToFour(errors + r * kChunkColumns, a, stride, k, targets + r);
    }
  }
  const size_t in_fours = r;
  for (r = 0; r < rows; ++r) {
    const float* HWY_RESTRICT e = errors + r * kChunkColumns;
    float* HWY_RESTRICT to = targets[r];
    for (size_t k = r < in_fours ? whole : begin; k < end; ++k) {
      for (size_t i = 0; i < kChunkColumns; ++i) to[k] += e[i] * a[i * stride + k];
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sdq::converter
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sdq::converter {

HWY_EXPORT(RunChunkT);
HWY_EXPORT(AddDecidedErrorsT);
HWY_EXPORT(SettleT);

void RunChunk(const Trellis& trellis, const TrellisChunk& chunk, TrellisRow& row,
              TrellisScratch& scratch) {
  HWY_DYNAMIC_DISPATCH(RunChunkT)(trellis, chunk, row, scratch);
}

size_t Settle(size_t states, float* cost) { return HWY_DYNAMIC_DISPATCH(SettleT)(states, cost); }

void AddDecidedErrors(const float* errors, size_t rows, const float* a, size_t stride, size_t begin,
                      size_t end, float* const* targets) {
  HWY_DYNAMIC_DISPATCH(AddDecidedErrorsT)(errors, rows, a, stride, begin, end, targets);
}

}  // namespace sdq::converter
#endif  // HWY_ONCE
