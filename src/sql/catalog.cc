#include "sql/catalog.h"

#include "event/columns.h"

namespace daemoneye::sql {
namespace {

std::string_view type_name(event::ColumnType type) {
  switch (type) {
    case event::ColumnType::integer: return "INTEGER";
    case event::ColumnType::real: return "REAL";
    case event::ColumnType::text: return "TEXT";
  }
  return "TEXT";
}

constexpr std::string_view time_unit = "nanoseconds since 1970, UTC";

std::string_view unit_of(event::Column column) {
  using enum event::Column;
  switch (column) {
    case event_id:
    case scan_id: return "number";
    case time:
    case start_time:
    case exit_time:
    case collection_time: return time_unit;
    case kind:
    case source:
    case status:
    case executable_state: return "word";
    case detail: return "JSON object";
    case arguments: return "JSON list";
    case process_key:
    case parent_key: return "process key";
    case pid:
    case ppid:
    case session_id: return "process id";
    case uid:
    case euid:
    case loginuid: return "user id";
    case gid: return "group id";
    case name:
    case parent_name:
    case comm:
    case user:
    case tty:
    case container_id: return "name";
    case executable_path:
    case parent_executable_path:
    case cwd:
    case cgroup: return "path";
    case command_line:
    case parent_command_line: return "text";
    case exit_code: return "exit code, 0 to 255";
    case exit_signal: return "signal number";
    case cpu_usage: return "percent of one core";
    case memory_usage: return "bytes";
    case executable_hash: return "SHA-256, hexadecimal";
  }
  return "";
}

std::vector<CatalogColumn> event_columns(bool of_processes) {
  std::vector<CatalogColumn> columns;
  for (const auto& info : event::columns()) {
    if (of_processes && !info.in_processes) continue;
    columns.push_back({std::string(info.name), std::string(type_name(info.type)), std::string(info.description),
                       info.is_time, std::string(unit_of(info.column))});
  }
  return columns;
}

CatalogColumn integer(std::string name, std::string unit, std::string description) {
  return {std::move(name), "INTEGER", std::move(description), false, std::move(unit)};
}
CatalogColumn text(std::string name, std::string unit, std::string description) {
  return {std::move(name), "TEXT", std::move(description), false, std::move(unit)};
}
CatalogColumn time(std::string name, std::string description) {
  return {std::move(name), "INTEGER", std::move(description), true, std::string(time_unit)};
}

std::vector<CatalogTable> make_catalog() {
  std::vector<CatalogTable> tables;
  tables.push_back({"processes", "One row per process instance, live or ended within retention.", event_columns(true)});
  tables.push_back({"process_events", "What happened to processes, in order; append-only.", event_columns(false)});
  tables.push_back({"scans",
                    "Reconciliation scans of all processes.",
                    {integer("scan_id", "number", "ascending within one start of the collector"),
                     time("time", "when it began"), integer("duration_ms", "milliseconds", "how long it took"),
                     text("source", "word", "how processes were read: bpf_iter or procfs"),
                     integer("processes", "processes", "processes found"),
                     integer("errors", "processes", "processes that could not be read"),
                     integer("lost_events", "events", "real-time events lost since the scan before")}});
  tables.push_back(
      {"detection_rules",
       "The rules as loaded.",
       {text("rule_id", "id", "the rule's id"), text("title", "text", "its title"),
        text("severity", "word", "low, medium, high or critical"),
        text("status", "word", "draft, active, disabled or archived"),
        text("state", "word", "healthy, unhealthy, slow or suspended"), text("reason", "text", "why it is not healthy"),
        text("sql", "SQL", "its statement"), text("file", "path", "where it was read from"),
        text("version", "SHA-256, 12 hexadecimal digits", "digest of the file, 12 hexadecimal digits"),
        time("loaded_at", "when it was loaded")}});
  tables.push_back({"alerts",
                    "What the rules found.",
                    {text("alert_id", "id", "unique and stable"),
                     time("time", "when it was raised"),
                     time("last_seen", "the newest match that was counted on it"),
                     integer("count", "matches", "matches counted on it"),
                     text("rule_id", "id", "the rule that raised it"),
                     text("severity", "word", "low, medium, high or critical"),
                     text("title", "text", "the rule's title"),
                     text("description", "text", "the rule's description"),
                     text("status", "word", "open, acknowledged or closed"),
                     text("process_key", "process key", "the process concerned"),
                     integer("pid", "process id", "its process id"),
                     text("name", "name", "its name"),
                     text("executable_path", "path", "its executable"),
                     text("command_line", "text", "its arguments joined by one space"),
                     text("row", "JSON object", "the matched row, a JSON object"),
                     text("evidence", "JSON list of event ids", "event ids, a JSON list"),
                     text("correlation_id", "id", "shared by alerts that belong together"),
                     text("completeness", "JSON object", "what was missing when it was raised, a JSON object"),
                     text("host", "name", "the machine"),
                     text("agent_version", "version", "the agent that raised it"),
                     text("tags", "JSON list", "the rule's tags, a JSON list")}});
  tables.push_back(
      {"alert_deliveries",
       "Every attempt to hand an alert to a sink, and why none was made.",
       {integer("delivery_id", "number", "ascending"), text("alert_id", "id", "the alert"),
        text("sink", "name", "the sink's name; empty: no sink wanted it"),
        integer("attempt", "number", "from 1; 0 is a test of the sink, or none was made"),
        time("time", "when it was tried"), integer("duration_ms", "milliseconds", "how long it took"),
        text("outcome", "word", "delivered, failed, dead_letter or held"), text("error", "text", "why it failed"),
        integer("response_code", "number", "the sink's answer, where it has a number")}});
  tables.push_back({"audit_ledger",
                    "The collector's tamper-evident record.",
                    {integer("seq", "number", "from 0, without holes"), time("time", "when it was written"),
                     text("actor", "name", "who did it"), text("action", "word", "what was done"),
                     text("payload", "JSON object", "the particulars, a JSON object"),
                     text("payload_digest", "SHA-256, hexadecimal", "SHA-256 of the payload, hexadecimal"),
                     text("previous_hash", "SHA-256, hexadecimal", "entry_hash of the entry before"),
                     text("entry_hash", "SHA-256, hexadecimal", "SHA-256 of this entry's leaf, hexadecimal")}});
  return tables;
}

CatalogColumn any(std::string name, std::string unit, std::string description) {
  return {std::move(name), "", std::move(description), false, std::move(unit)};
}

std::vector<TableFunction> make_table_functions() {
  std::vector<TableFunction> list;
  for (const auto* const name : {"ancestors", "descendants"}) {
    const bool up = std::string_view(name) == "ancestors";
    CatalogTable table{name,
                       up ? "The ancestors of a process, nearest first: ancestors(process_key)."
                          : "The descendants of a process: descendants(process_key).",
                       event_columns(true)};
    table.columns.push_back(integer("depth", "steps", up ? "1 is the parent" : "1 is a child"));
    list.push_back({std::move(table), 1, 1});
  }
  for (const auto* const name : {"json_each", "json_tree"}) {
    CatalogTable table{
        name,
        "The elements of a JSON value: " + std::string(name) + "(json[, path]).",
        {any("key", "name or index", "its key or index"), any("value", "any", "its value"),
         text("type", "word", "its JSON type"), any("atom", "any", "its SQL value when it is simple"),
         integer("id", "number", "its number"), integer("parent", "number", "its container's number"),
         text("fullkey", "JSON path", "the path to it"), text("path", "JSON path", "the path to its container")}};
    list.push_back({std::move(table), 1, 2});
  }
  return list;
}

}  // namespace

const std::vector<CatalogTable>& catalog() {
  static const auto tables = make_catalog();
  return tables;
}

const std::vector<TableFunction>& table_functions() {
  static const auto list = make_table_functions();
  return list;
}

const CatalogTable* find_table(std::string_view name) {
  for (const auto& table : catalog()) {
    if (same_name(table.name, name)) return &table;
  }
  return nullptr;
}

const TableFunction* find_table_function(std::string_view name) {
  for (const auto& function : table_functions()) {
    if (same_name(function.table.name, name)) return &function;
  }
  return nullptr;
}

Type column_type(const CatalogColumn& column) {
  if (column.is_time) return Type::time;
  if (column.type == "INTEGER") return Type::integer;
  if (column.type == "REAL") return Type::real;
  if (column.type == "TEXT") return Type::text;
  return Type::unknown;
}

}  // namespace daemoneye::sql
