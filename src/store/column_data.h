// One decoded column of a block.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/block_format.h"
#include "store/column_view.h"

namespace daemoneye::store {

struct ColumnData {
  ColumnData() = default;
  ColumnData(const ColumnData&) = delete;  // `entries` look into `body`
  ColumnData& operator=(const ColumnData&) = delete;

  std::vector<std::uint8_t> present;   // numbers only; empty: every row
  std::vector<std::int64_t> integers;  // integer, time_based
  std::vector<double> reals;
  std::vector<std::uint32_t>
      rows;  // text and key: the row's entry, or null_entry; enumerator: its number, or null_entry
  std::string body;
  std::vector<std::string_view> entries;  // text; a NUL follows each
  std::vector<event::ProcessKey> keys;    // key
  std::string_view codes;                 // text and key: in `body`, until `rows` is made of them

  [[nodiscard]] bool is_present(std::size_t row) const { return present.empty() || present[row] != 0; }
  [[nodiscard]] bool is_whole() const { return codes.data() == nullptr; }
  [[nodiscard]] std::size_t count() const { return std::max(entries.size(), keys.size()); }
  [[nodiscard]] std::size_t bytes() const;
};

// `times` is the block's decoded `time` column, needed for Encoding::time_based only.
// Codes::left: of text and keys the entries alone are read, and `codes` is what is left to do.
enum class Codes : std::uint8_t { read, left };
Result<std::unique_ptr<ColumnData>> decode_column(event::Column column, std::string body, std::size_t rows,
                                                  const ColumnData* times, Codes codes = Codes::read);
Result<void> read_left_codes(event::Column column, ColumnData& data, std::size_t rows);

// Without reading all codes, in which of them each takes a step that waits for the one before. Malformed codes give
// wrong rows and NULLs here, and corrupt above.
// The rows in [first, last] of an entry, added to `out` ascending.
void find_rows(const ColumnData& data, std::uint32_t entry, std::uint32_t first, std::uint32_t last,
               std::vector<std::uint32_t>& out);
// The entries of these rows, ascending, or null_entry.
void find_entries(const ColumnData& data, std::span<const std::uint32_t> rows, std::vector<std::uint32_t>& out);

}  // namespace daemoneye::store
