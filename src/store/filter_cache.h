// The headers of blocks that were looked at, kept by a reader: the membership filters of the columns that were asked
// for, which are most of a header, and the rest. To know that a block cannot hold a value, or to read its columns, its
// header need not be read again. Blocks never change; one whose number is given again has another first event.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "store/scan_conditions.h"

namespace daemoneye::store {

class FilterCache {
 public:
  static constexpr std::size_t max_bytes = 6 * 1024 * 1024, max_header_bytes = 1024 * 1024;

  // Which columns' filters are kept: those that were asked for once.
  // False when no row of the block can meet the conditions, as far as is known without its header.
  [[nodiscard]] bool may_match(std::int64_t block, event::EventId first_event, const ScanConditions& conditions) const;
  // The header, without its filters, when what they tell of the conditions is known.
  [[nodiscard]] std::optional<BlockHeader> header(std::int64_t block, event::EventId first_event,
                                                  const ScanConditions& conditions) const;
  // Keeps the header, and the filters of the conditions' columns. Without room the newest blocks' stay: they are asked
  // for most, and retention takes the oldest blocks away.
  void keep(std::int64_t block, event::EventId first_event, const BlockHeader& header,
            const ScanConditions& conditions);

 private:
  struct Key {
    std::int64_t block;
    event::EventId first_event;
    event::Column column;
    auto operator<=>(const Key&) const = default;
  };
  void keep_rest(std::int64_t block, event::EventId first_event, BlockHeader header);

  std::map<Key, MembershipFilter> filters_;
  std::size_t bytes_ = 0;
  std::map<std::pair<std::int64_t, event::EventId>, std::string> headers_;  // encoded: many of few bytes each
  std::size_t header_bytes_ = 0;
};

}  // namespace daemoneye::store
