// One decoded column of a block.
#pragma once

#include <cstdint>
#include <memory>
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

  [[nodiscard]] bool is_present(std::size_t row) const { return present.empty() || present[row] != 0; }
  [[nodiscard]] std::size_t bytes() const;
};

// `times` is the block's decoded `time` column, needed for Encoding::time_based only.
Result<std::unique_ptr<ColumnData>> decode_column(event::Column column, std::string body, std::size_t rows,
                                                  const ColumnData* times);

}  // namespace daemoneye::store
