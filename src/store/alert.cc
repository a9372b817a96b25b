#include "store/alert.h"

#include <nlohmann/json.hpp>

#include "base/text.h"

namespace daemoneye::store {
namespace {

using Json = nlohmann::ordered_json;

// What cannot be parsed is shown as the text it is.
Json embedded(const std::string& json) {
  auto parsed = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  return parsed.is_discarded() ? Json(base::to_valid_utf8(json)) : parsed;
}

Json optional_text(const std::optional<std::string>& text) {
  return text ? Json(base::to_valid_utf8(*text)) : Json(nullptr);
}

}  // namespace

std::string_view to_string(Severity severity) {
  switch (severity) {
    case Severity::low: return "low";
    case Severity::medium: return "medium";
    case Severity::high: return "high";
    case Severity::critical: return "critical";
  }
  return "unknown";
}

std::optional<Severity> parse_severity(std::string_view text) {
  for (const auto severity : {Severity::low, Severity::medium, Severity::high, Severity::critical}) {
    if (to_string(severity) == text) return severity;
  }
  return std::nullopt;
}

std::string to_json(const Alert& alert) {
  Json json;
  json["alert_id"] = alert.alert_id;
  json["time"] = base::to_iso(alert.time);
  json["last_seen"] = base::to_iso(alert.last_seen);
  json["count"] = alert.count;
  json["rule_id"] = alert.rule_id;
  json["severity"] = to_string(alert.severity);
  json["title"] = base::to_valid_utf8(alert.title);
  json["description"] = base::to_valid_utf8(alert.description);
  json["status"] = alert.status;
  json["tags"] = Json::array();
  for (const auto& tag : alert.tags) json["tags"].push_back(base::to_valid_utf8(tag));
  json["process_key"] = optional_text(alert.process_key);
  json["pid"] = alert.pid ? Json(*alert.pid) : Json(nullptr);
  json["name"] = optional_text(alert.name);
  json["executable_path"] = optional_text(alert.executable_path);
  json["command_line"] = optional_text(alert.command_line);
  json["row"] = alert.row_json.empty() ? Json::object() : embedded(alert.row_json);
  if (!alert.process_json.empty()) {
    const auto lineage = embedded(alert.process_json);
    for (const char* key : {"process", "ancestors"}) {
      if (lineage.is_object() && lineage.contains(key)) json[key] = lineage[key];
    }
  }
  json["evidence"] = alert.evidence;
  json["correlation_id"] = alert.correlation_id;
  json["completeness"] = embedded(event::to_json(alert.completeness));
  json["host"] = base::to_valid_utf8(alert.host);
  json["agent_version"] = alert.agent_version;
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace daemoneye::store
