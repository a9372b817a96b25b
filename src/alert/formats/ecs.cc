// Elastic Common Schema 8.4 (https://www.elastic.co/guide/en/ecs/8.4/). What it has no field for is below `daemoneye`,
// a name of our own as ECS wants it for custom fields.
#include "alert/formats/formats.h"
#include "base/text.h"

namespace daemoneye::alert {
namespace {

using Json = nlohmann::json;

// The scale of Elastic's own rules, so that sorting by severity mixes well with them.
int ecs_severity(store::Severity severity) {
  switch (severity) {
    case store::Severity::low: return 21;
    case store::Severity::medium: return 47;
    case store::Severity::high: return 73;
    case store::Severity::critical: return 99;
  }
  return 0;
}

void put(Json& into, const char* key, const std::string& text) {
  if (!text.empty()) into[key] = base::to_valid_utf8(text);
}

// Arguments are a JSON list, as text in a row.
void put_arguments(Json& into, const Json& row) {
  const auto found = row.find("arguments");
  if (found == row.end()) return;
  const Json list = found->is_string() ? parsed(found->get<std::string>()) : *found;
  if (!list.is_array() || list.empty()) return;
  into["args"] = Json::array();
  for (const auto& argument : list) {
    if (argument.is_string()) into["args"].push_back(argument);
  }
  into["args_count"] = into["args"].size();
}

Json process_fields(const Json& row) {
  Json process = Json::object();
  put(process, "entity_id", column_text(row, "process_key"));
  if (const auto pid = column_integer(row, "pid")) process["pid"] = *pid;
  put(process, "name", column_text(row, "name"));
  put(process, "executable", column_text(row, "executable_path"));
  put(process, "command_line", column_text(row, "command_line"));
  put(process, "working_directory", column_text(row, "cwd"));
  put_arguments(process, row);
  if (const auto hash = column_text(row, "executable_hash"); !hash.empty()) process["hash"]["sha256"] = hash;
  const auto start = row.find("start_time");
  if (start != row.end() && start->is_string()) process["start"] = *start;
  if (const auto uid = column_text(row, "uid"); !uid.empty()) process["user"]["id"] = uid;
  if (const auto user = column_text(row, "user"); !user.empty()) process["user"]["name"] = base::to_valid_utf8(user);
  return process;
}

}  // namespace

std::string format_ecs(const store::Alert& alert) {
  const Lineage lineage = lineage_of(alert);
  Json json;
  json["@timestamp"] = base::to_iso(alert.time);
  json["ecs"]["version"] = "8.4.0";
  json["message"] = base::to_valid_utf8(alert.title);

  if (!alert.tags.empty()) json["tags"] = alert.tags;

  Json& event = json["event"];
  event["kind"] = "alert";
  event["category"] = {"process"};
  event["type"] = {"info"};
  event["module"] = "daemoneye";
  event["dataset"] = "daemoneye.alert";
  event["provider"] = "daemoneye";
  event["id"] = alert.alert_id;
  event["severity"] = ecs_severity(alert.severity);
  event["start"] = base::to_iso(alert.time);
  event["end"] = base::to_iso(alert.last_seen);

  Json& rule = json["rule"];
  rule["id"] = base::to_valid_utf8(alert.rule_id);
  rule["name"] = base::to_valid_utf8(alert.title);
  put(rule, "description", alert.description);

  json["host"]["name"] = json["host"]["hostname"] = base::to_valid_utf8(alert.host);
  json["agent"]["type"] = "daemoneye";
  json["agent"]["version"] = alert.agent_version;
  json["related"]["hosts"] = {base::to_valid_utf8(alert.host)};

  Json process = process_fields(lineage.process);
  // The alert's own columns are what the rule selected: they go before the process as it was seen.
  put(process, "entity_id", alert.process_key.value_or(""));
  if (alert.pid) process["pid"] = *alert.pid;
  put(process, "name", alert.name.value_or(""));
  put(process, "executable", alert.executable_path.value_or(""));
  put(process, "command_line", alert.command_line.value_or(""));
  if (Json parent = process_fields(lineage.parent); !parent.empty()) process["parent"] = std::move(parent);
  if (process.contains("hash")) json["related"]["hash"] = {process["hash"]["sha256"]};
  if (process.contains("user") && process["user"].contains("name")) {
    json["user"] = process["user"];
    json["related"]["user"] = {process["user"]["name"]};
  }
  if (!process.empty()) json["process"] = std::move(process);

  Json& own = json["daemoneye"]["alert"];
  own["severity"] = store::to_string(alert.severity);
  own["status"] = alert.status;
  own["count"] = alert.count;
  own["evidence"] = alert.evidence;
  own["correlation_id"] = alert.correlation_id;
  own["completeness"] = parsed(event::to_json(alert.completeness));
  // As text: rules select what they like, and a mapping for each column of each rule would not end.
  own["row"] = base::to_valid_utf8(alert.row_json);
  return dump_line(json);
}

}  // namespace daemoneye::alert
