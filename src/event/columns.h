// The columns of `process_events` and `processes`: one list for the store, SQL, predicates, import and documents.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "event/process_event.h"

namespace daemoneye::event {

// The order is the order in SQL (`SELECT *`) and, for stored columns, in the canonical encoding. Append only.
enum class Column : std::uint8_t {
  event_id,
  time,
  kind,
  source,
  detail,
  process_key,
  pid,
  ppid,
  parent_key,
  name,
  comm,
  executable_path,
  command_line,
  arguments,
  cwd,
  uid,
  gid,
  euid,
  loginuid,
  user,
  session_id,
  tty,
  start_time,
  exit_time,
  exit_code,
  exit_signal,
  cpu_usage,
  memory_usage,
  status,
  executable_hash,
  executable_state,
  cgroup,
  container_id,
  collection_time,
  scan_id,
  parent_name,
  parent_executable_path,
  parent_command_line,
};
inline constexpr std::size_t column_count = static_cast<std::size_t>(Column::parent_command_line) + 1;

enum class ColumnType : std::uint8_t { integer, real, text };

struct ColumnInfo {
  Column column;
  std::string_view name;
  ColumnType type;
  bool is_time;                  // INTEGER Unix nanoseconds, shown as ISO 8601
  bool in_processes;             // also a column of `processes`
  std::string_view description;  // one line, with the unit
};

std::span<const ColumnInfo, column_count> columns();  // indexed by Column
const ColumnInfo& info(Column column);
std::optional<Column> find_column(std::string_view name);  // exact, lower case

// monostate is NULL.
using Value = std::variant<std::monostate, std::int64_t, double, std::string>;

// The SQL value of one column. `event_id` is the store's and must be passed in.
// Of a gap event every process column but collection_time is NULL.
Value column_value(const ProcessEvent& event, EventId event_id, Column column);
// Sets what `column` stands for; invalid_input when the value's type or content does not fit it (names the column).
// command_line is derived from arguments and cannot be set; event_id is ignored.
Result<void> set_column(ProcessEvent& event, Column column, const Value& value);

}  // namespace daemoneye::event
