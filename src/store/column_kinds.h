// How SQL's columns lie on the stored ones; private to the reader of blocks.
#pragma once

#include <string_view>

#include "event/columns.h"

namespace daemoneye::store {

// Where the values of an SQL column are kept.
constexpr event::Column home_of(event::Column column) {
  switch (column) {
    case event::Column::pid: return event::Column::process_key;
    case event::Column::command_line: return event::Column::arguments;
    default: return column;
  }
}

constexpr bool is_process_column(event::Column column) {
  return column > event::Column::detail && column != event::Column::collection_time;  // NULL in a gap
}
// Not optional in an event, but NULL in SQL when empty.
constexpr bool is_null_if_empty(event::Column column) {
  return column == event::Column::detail || column == event::Column::name;
}

inline std::string_view enumerator_name(event::Column column, std::int64_t number) {
  switch (column) {
    case event::Column::kind: return to_string(static_cast<event::EventKind>(number));
    case event::Column::source: return to_string(static_cast<event::EventSource>(number));
    case event::Column::status: return to_string(static_cast<event::ProcessStatus>(number));
    default: return to_string(static_cast<event::ExecutableState>(number));
  }
}

}  // namespace daemoneye::store
