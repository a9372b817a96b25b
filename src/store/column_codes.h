// Few rows of a dictionary column, without reading all its codes and entries, in which each takes a step that waits for
// the one before. Malformed ones give wrong rows and NULLs here, and corrupt where the column is read whole.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "store/column_data.h"
#include "store/scan_conditions.h"

namespace daemoneye::store {

// How many varints end in these bytes; where the varint ends that is the `count`th.
std::size_t count_ends(std::string_view bytes);
std::optional<std::size_t> end_of(std::string_view bytes, std::size_t count);

// All of a column whose codes are left.

// The rows in [first, last] of an entry, added to `out` ascending.
void find_rows(const ColumnData& data, std::uint32_t entry, std::uint32_t first, std::uint32_t last,
               std::vector<std::uint32_t>& out);
// The entries of these rows, ascending, or null_entry.
void find_entries(const ColumnData& data, std::span<const std::uint32_t> rows, std::vector<std::uint32_t>& out);
// The entries that are one of these keys.
void find_keys(const ColumnData& data, const KeySet& wanted, std::vector<std::uint32_t>& out);
// The keys of entries in any order, and of null_entry any; false when they cannot be read.
bool read_keys_of(const ColumnData& data, std::span<const std::uint32_t> entries, std::vector<event::ProcessKey>& out);

}  // namespace daemoneye::store
