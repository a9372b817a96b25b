#include "alert/formats/template.h"

#include <algorithm>

#include "alert/formats/formats.h"
#include "base/text.h"

namespace daemoneye::alert {
namespace {

using Json = nlohmann::json;

constexpr std::string_view row_prefix = "row.";

Json optional_text(const std::optional<std::string>& text) {
  return text ? Json(base::to_valid_utf8(*text)) : Json(nullptr);
}

Json value_of(const store::Alert& alert, const std::string& field) {
  if (field == "alert_id") return alert.alert_id;
  if (field == "time") return base::to_iso(alert.time);
  if (field == "last_seen") return base::to_iso(alert.last_seen);
  if (field == "count") return alert.count;
  if (field == "rule_id") return base::to_valid_utf8(alert.rule_id);
  if (field == "severity") return store::to_string(alert.severity);
  if (field == "title") return base::to_valid_utf8(alert.title);
  if (field == "description") return base::to_valid_utf8(alert.description);
  if (field == "status") return alert.status;
  if (field == "tags") return alert.tags;
  if (field == "process_key") return optional_text(alert.process_key);
  if (field == "pid") return alert.pid ? Json(*alert.pid) : Json(nullptr);
  if (field == "name") return optional_text(alert.name);
  if (field == "executable_path") return optional_text(alert.executable_path);
  if (field == "command_line") return optional_text(alert.command_line);
  if (field == "row") return parsed(alert.row_json);
  if (field == "evidence") return alert.evidence;
  if (field == "correlation_id") return alert.correlation_id;
  if (field == "completeness") return parsed(event::to_json(alert.completeness));
  if (field == "host") return base::to_valid_utf8(alert.host);
  if (field == "agent_version") return alert.agent_version;
  if (field.starts_with(row_prefix)) {
    const Json row = parsed(alert.row_json);
    const auto found = row.find(field.substr(row_prefix.size()));
    return row.is_object() && found != row.end() ? *found : Json(nullptr);
  }
  return nullptr;
}

bool is_field(std::string_view name) {
  if (name.starts_with(row_prefix)) {
    return name.size() > row_prefix.size() && name.size() <= row_prefix.size() + Template::max_column_bytes;
  }
  return std::ranges::find(Template::fields(), name) != Template::fields().end();
}

}  // namespace

const std::vector<std::string_view>& Template::fields() {
  static const std::vector<std::string_view> names = {
      "alert_id",     "time",   "last_seen", "count",          "rule_id",      "severity", "title",
      "description",  "status", "tags",      "process_key",    "pid",          "name",     "executable_path",
      "command_line", "row",    "evidence",  "correlation_id", "completeness", "host",     "agent_version"};
  return names;
}

Result<Template> Template::parse(std::string_view text) {
  constexpr std::string_view open = "{{", close = "}}", json = "json:";
  Template made;
  std::size_t placeholders = 0, at = 0;
  while (at < text.size()) {
    const auto begin = text.find(open, at);
    if (begin != at) made.parts_.push_back({std::string(text.substr(at, begin - at))});
    if (begin == std::string_view::npos) break;
    const auto end = text.find(close, begin);
    const std::string place = " at byte " + std::to_string(begin + 1);
    if (end == std::string_view::npos) return fail(Errc::invalid_input, "'{{'" + place + " is never closed by '}}'");
    if (++placeholders > max_placeholders) {
      return fail(Errc::invalid_input, "more than " + std::to_string(max_placeholders) + " placeholders");
    }
    auto name = base::trim(text.substr(begin + open.size(), end - begin - open.size()));
    const bool as_json = name.starts_with(json);
    if (as_json) name = base::trim(name.substr(json.size()));
    if (!is_field(name)) {
      const auto shown = base::printable(name.substr(0, 64));
      const auto near = base::nearest(name, fields());
      std::string hint;
      if (near.empty()) {
        for (const auto field : fields()) {
          hint += hint.empty() ? "; allowed: " : ", ";
          hint += field;
        }
        hint += ", row.COLUMN";
      } else {
        hint = "; did you mean " + std::string(near) + "?";
      }
      return fail(Errc::invalid_input, "unknown field '" + shown + "'" + place + hint);
    }
    made.parts_.push_back({std::string(name), true, as_json});
    at = end + close.size();
  }
  return made;
}

std::string Template::render(const store::Alert& alert) const {
  std::string out;
  for (const auto& part : parts_) {
    if (!part.field) {
      out += part.text;
      continue;
    }
    const Json value = value_of(alert, part.text);
    if (part.json) {
      out += dump_line(value);
    } else if (value.is_string()) {
      out += base::printable(value.get_ref<const std::string&>());
    } else if (!value.is_null()) {
      out += base::printable(dump_line(value));
    }
  }
  return out;
}

}  // namespace daemoneye::alert
