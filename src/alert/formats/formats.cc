#include "alert/formats/formats.h"

#include "base/text.h"

namespace daemoneye::alert {

using Json = nlohmann::json;

Json parsed(const std::string& text) {
  auto json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  return json.is_discarded() ? Json() : json;
}

std::string dump_line(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string column_text(const Json& row, const char* column) {
  const auto found = row.find(column);
  if (found == row.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number_integer()) return std::to_string(found->get<std::int64_t>());
  return {};
}

std::optional<std::int64_t> column_integer(const Json& row, const char* column) {
  const auto found = row.find(column);
  if (found == row.end() || !found->is_number_integer()) return std::nullopt;
  return found->get<std::int64_t>();
}

Lineage lineage_of(const store::Alert& alert) {
  Lineage lineage;
  const Json details = parsed(alert.process_json);
  if (!details.is_object()) return lineage;
  if (const auto process = details.find("process"); process != details.end() && process->is_object()) {
    lineage.process = *process;
  }
  if (const auto ancestors = details.find("ancestors");
      ancestors != details.end() && ancestors->is_array() && !ancestors->empty() && ancestors->front().is_object()) {
    lineage.parent = ancestors->front();
    return lineage;
  }
  // Not known any more: what the event itself says of its parent.
  const auto take = [&](const char* from, const char* to) {
    if (const auto found = lineage.process.find(from); found != lineage.process.end() && !found->is_null()) {
      lineage.parent[to] = *found;
    }
  };
  take("ppid", "pid");
  take("parent_key", "process_key");
  take("parent_name", "name");
  take("parent_executable_path", "executable_path");
  take("parent_command_line", "command_line");
  return lineage;
}

std::string shortened(std::string_view text, std::size_t max_bytes) {
  std::string valid = base::to_valid_utf8(text.substr(0, max_bytes + 4));
  if (text.size() <= max_bytes && valid.size() <= max_bytes) return valid;
  std::size_t end = std::min(valid.size(), max_bytes);
  while (end > 0 && end < valid.size() && (static_cast<unsigned char>(valid[end]) & 0xc0) == 0x80) --end;
  valid.resize(end);
  return valid;
}

}  // namespace daemoneye::alert
