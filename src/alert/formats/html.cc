// One table for a mail program. Everything an alert holds is text in it, never markup.
#include "alert/formats/formats.h"
#include "base/text.h"

namespace daemoneye::alert {
namespace {

constexpr std::size_t max_cell_bytes = 4096;

std::string cell(std::string_view text) {
  std::string out;
  for (const char c : shortened(base::printable(text.substr(0, max_cell_bytes)), max_cell_bytes)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  if (text.size() > max_cell_bytes) out += "…";
  return out;
}

std::string_view colour_of(store::Severity severity) {
  switch (severity) {
    case store::Severity::low: return "#2b7a9b";
    case store::Severity::medium: return "#a66a00";
    case store::Severity::high: return "#c0392b";
    case store::Severity::critical: return "#8e0000";
  }
  return "#000000";
}

}  // namespace

std::string format_html(const store::Alert& alert) {
  const Lineage lineage = lineage_of(alert);
  const auto known = [&](const std::optional<std::string>& own, const char* column) {
    return own ? *own : column_text(lineage.process, column);
  };
  std::string out =
      "<div style=\"font-family:sans-serif\"><h2 style=\"color:" + std::string(colour_of(alert.severity)) + "\">" +
      cell(store::to_string(alert.severity)) + ": " + cell(alert.title) + "</h2>\n";
  if (!alert.description.empty()) out += "<p>" + cell(alert.description) + "</p>\n";
  out += "<table cellpadding=\"4\">\n";
  const auto row = [&](std::string_view label, std::string_view value) {
    if (value.empty()) return;
    out += "<tr><th align=\"left\" valign=\"top\">" + cell(label) + "</th><td><code>" + cell(value) +
           "</code></td></tr>\n";
  };
  row("Host", alert.host);
  row("Time", base::to_iso(alert.time));
  if (alert.count > 1) row("Seen", std::to_string(alert.count) + " times, last " + base::to_iso(alert.last_seen));
  row("Rule", alert.rule_id);
  if (alert.pid) row("Pid", std::to_string(*alert.pid));
  row("Process", known(alert.name, "name"));
  row("Executable", known(alert.executable_path, "executable_path"));
  row("Command line", known(alert.command_line, "command_line"));
  row("User", column_text(lineage.process, "user"));
  row("Parent", column_text(lineage.parent, "command_line"));
  row("Alert", alert.alert_id);
  if (!alert.completeness.complete()) row("Completeness", event::to_json(alert.completeness));
  return out + "</table></div>\n";
}

}  // namespace daemoneye::alert
