// ArcSight Common Event Format, version 0 (Implementing ArcSight CEF, revision 25): keys, types and lengths are those
// of its dictionary (tests/data/formats/cef_fields.json).
#include "alert/formats/formats.h"
#include "base/text.h"

namespace daemoneye::alert {
namespace {

int cef_severity(store::Severity severity) {
  switch (severity) {
    case store::Severity::low: return 3;
    case store::Severity::medium: return 6;
    case store::Severity::high: return 8;
    case store::Severity::critical: return 10;
  }
  return 0;
}

// Control characters but line ends made visible, then bounded.
std::string plain(std::string_view text, std::size_t max_bytes) {
  std::string out;
  while (!text.empty()) {
    const auto end = text.find_first_of("\r\n");
    out += base::printable(text.substr(0, end));
    if (end == std::string_view::npos) break;
    if (text.substr(end).starts_with("\r\n")) text.remove_prefix(1);
    out += '\n';
    text.remove_prefix(end + 1);
    if (out.size() > max_bytes) break;
  }
  return shortened(out, max_bytes);
}

// Backslash and what the place ends at get a backslash; a header holds no line end, an extension an escaped one.
std::string escaped(std::string_view text, char end, std::string_view line_end) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += line_end;
      continue;
    }
    if (c == '\\' || c == end) out += '\\';
    out += c;
  }
  return out;
}

class Extension {
 public:
  void text(std::string_view key, std::string_view value, std::size_t max_bytes) {
    if (value.empty()) return;
    if (!out_.empty()) out_ += ' ';
    out_ += key;
    out_ += '=';
    out_ += escaped(plain(value, max_bytes), '=', "\\n");
  }
  void number(std::string_view key, std::int64_t value) { text(key, std::to_string(value), 20); }
  // One of the six places for what the dictionary has no key for.
  void custom(int place, std::string_view label, std::string_view value) {
    if (value.empty()) return;
    const std::string key = "cs" + std::to_string(place);
    text(key + "Label", label, 1023);
    text(key, value, 4000);
  }
  [[nodiscard]] const std::string& get() const { return out_; }

 private:
  std::string out_;
};

}  // namespace

std::string format_cef(const store::Alert& alert) {
  constexpr std::size_t max_header_bytes = 512;  // of one field
  const Lineage lineage = lineage_of(alert);
  std::string out = "CEF:0|DaemonEye|DaemonEye|";
  for (const auto& field : {alert.agent_version, alert.rule_id, alert.title}) {
    out += escaped(plain(field, max_header_bytes), '|', " ");
    out += '|';
  }
  out += std::to_string(cef_severity(alert.severity)) + '|';

  Extension extension;
  extension.number("rt", alert.time.ns / 1'000'000);
  extension.number("start", alert.time.ns / 1'000'000);
  extension.number("end", alert.last_seen.ns / 1'000'000);
  extension.text("externalId", alert.alert_id, 40);
  extension.number("cnt", static_cast<std::int64_t>(alert.count));
  extension.text("cat", "process", 1023);
  extension.text("dvchost", alert.host, 100);
  extension.text("dhost", alert.host, 1023);
  if (alert.pid) extension.number("dpid", *alert.pid);
  extension.text("dproc", alert.name.value_or(column_text(lineage.process, "name")), 1023);
  extension.text("filePath", alert.executable_path.value_or(column_text(lineage.process, "executable_path")), 1023);
  extension.text("fileHash", column_text(lineage.process, "executable_hash"), 255);
  extension.text("duid", column_text(lineage.process, "uid"), 1023);
  extension.text("duser", column_text(lineage.process, "user"), 1023);
  if (const auto parent = column_integer(lineage.parent, "pid")) extension.number("spid", *parent);
  extension.text("sproc", column_text(lineage.parent, "name"), 1023);
  extension.text("msg", alert.description.empty() ? alert.title : alert.description, 1023);
  extension.custom(1, "commandLine", alert.command_line.value_or(column_text(lineage.process, "command_line")));
  extension.custom(2, "processKey", alert.process_key.value_or(""));
  extension.custom(3, "parentCommandLine", column_text(lineage.parent, "command_line"));
  extension.custom(4, "correlationId", alert.correlation_id);
  extension.custom(5, "completeness", event::to_json(alert.completeness));
  extension.custom(6, "row", alert.row_json);
  return out + extension.get();
}

}  // namespace daemoneye::alert
