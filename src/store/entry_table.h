// A hash table of numbers, for whoever keeps the values themselves one after the other.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace daemoneye::store {

// Finds the number of a value by its hash. Open addressing over hash and number in one word: what differs is seldom
// looked at, and a growth is the only allocation.
class EntryTable {
 public:
  // The number of the entry for which `same` is true, or `next`, which then is in the table.
  template <class Same>
  std::uint32_t find_or_add(std::uint64_t hash, std::uint32_t next, Same same) {
    if ((used_ + 1) * 2 > slots_.size()) grow();
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = static_cast<std::size_t>(hash) & mask;
    for (; slots_[at].number != 0; at = (at + 1) & mask) {
      if (slots_[at].hash == hash && same(slots_[at].number - 1)) return slots_[at].number - 1;
    }
    slots_[at] = {hash, next + 1};
    ++used_;
    return next;
  }

  template <class Same>
  [[nodiscard]] bool contains(std::uint64_t hash, Same same) const {
    if (slots_.empty()) return false;
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t at = static_cast<std::size_t>(hash) & mask; slots_[at].number != 0; at = (at + 1) & mask) {
      if (slots_[at].hash == hash && same(slots_[at].number - 1)) return true;
    }
    return false;
  }

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t number = 0;  // of the entry, plus 1; 0: free
  };
  void grow() {
    const auto before = std::exchange(slots_, std::vector<Slot>(std::max<std::size_t>(64, slots_.size() * 2)));
    const std::size_t mask = slots_.size() - 1;
    for (const auto& slot : before) {
      if (slot.number == 0) continue;
      std::size_t at = static_cast<std::size_t>(slot.hash) & mask;
      while (slots_[at].number != 0) at = (at + 1) & mask;
      slots_[at] = slot;
    }
  }
  std::vector<Slot> slots_;
  std::size_t used_ = 0;
};

}  // namespace daemoneye::store
