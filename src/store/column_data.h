// One decoded column of a block.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "store/block_format.h"
#include "store/column_view.h"

namespace daemoneye::store {

// A dictionary of keys that is not read yet: in the body, and the boots that it names.
struct LeftKeys {
  std::string_view bytes;
  std::size_t count = 0;
  std::vector<event::BootId> boots;
};

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
  LeftKeys left_keys;                     // key: as long, `keys` is empty

  [[nodiscard]] bool is_present(std::size_t row) const { return present.empty() || present[row] != 0; }
  [[nodiscard]] bool is_whole() const { return codes.data() == nullptr; }
  [[nodiscard]] std::size_t count() const { return std::max({entries.size(), keys.size(), left_keys.count}); }
  [[nodiscard]] std::size_t bytes() const;
};

// `times` is the block's decoded `time` column, needed for Encoding::time_based only.
// Codes::left: of texts the entries alone are read, and of keys nothing; column_codes.h looks at what is left.
enum class Codes : std::uint8_t { read, left };
Result<std::unique_ptr<ColumnData>> decode_column(event::Column column, std::string body, std::size_t rows,
                                                  const ColumnData* times, Codes codes = Codes::read);
Result<void> read_left_codes(event::Column column, ColumnData& data, std::size_t rows);

}  // namespace daemoneye::store
