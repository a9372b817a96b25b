#include <nlohmann/json.hpp>

#include "alert/sink.h"
#include "base/text.h"

namespace daemoneye::alert {
namespace {

using Json = nlohmann::json;

// A terminal line stays readable; the whole text is in the JSON form and in the store.
constexpr std::size_t max_shown_bytes = 2048;

std::string shown(std::string_view text) {
  if (text.size() <= max_shown_bytes) return base::printable(text);
  return base::printable(text.substr(0, max_shown_bytes)) + "…";
}

std::string_view colour_of(store::Severity severity) {
  switch (severity) {
    case store::Severity::low: return "\x1b[36m";
    case store::Severity::medium: return "\x1b[33m";
    case store::Severity::high: return "\x1b[31m";
    case store::Severity::critical: return "\x1b[1;97;41m";
  }
  return "";
}

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number_integer()) return std::to_string(found->get<std::int64_t>());
  return {};
}

// "pid 12  /usr/bin/bash  bash -i", with what is known.
std::string process_line(const std::string& pid, const std::string& name, const std::string& path,
                         const std::string& command_line) {
  std::string out;
  const auto add = [&](std::string_view part) {
    if (part.empty()) return;
    if (!out.empty()) out += "  ";
    out += shown(part);
  };
  if (!pid.empty()) add("pid " + pid);
  add(path.empty() ? name : path);
  add(command_line);
  return out;
}

// From the nearest ancestor; when it is not known any more, from what the event itself says of its parent.
std::string parent_line(const Json& details) {
  if (!details.is_object()) return {};
  if (const auto found = details.find("ancestors"); found != details.end() && found->is_array() && !found->empty()) {
    const Json& nearest = found->front();
    if (nearest.is_object()) {
      return process_line(text_of(nearest, "pid"), text_of(nearest, "name"), text_of(nearest, "executable_path"),
                          text_of(nearest, "command_line"));
    }
  }
  const auto process = details.find("process");
  if (process == details.end() || !process->is_object()) return {};
  return process_line(text_of(*process, "ppid"), text_of(*process, "parent_name"),
                      text_of(*process, "parent_executable_path"), text_of(*process, "parent_command_line"));
}

std::string as_text(const store::Alert& alert, bool colour) {
  std::string severity(store::to_string(alert.severity));
  for (char& c : severity) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  std::string out = base::to_iso(alert.time) + "  ";
  if (colour) out += colour_of(alert.severity);
  out += severity;
  if (colour) out += "\x1b[0m";
  out += "  " + shown(alert.title) + "  [" + shown(alert.rule_id) + "]";

  const auto line = [&](std::string_view label, const std::string& value) {
    if (value.empty()) return;
    out += "\n    ";
    out += label;
    out.append(label.size() < 10 ? 10 - label.size() : 1, ' ');
    out += value;
  };
  line("process", process_line(alert.pid ? std::to_string(*alert.pid) : "", alert.name.value_or(""),
                               alert.executable_path.value_or(""), alert.command_line.value_or("")));
  line("parent", parent_line(Json::parse(alert.process_json, nullptr, /*allow_exceptions=*/false)));
  std::string origin = "host " + shown(alert.host) + "  evidence";
  for (const auto id : alert.evidence) origin += " " + std::to_string(id);
  origin += "  alert " + shown(alert.alert_id);
  if (alert.count > 1) origin += "  seen " + std::to_string(alert.count) + " times";
  line("where", origin);
  if (!alert.completeness.complete()) {
    std::string reasons;
    for (const auto& reason : alert.completeness.reasons) {
      if (!reasons.empty()) reasons += ", ";
      reasons += shown(reason.reason);
    }
    line("degraded", reasons);
  }
  return out;
}

}  // namespace

std::string format_alert(const store::Alert& alert, std::string_view format, bool colour) {
  return format == "text" ? as_text(alert, colour) : store::to_json(alert);
}

}  // namespace daemoneye::alert
