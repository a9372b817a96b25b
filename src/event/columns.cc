#include "event/columns.h"

#include <algorithm>
#include <array>

namespace daemoneye::event {
namespace {

using enum ColumnType;

constexpr std::array<ColumnInfo, column_count> table = {{
    {Column::event_id, "event_id", integer, false, false, "number given at commit: ascending, never reused"},
    {Column::time, "time", integer, true, false, "when it happened (Unix nanoseconds, UTC)"},
    {Column::kind, "kind", text, false, false, "exec, exit, seen (found by a scan), change, gap (loss) or fork"},
    {Column::source, "source", text, false, false, "what observed it: ebpf, netlink, scan or import"},
    {Column::detail, "detail", text, false, false,
     "JSON object: what a change altered, what a gap spans, of a start what has no column (docs/sql.md)"},
    {Column::process_key, "process_key", text, false, true,
     "the process instance: boot id, pid and start ticks (BOOT-PID-TICKS)"},
    {Column::pid, "pid", integer, false, true, "process id; reused by the system, process_key is not"},
    {Column::ppid, "ppid", integer, false, true, "process id of the parent"},
    {Column::parent_key, "parent_key", text, false, true, "process_key of the parent"},
    {Column::name, "name", text, false, true,
     "base name of the executed file, a script's own; comm of a kernel thread"},
    {Column::comm, "comm", text, false, true, "kernel task name, at most 15 bytes; the process can change it"},
    {Column::executable_path, "executable_path", text, false, true, "absolute path of the executed file"},
    {Column::command_line, "command_line", text, false, true,
     "arguments joined by one space, nothing quoted, secrets masked"},
    {Column::arguments, "arguments", text, false, true, "JSON list of the arguments, secrets masked"},
    {Column::cwd, "cwd", text, false, true, "working directory"},
    {Column::uid, "uid", integer, false, true, "real user id"},
    {Column::gid, "gid", integer, false, true, "real group id"},
    {Column::euid, "euid", integer, false, true, "effective user id"},
    {Column::loginuid, "loginuid", integer, false, true, "user id of the login it descends from; NULL when none"},
    {Column::user, "user", text, false, true, "name of uid"},
    {Column::session_id, "session_id", integer, false, true, "process id of the session leader"},
    {Column::tty, "tty", text, false, true, "controlling terminal, as pts/0; NULL when none"},
    {Column::start_time, "start_time", integer, true, true, "when it started (Unix nanoseconds, UTC)"},
    {Column::exit_time, "exit_time", integer, true, true, "when it ended (Unix nanoseconds, UTC); NULL while it lives"},
    {Column::exit_code, "exit_code", integer, false, true,
     "code it exited with; NULL while it lives or when a signal ended it"},
    {Column::exit_signal, "exit_signal", integer, false, true, "number of the signal that ended it"},
    {Column::cpu_usage, "cpu_usage", real, false, true, "CPU since the last look (percent of one core)"},
    {Column::memory_usage, "memory_usage", integer, false, true, "resident memory (bytes)"},
    {Column::status, "status", text, false, true, "running, sleeping, stopped, zombie or exited"},
    {Column::executable_hash, "executable_hash", text, false, true,
     "SHA-256 of the executed file (64 hex digits); may come with a later change"},
    {Column::executable_state, "executable_state", text, false, true,
     "ok, deleted, replaced, memfd, unreadable or kernel"},
    {Column::cgroup, "cgroup", text, false, true, "control group path (version 2)"},
    {Column::container_id, "container_id", text, false, true, "container it runs in; NULL on the host"},
    {Column::collection_time, "collection_time", integer, true, true, "when it was looked at (Unix nanoseconds, UTC)"},
    {Column::scan_id, "scan_id", integer, false, true, "scan that found it, as in scans"},
    {Column::parent_name, "parent_name", text, false, false, "name of the parent at that moment"},
    {Column::parent_executable_path, "parent_executable_path", text, false, false,
     "executable_path of the parent at that moment"},
    {Column::parent_command_line, "parent_command_line", text, false, false,
     "command_line of the parent at that moment"},
}};

static_assert([] {
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (static_cast<std::size_t>(table[i].column) != i) return false;
  }
  return true;
}());

struct ByName {
  std::array<const ColumnInfo*, column_count> sorted;
  ByName() {
    std::transform(table.begin(), table.end(), sorted.begin(), [](const ColumnInfo& column) { return &column; });
    std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
  }
};

Value text_value(const std::optional<std::string>& text) { return text ? Value(*text) : Value(); }

template <class T>
Value integer_value(const std::optional<T>& number) {
  return number ? Value(static_cast<std::int64_t>(*number)) : Value();
}

Value time_value(const std::optional<Timestamp>& time) { return time ? Value(time->ns) : Value(); }

// The columns of a process; never asked of a gap.
Value process_value(const ProcessInfo& process, Column column) {
  switch (column) {
    case Column::process_key: return to_string(process.key);
    case Column::pid: return static_cast<std::int64_t>(process.key.pid);
    case Column::ppid: return integer_value(process.ppid);
    case Column::parent_key: return process.parent_key ? Value(to_string(*process.parent_key)) : Value();
    case Column::name: return process.name.empty() ? Value() : Value(process.name);
    case Column::comm: return text_value(process.comm);
    case Column::executable_path: return text_value(process.executable_path);
    case Column::command_line: return process.arguments ? Value(process.arguments->command_line()) : Value();
    case Column::arguments: return process.arguments ? Value(process.arguments->json()) : Value();
    case Column::cwd: return text_value(process.cwd);
    case Column::uid: return integer_value(process.uid);
    case Column::gid: return integer_value(process.gid);
    case Column::euid: return integer_value(process.euid);
    case Column::loginuid: return integer_value(process.loginuid);
    case Column::user: return text_value(process.user);
    case Column::session_id: return integer_value(process.session_id);
    case Column::tty: return text_value(process.tty);
    case Column::start_time: return time_value(process.start_time);
    case Column::exit_time: return time_value(process.exit_time);
    case Column::exit_code: return integer_value(process.exit_code);
    case Column::exit_signal: return integer_value(process.exit_signal);
    case Column::cpu_usage: return process.cpu_usage ? Value(*process.cpu_usage) : Value();
    case Column::memory_usage: return integer_value(process.memory_usage);
    case Column::status: return std::string(to_string(process.status));
    case Column::executable_hash: return text_value(process.executable_hash);
    case Column::executable_state:
      return process.executable_state ? Value(std::string(to_string(*process.executable_state))) : Value();
    case Column::cgroup: return text_value(process.cgroup);
    case Column::container_id: return text_value(process.container_id);
    case Column::scan_id: return integer_value(process.scan_id);
    default: return {};
  }
}

}  // namespace

