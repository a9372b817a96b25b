// Whole columns of a block, as SQL sees them. What is stored mostly is just that; the rows of gaps, empty names,
// numbers that stand for words, and columns kept in others are laid out apart.
#include <algorithm>
#include <numeric>

#include "store/block.h"
#include "store/column_kinds.h"

namespace daemoneye::store {
namespace {

using event::Column;

constexpr std::size_t enumerators = 64;  // more than any column's: bounds the numbers that a TextColumn counts

}  // namespace

Block::Shown& Block::shown(Column column) {
  auto& slot = shown_[static_cast<std::size_t>(column)];
  if (!slot) slot = std::make_unique<Shown>();
  return *slot;
}

const std::uint8_t* Block::presence(Column column) {
  const auto& stored = data(column).present;
  if (gap_.empty() || !is_process_column(column)) return stored.empty() ? nullptr : stored.data();
  auto& present = shown(column).present;
  if (present.empty()) {
    present = stored;
    present.resize(header_.rows, 1);
    for (const std::uint32_t row : header_.gap_rows) present[row] = 0;
  }
  return present.data();
}

IntegerColumn Block::integers(Column column, event::EventId first_event) {
  if (header_.rows == 0) return {};
  if (column == Column::event_id) {
    auto& ids = shown(column).integers;
    ids.resize(header_.rows);
    std::iota(ids.begin(), ids.end(), first_event);
    return {ids.data(), nullptr};
  }
  if (column == Column::pid) {
    auto& made = shown(column);
    if (made.integers.empty()) {
      const auto& keys = data(column);
      made.integers.resize(header_.rows);
      made.present.resize(header_.rows);
      for (std::size_t row = 0; row < header_.rows; ++row) {
        if (keys.rows[row] == null_entry || is_gap(row)) continue;
        made.integers[row] = keys.keys[keys.rows[row]].pid;
        made.present[row] = 1;
      }
    }
    return {made.integers.data(), made.present.data()};
  }
  if (!has_number(encoding_of(column))) return {};
  const auto& stored = data(column).integers;
  if (gap_.empty() || !is_process_column(column)) return {stored.data(), presence(column)};
  auto& numbers = shown(column).integers;
  if (numbers.empty()) {
    numbers = stored;
    for (const std::uint32_t row : header_.gap_rows) numbers[row] = 0;
  }
  return {numbers.data(), presence(column)};
}

RealColumn Block::reals(Column column) {
  if (header_.rows == 0 || encoding_of(column) != Encoding::real) return {};
  return {data(column).reals.data(), presence(column)};
}

TextColumn Block::texts(Column column) {
  const auto encoding = encoding_of(home_of(column));
  if (header_.rows == 0 || column == Column::pid) return {};
  const bool is_enumerator = encoding == Encoding::enumerator;
  if (encoding != Encoding::text && encoding != Encoding::key && !is_enumerator) return {};
  const auto& stored = data(column);
  const TextColumn whole{stored.rows.data(),
                         is_enumerator ? enumerators : std::max(stored.entries.size(), stored.keys.size())};
  const bool hides_gaps = !gap_.empty() && is_process_column(column);
  const auto empty =
      is_null_if_empty(column) ? std::find(stored.entries.begin(), stored.entries.end(), "") : stored.entries.end();
  if (!hides_gaps && empty == stored.entries.end()) return whole;
  auto& entries = shown(column).entries;
  if (entries.empty()) {
    entries = stored.rows;
    if (empty != stored.entries.end()) {
      std::replace(entries.begin(), entries.end(), static_cast<std::uint32_t>(empty - stored.entries.begin()),
                   null_entry);
    }
    if (hides_gaps) {
      for (const std::uint32_t row : header_.gap_rows) entries[row] = null_entry;
    }
  }
  return {entries.data(), whole.count};
}

std::string_view Block::text(Column column, std::uint32_t entry) {
  if (encoding_of(column) == Encoding::enumerator) return enumerator_name(column, entry);
  return stored_text(column, entry);
}

}  // namespace daemoneye::store
