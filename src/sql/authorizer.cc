// The second wall: should the front end ever let something through, SQLite asks here before it prepares it.
#include <sqlite3.h>

#include <algorithm>
#include <array>

#include "sql/catalog.h"
#include "sql/functions.h"
#include "sql/runtime.h"

namespace daemoneye::sql {
namespace {

bool may_read(std::string_view table, std::string_view column) {
  if (table == driving_events_table || table == driving_processes_table || table == event_groups_table) {
    return true;
  }
  // A WITH table of which no column is used is asked for as if it were a table.
  if (column.empty() && table.starts_with(with_prefix)) return true;
  const CatalogTable* known = find_table(table);
  if (known == nullptr) {
    const auto* const function = find_table_function(table);
    return function != nullptr;  // its hidden arguments included
  }
  return column.empty() ||
         std::ranges::any_of(known->columns, [&](const CatalogColumn& one) { return same_name(one.name, column); });
}

bool may_call(std::string_view name) {
  constexpr auto operators_and_own =
      std::to_array<std::string_view>({"like", "glob", "regexp", "->", "->>", to_ns_function, ago_function,
                                       time_value_function, not_now_function, recursion_guard_function});
  const auto lower = lower_case(name);
  return find_function(lower) != nullptr || std::ranges::find(operators_and_own, lower) != operators_and_own.end();
}

int authorize(void* strict, int action, const char* first, const char* second, const char*, const char*) {
  if (!*static_cast<const bool*>(strict)) return SQLITE_OK;  // the store's own reads
  switch (action) {
    case SQLITE_SELECT:
    case SQLITE_RECURSIVE: return SQLITE_OK;
    case SQLITE_READ:
      return may_read(first == nullptr ? "" : first, second == nullptr ? "" : second) ? SQLITE_OK : SQLITE_DENY;
    case SQLITE_FUNCTION: return may_call(second == nullptr ? "" : second) ? SQLITE_OK : SQLITE_DENY;
    default: return SQLITE_DENY;
  }
}

}  // namespace

void set_authorizer(sqlite3* handle, const bool& strict) {
  sqlite3_set_authorizer(handle, authorize, const_cast<bool*>(&strict));
}

void set_limits(sqlite3* handle) {
  // Also bounds what the store itself reads in one piece: a column chunk stays far below.
  sqlite3_limit(handle, SQLITE_LIMIT_LENGTH, 64 * 1024 * 1024);
  sqlite3_limit(handle, SQLITE_LIMIT_SQL_LENGTH, 8 * 1024 * 1024);
  sqlite3_limit(handle, SQLITE_LIMIT_ATTACHED, 0);
  sqlite3_limit(handle, SQLITE_LIMIT_WORKER_THREADS, 0);
  sqlite3_limit(handle, SQLITE_LIMIT_VDBE_OP, 1'000'000);
  sqlite3_limit(handle, SQLITE_LIMIT_TRIGGER_DEPTH, 0);
}

}  // namespace daemoneye::sql