std::span<const ColumnInfo, column_count> columns() { return table; }

const ColumnInfo& info(Column column) { return table[static_cast<std::size_t>(column)]; }

std::optional<Column> find_column(std::string_view name) {
  static const ByName by_name;
  const auto& sorted = by_name.sorted;
  const auto found =
      std::lower_bound(sorted.begin(), sorted.end(), name,
                       [](const ColumnInfo* column, std::string_view wanted) { return column->name < wanted; });
  if (found == sorted.end() || (*found)->name != name) return std::nullopt;
  return (*found)->column;
}

Value column_value(const ProcessEvent& event, EventId event_id, Column column) {
  switch (column) {
    case Column::event_id: return event_id;
    case Column::time: return event.time.ns;
    case Column::kind: return std::string(to_string(event.kind));
    case Column::source: return std::string(to_string(event.source));
    case Column::detail: return event.detail.empty() ? Value() : Value(event.detail);
    case Column::collection_time: return event.process.collection_time.ns;
    default: break;
  }
  if (event.kind == EventKind::gap) return {};
  switch (column) {
    case Column::parent_name: return text_value(event.parent_name);
    case Column::parent_executable_path: return text_value(event.parent_executable_path);
    case Column::parent_command_line: return text_value(event.parent_command_line);
    default: return process_value(event.process, column);
  }
}

}  // namespace daemoneye::event
