#include "store/alert.h"

#include "base/text.h"

namespace daemoneye::store {
namespace {

// JSON that we keep as text goes out as it is: parsing and printing it again costs more than all else of a delivery.
// This looks at its structure only, so that half a text, or one with a line end, is not taken for an object.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : rest_(text) {}

  // The object's members, name (as written, without quotes) and value; nothing when it is not one.
  std::optional<std::vector<std::pair<std::string_view, std::string_view>>> members() {
    std::vector<std::pair<std::string_view, std::string_view>> found;
    if (!take('{')) return std::nullopt;
    if (take('}')) return at_end(std::move(found));
    while (true) {
      const auto name = string();
      if (!name || !take(':')) return std::nullopt;
      const auto text = value();
      if (!text) return std::nullopt;
      found.emplace_back(name->substr(1, name->size() - 2), *text);
      if (take('}')) return at_end(std::move(found));
      if (!take(',')) return std::nullopt;
    }
  }

 private:
  template <class T>
  std::optional<T> at_end(T found) {
    skip_spaces();
    if (!rest_.empty()) return std::nullopt;
    return found;
  }
  void skip_spaces() {
    while (rest_.starts_with(' ')) rest_.remove_prefix(1);
  }
  bool take(char wanted) {
    skip_spaces();
    if (!rest_.starts_with(wanted)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  // Where the string that begins at `at` ends (behind its quote); npos when it does not.
  [[nodiscard]] std::size_t end_of_string(std::size_t at) const {
    for (++at; at < rest_.size(); ++at) {
      if (static_cast<unsigned char>(rest_[at]) < 0x20) return std::string_view::npos;
      if (rest_[at] == '\\')
        ++at;
      else if (rest_[at] == '"')
        return at + 1;
    }
    return std::string_view::npos;
  }
  std::optional<std::string_view> cut(std::size_t size) {
    if (size == std::string_view::npos || size == 0) return std::nullopt;
    const auto text = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return text;
  }
  std::optional<std::string_view> string() {
    skip_spaces();
    return rest_.starts_with('"') ? cut(end_of_string(0)) : std::nullopt;
  }
  std::optional<std::string_view> value() {
    skip_spaces();
    if (rest_.starts_with('"')) return cut(end_of_string(0));
    std::string closing;
    for (std::size_t at = 0; at < rest_.size();) {
      const char c = rest_[at];
      if (c == '"') {
        at = end_of_string(at);
        if (at == std::string_view::npos) return std::nullopt;
        continue;
      }
      if (static_cast<unsigned char>(c) < 0x20) return std::nullopt;
      if (c == '{' || c == '[') {
        closing += c == '{' ? '}' : ']';
      } else if (closing.empty() && (c == ',' || c == '}' || c == ']')) {
        return cut(at);
      } else if (c == '}' || c == ']') {
        if (closing.back() != c) return std::nullopt;
        closing.pop_back();
        if (closing.empty()) return cut(at + 1);
      }
      ++at;
    }
    return std::nullopt;
  }

  std::string_view rest_;
};

// What is no object is shown as the text it is.
std::string embedded(const std::string& json) { return Scanner(json).members() ? json : base::json_quote(json); }

std::string optional_text(const std::optional<std::string>& text) { return text ? base::json_quote(*text) : "null"; }

template <class List, class Write>
std::string list_of(const List& list, Write write) {
  std::string out = "[";
  for (const auto& item : list) {
    if (out.size() > 1) out += ',';
    out += write(item);
  }
  return out + ']';
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
  std::string json = "{";
  const auto add = [&](std::string_view key, std::string_view value) {
    json += json.size() > 1 ? ",\"" : "\"";
    json += key;
    json += "\":";
    json += value;
  };
  const auto number = [](auto value) { return std::to_string(value); };
  json.reserve(1024 + alert.row_json.size() + alert.process_json.size() + alert.description.size() +
               alert.command_line.value_or("").size());
  add("alert_id", base::json_quote(alert.alert_id));
  add("time", base::json_quote(base::to_iso(alert.time)));
  add("last_seen", base::json_quote(base::to_iso(alert.last_seen)));
  add("count", number(alert.count));
  add("rule_id", base::json_quote(alert.rule_id));
  add("severity", base::json_quote(to_string(alert.severity)));
  add("title", base::json_quote(alert.title));
  add("description", base::json_quote(alert.description));
  add("status", base::json_quote(alert.status));
  add("tags", list_of(alert.tags, [](const std::string& tag) { return base::json_quote(tag); }));
  add("process_key", optional_text(alert.process_key));
  add("pid", alert.pid ? number(*alert.pid) : "null");
  add("name", optional_text(alert.name));
  add("executable_path", optional_text(alert.executable_path));
  add("command_line", optional_text(alert.command_line));
  add("row", alert.row_json.empty() ? "{}" : embedded(alert.row_json));
  if (const auto lineage = Scanner(alert.process_json).members()) {
    for (const std::string_view key : {"process", "ancestors"}) {
      for (const auto& [name, value] : *lineage) {
        if (name == key) add(key, value);
      }
    }
  }
  add("evidence", list_of(alert.evidence, number));
  add("correlation_id", base::json_quote(alert.correlation_id));
  add("completeness", event::to_json(alert.completeness));
  add("host", base::json_quote(alert.host));
  add("agent_version", base::json_quote(alert.agent_version));
  return json + '}';
}

}  // namespace daemoneye::store
