// Lines for people. Whatever a process calls itself, nothing here moves a cursor or begins a line.
#include "base/text.h"

#include "alert/formats/formats.h"

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

std::string parent_line(const Json& parent) {
  return process_line(column_text(parent, "pid"), column_text(parent, "name"), column_text(parent, "executable_path"),
                      column_text(parent, "command_line"));
}

}  // namespace

std::string format_text(const store::Alert& alert, bool colour) {
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
  line("parent", parent_line(lineage_of(alert).parent));
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

}  // namespace daemoneye::alert
