// Numbers for values: the same value gets the same number, counted from 1 in the order of coming; 0 is NULL's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "store/block_format.h"

namespace daemoneye::store {

// Open addressing over numbers of things that are kept elsewhere, with their hashes.
class NumberTable {
 public:
  NumberTable() : slots_(first_size) {}

  // The number of the thing that `same(number)` knows, or 0.
  template <class Same>
  [[nodiscard]] std::uint32_t find(std::uint64_t hash, Same same) const {
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
      const Slot& slot = slots_[at];
      if (slot.number == 0) return 0;
      if (slot.tag == static_cast<std::uint32_t>(hash >> 32) && same(slot.number)) return slot.number;
    }
  }
  // `hash_of(number)` is asked for when the table grows.
  template <class HashOf>
  void insert(std::uint64_t hash, std::uint32_t number, HashOf hash_of) {
    if ((static_cast<std::size_t>(number) + 1) * 2 > slots_.size()) {
      std::vector<Slot> larger(slots_.size() * 2);
      for (const Slot& slot : slots_) {
        if (slot.number != 0) place(larger, hash_of(slot.number), slot.number);
      }
      slots_.swap(larger);
    }
    place(slots_, hash, number);
  }
  [[nodiscard]] std::size_t bytes() const { return slots_.size() * sizeof(Slot); }

 private:
  static constexpr std::size_t first_size = 256;
  struct Slot {
    std::uint32_t number = 0, tag = 0;  // tag: the upper half of the hash
  };
  static void place(std::vector<Slot>& slots, std::uint64_t hash, std::uint32_t number) {
    const std::size_t mask = slots.size() - 1;
    std::size_t at = hash & mask;
    while (slots[at].number != 0) at = (at + 1) & mask;
    slots[at] = {number, static_cast<std::uint32_t>(hash >> 32)};
  }
  std::vector<Slot> slots_;
};

constexpr std::uint64_t mix_hash(std::uint64_t value) {
  value ^= value >> 32;
  value *= 0xd6e8feb86659fd93ULL;
  value ^= value >> 32;
  value *= 0xd6e8feb86659fd93ULL;
  return value ^ value >> 32;
}

class TextNumbers {
 public:
  std::uint32_t number(std::string_view text, std::uint64_t hash) {
    const auto known = table_.find(hash, [&](std::uint32_t n) { return texts_[n - 1] == text; });
    if (known != 0) return known;
    texts_.push_back(keep(text));
    hashes_.push_back(hash);
    const auto made = static_cast<std::uint32_t>(texts_.size());
    table_.insert(hash, made, [&](std::uint32_t n) { return hashes_[n - 1]; });
    return made;
  }
  [[nodiscard]] std::string_view text(std::uint32_t number) const { return texts_[number - 1]; }
  [[nodiscard]] std::size_t bytes() const {
    return kept_ + table_.bytes() + texts_.capacity() * sizeof(std::string_view) + hashes_.capacity() * 8;
  }

 private:
  std::string_view keep(std::string_view text) {
    constexpr std::size_t least_page_bytes = 4 * 1024, most_page_bytes = 64 * 1024;
    if (text.empty()) return "";
    if (pages_.empty() || left_ < text.size()) {
      left_ = std::max(std::clamp(kept_ / 4, least_page_bytes, most_page_bytes), text.size());
      pages_.push_back(std::make_unique_for_overwrite<char[]>(left_));
      next_ = pages_.back().get();
      kept_ += left_;
    }
    std::memcpy(next_, text.data(), text.size());
    const std::string_view view(next_, text.size());
    next_ += text.size();
    left_ -= text.size();
    return view;
  }

  NumberTable table_;
  std::vector<std::string_view> texts_;
  std::vector<std::uint64_t> hashes_;
  std::vector<std::unique_ptr<char[]>> pages_;
  char* next_ = nullptr;
  std::size_t left_ = 0, kept_ = 0;
};

// Of 64-bit values: integers, or pairs of numbers. The values lie in the table itself: a look is one miss of the cache.
class IntegerNumbers {
 public:
  IntegerNumbers() : slots_(first_size) {}

  std::uint32_t number(std::uint64_t value) { return number(value, mix_hash(value)); }
  // Of many at once: `values` has room for the numbers. The slots are fetched ahead.
  void numbers(std::span<const std::uint64_t> values, std::uint32_t* out) {
    constexpr std::size_t ahead = 8;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i + ahead < values.size()) __builtin_prefetch(&slots_[mix_hash(values[i + ahead]) & (slots_.size() - 1)]);
      out[i] = number(values[i]);
    }
  }
  [[nodiscard]] std::uint64_t value(std::uint32_t number) const { return values_[number - 1]; }
  [[nodiscard]] std::size_t bytes() const {
    return slots_.size() * sizeof(Slot) + values_.capacity() * sizeof(std::uint64_t);
  }

 private:
  static constexpr std::size_t first_size = 256;
  struct Slot {
    std::uint64_t value = 0;
    std::uint32_t number = 0;
  };

  std::uint32_t number(std::uint64_t value, std::uint64_t hash) {
    Slot* slot = &find(value, hash);
    if (slot->number != 0) return slot->number;
    values_.push_back(value);
    if (values_.size() * 2 > slots_.size()) {
      std::vector<Slot> smaller(slots_.size() * 2);
      smaller.swap(slots_);
      for (const Slot& old : smaller) {
        if (old.number != 0) find(old.value, mix_hash(old.value)) = old;
      }
      slot = &find(value, hash);
    }
    *slot = {value, static_cast<std::uint32_t>(values_.size())};
    return slot->number;
  }
  Slot& find(std::uint64_t value, std::uint64_t hash) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = hash & mask;
    while (slots_[at].number != 0 && slots_[at].value != value) at = (at + 1) & mask;
    return slots_[at];
  }

  std::vector<Slot> slots_;
  std::vector<std::uint64_t> values_;
};

}  // namespace daemoneye::store
