// The hash tables of the BPE: linear probing, at most half full.
#include <bit>
#include <functional>

#include "runtime/tokenizer_bpe.h"

namespace sdq::tokenizer {
namespace {

uint32_t HashOf(std::string_view text) {
  const uint64_t h = std::hash<std::string_view>()(text);
  return uint32_t(h ^ (h >> 32));
}

uint64_t KeyOf(TokenId left, TokenId right) {
  return (uint64_t(uint32_t(left)) << 32) | uint32_t(right);
}

// The finalizer of splitmix64: neighbouring ids spread over the table.
size_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return size_t(x ^ (x >> 31));
}

size_t SlotsFor(size_t count) { return std::bit_ceil(count * 2 + 2); }

}  // namespace

void SurfaceIndex::Reserve(size_t count) {
  slots_.assign(SlotsFor(count), Slot());
  mask_ = slots_.size() - 1;
}

bool SurfaceIndex::Insert(const std::vector<std::string>& tokens, TokenId id) {
  const std::string& text = tokens[size_t(id)];
  const uint32_t hash = HashOf(text);
  size_t at = hash & mask_;
  for (; slots_[at].id >= 0; at = (at + 1) & mask_) {
    if (slots_[at].hash == hash && tokens[size_t(slots_[at].id)] == text) return false;
  }
  slots_[at] = {hash, id};
  return true;
}

TokenId SurfaceIndex::Find(const std::vector<std::string>& tokens, std::string_view text) const {
  const uint32_t hash = HashOf(text);
  for (size_t at = hash & mask_; slots_[at].id >= 0; at = (at + 1) & mask_) {
    if (slots_[at].hash == hash && tokens[size_t(slots_[at].id)] == text) return slots_[at].id;
  }
  return -1;
}

void MergeIndex::Reserve(size_t count) {
  slots_.assign(SlotsFor(count), Slot());
  mask_ = slots_.size() - 1;
}

void MergeIndex::Insert(TokenId left, TokenId right, Merge merge) {
  const uint64_t key = KeyOf(left, right);
  size_t at = Mix(key) & mask_;
  while (slots_[at].merge.id >= 0 && slots_[at].key != key) at = (at + 1) & mask_;
  slots_[at] = {key, merge};
}

const MergeIndex::Merge* MergeIndex::Find(TokenId left, TokenId right) const {
  if (left < 0 || right < 0) return nullptr;
  const uint64_t key = KeyOf(left, right);
  for (size_t at = Mix(key) & mask_; slots_[at].merge.id >= 0; at = (at + 1) & mask_) {
    if (slots_[at].key == key) return &slots_[at].merge;
  }
  return nullptr;
}

}  // namespace sdq::tokenizer
