// The tables a statement may name, and what they are made of.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sql/ast.h"
#include "sql/sql.h"

namespace daemoneye::sql {

// Exact, any case; nullptr when there is none.
const CatalogTable* find_table(std::string_view name);
// Those that stand in FROM with arguments: ancestors, descendants, json_each, json_tree.
struct TableFunction {
  CatalogTable table;
  std::size_t min_arguments = 1, max_arguments = 1;
};
const std::vector<TableFunction>& table_functions();
const TableFunction* find_table_function(std::string_view name);

Type column_type(const CatalogColumn& column);

// Names the derived SQL and the runtime agree on; a statement cannot say them, for its names cannot begin with `_`.
inline constexpr std::string_view driving_events_table = "_driving_events";
inline constexpr std::string_view driving_processes_table = "_driving_processes";
inline constexpr std::string_view driving_id_column = "_driving_event_id";
inline constexpr std::string_view event_groups_table = "_event_groups";
inline constexpr std::string_view group_count_column = "_n";
inline constexpr std::string_view with_prefix = "with:";  // of WITH tables: no table of the store is called so
inline constexpr std::string_view now_ns_parameter = "_now_ns";
inline constexpr std::string_view now_text_parameter = "_now_text";  // "YYYY-MM-DD HH:MM:SS.SSS"

}  // namespace daemoneye::sql
