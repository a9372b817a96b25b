// The conditions of one scan with what every block is asked again, worked out once: the hashes that the filters know
// the values by, and process keys as keys instead of texts.
#pragma once

#include <optional>
#include <unordered_set>
#include <vector>

#include "store/block_header.h"

namespace daemoneye::store {

struct KeyHash {
  std::size_t operator()(const event::ProcessKey& key) const {
    const auto mixed = (key.start_ticks << 22 ^ key.pid) * 0x9e3779b97f4a7c15ULL;
    return static_cast<std::size_t>(mixed ^ mixed >> 29);
  }
};
using KeySet = std::unordered_set<event::ProcessKey, KeyHash>;

class ScanConditions {
 public:
  ScanConditions() = default;
  explicit ScanConditions(const predicate::Predicate& predicate);

  [[nodiscard]] const predicate::Predicate& predicate() const { return *predicate_; }
  [[nodiscard]] std::size_t size() const { return of_.size(); }
  // The hashes of which one must be in a block's filter of `column`; nothing when the filters cannot tell.
  struct Wanted {
    event::Column column;
    std::vector<std::uint64_t> hashes;
  };
  [[nodiscard]] const std::optional<Wanted>& wanted(std::size_t condition) const { return of_[condition].wanted; }
  // Of a process key that must be one of these; nothing when it is another condition.
  [[nodiscard]] const std::optional<KeySet>& keys(std::size_t condition) const { return of_[condition].keys; }
  // False when no row of the block can meet the conditions.
  [[nodiscard]] bool may_match(const BlockHeader& header) const;
  // False when an event with these keys does not meet those on keys.
  [[nodiscard]] bool may_match(const event::ProcessKey& own, const std::optional<event::ProcessKey>& parent) const;

 private:
  struct One {
    std::optional<Wanted> wanted;
    std::optional<KeySet> keys;
  };
  const predicate::Predicate* predicate_ = nullptr;
  std::vector<One> of_;
};

}  // namespace daemoneye::store
