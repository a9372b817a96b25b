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

std::vector<CatalogColumn> event_columns(bool of_processes) {
  std::vector<CatalogColumn> columns;
  for (const auto& info : event::columns()) {
    if (of_processes && !info.in_processes) continue;
    columns.push_back(
        {std::string(info.name), std::string(type_name(info.type)), std::string(info.description), info.is_time});
  }
  return columns;
}

CatalogColumn integer(std::string name, std::string description) {
  return {std::move(name), "INTEGER", std::move(description), false};
}
CatalogColumn text(std::string name, std::string description) {
  return {std::move(name), "TEXT", std::move(description), false};
}
CatalogColumn time(std::string name, std::string description) {
  return {std::move(name), "INTEGER", std::move(description), true};
}

std::vector<CatalogTable> make_catalog() {
  std::vector<CatalogTable> tables;
  tables.push_back({"processes", "One row per process instance, live or ended within retention.", event_columns(true)});
  tables.push_back({"process_events", "What happened to processes, in order; append-only.", event_columns(false)});
  tables.push_back({"scans",
                    "Reconciliation scans of all processes.",
                    {integer("scan_id", "ascending within one start of the collector"), time("time", "when it began"),
                     integer("duration_ms", "how long it took, milliseconds"),
                     text("source", "how processes were read: bpf_iter or procfs"),
                     integer("processes", "processes found"), integer("errors", "processes that could not be read"),
                     integer("lost_events", "real-time events lost since the scan before")}});
  tables.push_back(
      {"detection_rules",
       "The rules as loaded.",
       {text("rule_id", "the rule's id"), text("title", "its title"), text("severity", "low, medium, high or critical"),
        text("status", "draft, active, disabled or archived"), text("state", "healthy, unhealthy, slow or suspended"),
        text("reason", "why it is not healthy"), text("sql", "its statement"), text("file", "where it was read from"),
        text("version", "digest of the file, 12 hexadecimal digits"), time("loaded_at", "when it was loaded")}});
  tables.push_back({"alerts",
                    "What the rules found.",
                    {text("alert_id", "unique and stable"),
                     time("time", "when it was raised"),
                     time("last_seen", "the newest match that was counted on it"),
                     integer("count", "matches counted on it"),
                     text("rule_id", "the rule that raised it"),
                     text("severity", "low, medium, high or critical"),
                     text("title", "the rule's title"),
                     text("description", "the rule's description"),
                     text("status", "open, acknowledged or closed"),
                     text("process_key", "the process concerned"),
                     integer("pid", "its process id"),
                     text("name", "its name"),
                     text("executable_path", "its executable"),
                     text("command_line", "its arguments joined by one space"),
                     text("row", "the matched row, a JSON object"),
                     text("evidence", "event ids, a JSON list"),
                     text("correlation_id", "shared by alerts that belong together"),
                     text("completeness", "what was missing when it was raised, a JSON object"),
                     text("host", "the machine"),
                     text("agent_version", "the agent that raised it")}});
  tables.push_back(
      {"alert_deliveries",
       "Every attempt to hand an alert to a sink.",
       {integer("delivery_id", "ascending"), text("alert_id", "the alert"), text("sink", "the sink's name"),
        integer("attempt", "from 1"), time("time", "when it was tried"),
        integer("duration_ms", "how long it took, milliseconds"), text("outcome", "delivered, failed or dead_letter"),
        text("error", "why it failed"), integer("response_code", "the sink's answer, where it has a number")}});
  tables.push_back(
      {"audit_ledger",
       "The collector's tamper-evident record.",
       {integer("seq", "from 0, without holes"), time("time", "when it was written"), text("actor", "who did it"),
        text("action", "what was done"), text("payload", "the particulars, a JSON object"),
        text("payload_digest", "SHA-256 of the payload, hexadecimal"),
        text("previous_hash", "entry_hash of the entry before"),
        text("entry_hash", "SHA-256 of this entry's leaf, hexadecimal")}});
  return tables;
}

CatalogColumn any(std::string name, std::string description) {
  return {std::move(name), "", std::move(description), false};
}

std::vector<TableFunction> make_table_functions() {
  std::vector<TableFunction> list;
  for (const auto* const name : {"ancestors", "descendants"}) {
    const bool up = std::string_view(name) == "ancestors";
    CatalogTable table{name,
                       up ? "The ancestors of a process, nearest first: ancestors(process_key)."
                          : "The descendants of a process: descendants(process_key).",
                       event_columns(true)};
    table.columns.push_back(integer("depth", up ? "1 is the parent" : "1 is a child"));
    list.push_back({std::move(table), 1, 1});
  }
  for (const auto* const name : {"json_each", "json_tree"}) {
    CatalogTable table{name,
                       "The elements of a JSON value: " + std::string(name) + "(json[, path]).",
                       {any("key", "its key or index"), any("value", "its value"), text("type", "its JSON type"),
                        any("atom", "its SQL value when it is simple"), integer("id", "its number"),
                        integer("parent", "its container's number"), text("fullkey", "the path to it"),
                        text("path", "the path to its container")}};
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
