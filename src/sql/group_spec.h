// What a grouped reading of process_events is about, as text: the first argument of the hidden table that the rewritten
// statement names (`_event_groups`), made by rewrite_groups.cc and read by vtab_groups.cc.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "predicate/predicate.h"

namespace daemoneye::sql {

struct GroupCondition {
  event::Column column{};
  predicate::Operator op{};
  bool negated = false;
  // Nothing: the table's next argument, which SQLite computes.
  std::vector<std::optional<event::Value>> values;
};

struct GroupSpec {
  std::vector<event::Column> by;        // columns that the statement reads
  std::vector<event::Column> extremes;  // that it reads inside of min() and max() only
  std::vector<GroupCondition> conditions;
  bool whole = false;  // each group is to be one row: nothing groups them again
};

// Few enough values that their groups are worth holding until all events are read.
bool has_few_values(event::Column column);

inline constexpr std::size_t max_group_arguments = 24;

std::string encode(const GroupSpec& spec);
Result<GroupSpec> decode_group_spec(std::string_view text);

}  // namespace daemoneye::sql
