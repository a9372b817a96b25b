// What can be told of a block without its columns: ranges of integers, which values may occur, which rows are gaps.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "predicate/predicate.h"
#include "store/block_format.h"

namespace daemoneye::store {

// A Bloom filter: no false "absent", about 1 % false "present".
class MembershipFilter {
 public:
  MembershipFilter() = default;
  explicit MembershipFilter(const std::vector<std::uint64_t>& hashes);
  explicit MembershipFilter(std::string bits) : bits_(std::move(bits)) {}
  [[nodiscard]] bool may_hold(std::uint64_t hash) const;
  [[nodiscard]] const std::string& bits() const { return bits_; }

 private:
  std::string bits_;  // empty: holds nothing
};

struct IntegerRange {
  bool any = false;  // a value that is not NULL
  std::int64_t min = 0, max = 0;
  void add(std::int64_t value);
};

struct BlockHeader {
  std::uint32_t rows = 0;
  std::vector<std::uint32_t> gap_rows;                     // ascending; their process columns are NULL
  std::array<IntegerRange, event::column_count> ranges{};  // of the columns with has_number()
  std::array<std::optional<MembershipFilter>, event::column_count> filters{};  // of the columns with is_filtered()

  // False when no row of the block can meet the condition.
  [[nodiscard]] bool may_match(const predicate::Condition& condition) const;
  // The same from the ranges alone.
  [[nodiscard]] bool may_be_in_range(const predicate::Condition& condition) const;
};

std::string encode_header(const BlockHeader& header);
Result<BlockHeader> decode_header(std::string_view body);

// The filter hash of a condition's value; nothing when the value is of another type than the column.
std::optional<std::uint64_t> condition_hash(event::Column column, const event::Value& value);

}  // namespace daemoneye::store
