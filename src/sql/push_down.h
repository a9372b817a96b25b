// From SQLite's constraints to a store scan. A pushed constraint is checked again by SQLite, so what is pushed may only
// be too wide, never too narrow: a value is pushed when collation, affinity and type leave no doubt.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "event/columns.h"
#include "store/reader.h"

struct sqlite3_index_info;
struct sqlite3_value;

namespace daemoneye::sql {

// What the constraints say that hold for every row wanted.
struct ScanFilter {
  bool nothing = false;  // no row can meet them
  event::TimeRange time;
  std::optional<event::EventId> first_event, last_event;
  std::vector<predicate::Condition> conditions;

  // All of these columns' conditions; for tables that need to look at one.
  [[nodiscard]] const predicate::Condition* find(event::Column column, predicate::Operator op) const;
};

inline constexpr int plan_newest_first = 1;

// Decides which constraints are passed on and describes them in info.idxStr; `columns` says which event column stands
// at each place of the table. A REGEXP is compiled each time the scan begins: where that happens often and for few rows
// it is left to SQLite, whose function keeps it.
enum class Regexps : std::uint8_t { pushed, left };
int plan_scan(sqlite3_index_info& info, std::span<const event::Column> columns, bool ordered_by_event_id,
              Regexps regexps = Regexps::pushed);
// The same constraints with their values, as xFilter gets them.
// Without the constraint of number `without`.
ScanFilter read_filter(const char* detail, std::span<sqlite3_value*> values, std::span<const event::Column> columns,
                       std::optional<std::size_t> without = {});
// Of the same text: whether one of the constraints, or that of this number, is `=` with one value; its column; and the
// places of the columns that the statement reads.
bool is_equality(const char* detail, std::optional<std::size_t> constraint = {});
event::Column column_of_constraint(const char* detail, std::size_t constraint, std::span<const event::Column> columns);
std::vector<int> used_places(const char* detail, std::size_t count);
// A condition that holds for every row wanted: as a bound of the scan where it is one.
void add_condition(ScanFilter& filter, predicate::Condition condition);
// Columns that the statement reads of the table, from the same text.
store::ColumnSet read_columns(const char* detail, std::span<const event::Column> columns);

// The columns of process_events in their order.
std::span<const event::Column> all_columns();

}  // namespace daemoneye::sql
