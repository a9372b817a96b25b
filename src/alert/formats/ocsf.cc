// Open Cybersecurity Schema Framework 1.3.0, class Detection Finding (https://schema.ocsf.io/1.3.0/), with the host
// profile.
#include "alert/formats/formats.h"
#include "base/text.h"

namespace daemoneye::alert {
namespace {

using Json = nlohmann::json;

constexpr int category_findings = 2;
constexpr int class_detection_finding = 2004;
constexpr int activity_create = 1, activity_update = 2;

int severity_id(store::Severity severity) {
  switch (severity) {
    case store::Severity::low: return 2;
    case store::Severity::medium: return 3;
    case store::Severity::high: return 4;
    case store::Severity::critical: return 5;
  }
  return 99;
}

std::string caption(std::string_view word) {
  std::string text(word);
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 'a' + 'A');
  return text;
}

std::pair<int, const char*> status_of(const std::string& status) {
  if (status == "acknowledged") return {2, "In Progress"};
  if (status == "closed") return {4, "Resolved"};
  return {1, "New"};
}

// OCSF's times are milliseconds.
std::int64_t milliseconds(Timestamp time) { return time.ns / 1'000'000; }

void put(Json& into, const char* key, const std::string& text) {
  if (!text.empty()) into[key] = base::to_valid_utf8(text);
}

Json process_object(const Json& row) {
  Json process = Json::object();
  put(process, "uid", column_text(row, "process_key"));
  if (const auto pid = column_integer(row, "pid")) process["pid"] = *pid;
  put(process, "name", column_text(row, "name"));
  put(process, "cmd_line", column_text(row, "command_line"));
  if (const auto path = column_text(row, "executable_path"); !path.empty()) {
    Json& file = process["file"];
    file["path"] = base::to_valid_utf8(path);
    file["name"] = base::to_valid_utf8(path.substr(path.rfind('/') + 1));
    file["type_id"] = 1;  // a regular file
    if (const auto hash = column_text(row, "executable_hash"); !hash.empty()) {
      file["hashes"] = Json::array({{{"algorithm_id", 3}, {"algorithm", "SHA-256"}, {"value", hash}}});
    }
  }
  Json user = Json::object();
  put(user, "uid", column_text(row, "uid"));
  put(user, "name", column_text(row, "user"));
  if (!user.empty()) process["user"] = std::move(user);
  if (const auto started = base::parse_iso(column_text(row, "start_time"))) {
    process["created_time"] = milliseconds(*started);
  }
  return process;
}

}  // namespace

std::string format_ocsf(const store::Alert& alert) {
  const int activity = alert.count > 1 ? activity_update : activity_create;
  Json json;
  json["category_uid"] = category_findings;
  json["category_name"] = "Findings";
  json["class_uid"] = class_detection_finding;
  json["class_name"] = "Detection Finding";
  json["activity_id"] = activity;
  json["activity_name"] = activity == activity_create ? "Create" : "Update";
  json["type_uid"] = class_detection_finding * 100 + activity;
  json["type_name"] = std::string("Detection Finding: ") + (activity == activity_create ? "Create" : "Update");
  json["time"] = milliseconds(alert.time);
  json["start_time"] = milliseconds(alert.time);
  json["end_time"] = milliseconds(alert.last_seen);
  json["severity_id"] = severity_id(alert.severity);
  json["severity"] = caption(store::to_string(alert.severity));
  const auto [status_id, status] = status_of(alert.status);
  json["status_id"] = status_id;
  json["status"] = status;
  json["message"] = base::to_valid_utf8(alert.title);
  json["count"] = alert.count;

  Json& metadata = json["metadata"];
  metadata["version"] = "1.3.0";
  metadata["uid"] = alert.alert_id;
  metadata["correlation_uid"] = alert.correlation_id;
  metadata["profiles"] = {"host"};
  metadata["product"] = {{"name", "DaemonEye"}, {"vendor_name", "DaemonEye"}, {"version", alert.agent_version}};
  if (alert.correlation_id.empty()) metadata.erase("correlation_uid");
  if (!alert.tags.empty()) metadata["labels"] = alert.tags;

  Json& finding = json["finding_info"];
  finding["uid"] = alert.alert_id;
  finding["title"] = base::to_valid_utf8(alert.title);
  put(finding, "desc", alert.description);
  finding["created_time"] = finding["first_seen_time"] = milliseconds(alert.time);
  finding["last_seen_time"] = milliseconds(alert.last_seen);
  finding["analytic"] = {{"uid", base::to_valid_utf8(alert.rule_id)},
                         {"name", base::to_valid_utf8(alert.title)},
                         {"type_id", 1},
                         {"type", "Rule"}};
  finding["data_sources"] = {"process_events"};

  Json& device = json["device"];
  device["hostname"] = base::to_valid_utf8(alert.host);
  device["type_id"] = 0;  // unknown: server or desktop is not for us to say
  device["type"] = "Unknown";

  const Lineage lineage = lineage_of(alert);
  Json process = process_object(lineage.process);
  put(process, "uid", alert.process_key.value_or(""));
  if (alert.pid) process["pid"] = *alert.pid;
  put(process, "name", alert.name.value_or(""));
  put(process, "cmd_line", alert.command_line.value_or(""));
  if (Json parent = process_object(lineage.parent); parent.contains("pid") || parent.contains("uid")) {
    process["parent_process"] = std::move(parent);
  }
  if (process.contains("pid") || process.contains("uid")) {
    json["evidences"] = Json::array({{{"process", std::move(process)}}});
  }

  Json& own = json["unmapped"];
  own["evidence"] = alert.evidence;
  own["completeness"] = parsed(event::to_json(alert.completeness));
  own["row"] = parsed(alert.row_json);
  return dump_line(json);
}

}  // namespace daemoneye::alert
