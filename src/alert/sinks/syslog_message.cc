#include "alert/sinks/syslog_message.h"

#include <algorithm>

#include "alert/formats/formats.h"
#include "base/text.h"

namespace daemoneye::alert {
namespace {

constexpr std::string_view bom = "\xef\xbb\xbf", cut_mark = "…";

int syslog_severity(store::Severity severity) {
  switch (severity) {
    case store::Severity::low: return 5;       // notice
    case store::Severity::medium: return 4;    // warning
    case store::Severity::high: return 3;      // error
    case store::Severity::critical: return 2;  // critical
  }
  return 6;
}

// A field of the header: printable ASCII without spaces, bounded, "-" when there is nothing to say.
std::string header_field(std::string_view text, std::size_t max_bytes) {
  std::string out(text.substr(0, max_bytes));
  for (char& c : out) {
    if (c < 33 || c > 126) c = '_';
  }
  return out.empty() ? "-" : out;
}

// Six digits of a fraction at most.
std::string timestamp(Timestamp time) {
  std::string text = base::to_iso(time);
  if (const auto dot = text.find('.'); dot != std::string::npos && text.size() > dot + 7) text.erase(dot + 7);
  if (!text.ends_with('Z')) text += 'Z';
  return text;
}

class Element {
 public:
  explicit Element(const std::string& id) : out_('[' + id) {}
  void add(std::string_view name, std::string_view value, std::size_t max_bytes = 128) {
    if (value.empty()) return;
    out_ += ' ';
    out_ += name;
    out_ += "=\"";
    for (const char c : shortened(base::printable(value.substr(0, max_bytes)), max_bytes)) {
      if (c == '"' || c == '\\' || c == ']') out_ += '\\';
      out_ += c;
    }
    out_ += '"';
  }
  [[nodiscard]] std::string end() && { return std::move(out_) + ']'; }

 private:
  std::string out_;
};

std::string structured_data(const store::Alert& alert, const SyslogStyle& style, std::optional<std::size_t> cut_from) {
  Element origin("origin");
  origin.add("software", "DaemonEye");
  origin.add("swVersion", alert.agent_version, 32);
  Element own("daemoneye@" + std::to_string(style.enterprise_id));
  own.add("alertId", alert.alert_id, 64);
  own.add("ruleId", alert.rule_id);
  own.add("severity", store::to_string(alert.severity));
  own.add("count", std::to_string(alert.count));
  own.add("status", alert.status, 32);
  own.add("processKey", alert.process_key.value_or(""));
  if (alert.pid) own.add("pid", std::to_string(*alert.pid));
  own.add("name", alert.name.value_or(""), 64);
  own.add("executablePath", alert.executable_path.value_or(""), 192);
  own.add("completeness", alert.completeness.complete() ? "complete" : "degraded");
  if (cut_from) own.add("cutFrom", std::to_string(*cut_from));
  return std::move(origin).end() + std::move(own).end();
}

// What people read on several lines is one here: a relay may end a message at a line end.
std::string one_line(std::string_view text) {
  std::string out;
  std::string_view rest = text;
  while (!rest.empty()) {
    const auto end = rest.find('\n');
    const auto line = base::trim(rest.substr(0, end));
    if (!line.empty()) out += (out.empty() ? "" : " | ") + std::string(line);
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  return base::to_valid_utf8(out);
}

}  // namespace

const std::vector<std::string>& syslog_facilities() {
  static const std::vector<std::string> names = {"kern",   "user",     "mail",    "daemon",       "auth",     "syslog",
                                                 "lpr",    "news",     "uucp",    "cron",         "authpriv", "ftp",
                                                 "ntp",    "security", "console", "solaris-cron", "local0",   "local1",
                                                 "local2", "local3",   "local4",  "local5",       "local6",   "local7"};
  return names;
}

std::optional<unsigned> syslog_facility(std::string_view name) {
  const auto& names = syslog_facilities();
  const auto found = std::ranges::find(names, name);
  if (found == names.end()) return std::nullopt;
  return static_cast<unsigned>(found - names.begin());
}

std::string syslog_message(const store::Alert& alert, std::string_view text, const SyslogStyle& style,
                           std::optional<std::size_t> max_bytes) {
  const unsigned priority = style.facility * 8 + static_cast<unsigned>(syslog_severity(alert.severity));
  const std::string head = '<' + std::to_string(priority) + ">1 " + timestamp(alert.time) + ' ' +
                           header_field(alert.host, 255) + ' ' + header_field(style.app_name, 48) + ' ' +
                           header_field(style.process_id, 128) + ' ' + header_field(alert.rule_id, 32) + ' ';
  const std::string message = one_line(text);
  const std::string mark(style.bom ? bom : "");
  std::string whole = head + structured_data(alert, style, {}) + ' ' + mark + message;
  if (!max_bytes || whole.size() <= *max_bytes) return whole;
  whole = head + structured_data(alert, style, message.size()) + ' ' + mark;
  const std::size_t taken = whole.size() + cut_mark.size();
  const std::size_t room = *max_bytes > taken ? *max_bytes - taken : 0;
  return whole + shortened(message, room) + std::string(cut_mark);
}

}  // namespace daemoneye::alert
