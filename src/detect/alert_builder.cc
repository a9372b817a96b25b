#include "detect/alert_builder.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "event/batch.h"
#include "event/columns.h"

namespace daemoneye::detect {
namespace {

using event::Column;
using Json = nlohmann::ordered_json;

constexpr std::size_t max_title_bytes = 1024;
constexpr std::size_t max_ancestor_text_bytes = 4096;
constexpr std::size_t id_bytes = 16;
constexpr std::size_t correlation_digits = 32;
constexpr std::size_t max_lineage = 64;

// What an ancestor is told by; the whole of it can be asked for by its key.
constexpr Column ancestor_columns[] = {Column::process_key,     Column::pid,          Column::ppid,     Column::name,
                                       Column::executable_path, Column::command_line, Column::uid,      Column::user,
                                       Column::session_id,      Column::start_time,   Column::exit_time};

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json to_json(const event::Value& value, bool is_time) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    if (is_time) return base::to_iso(Timestamp{*integer});
    return *integer;
  }
  if (const auto* real = std::get_if<double>(&value)) return *real;
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  return nullptr;
}

// So that no two values look alike, whatever bytes are in them: names need not be text.
void add_exactly(std::string& out, const event::Value& value) {
  out += std::to_string(value.index()) + ':';
  std::string bytes;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) bytes = std::to_string(*integer);
  if (const auto* real = std::get_if<double>(&value)) bytes = Json(*real).dump();  // the shortest that is this number
  if (const auto* text = std::get_if<std::string>(&value)) bytes = *text;
  out += std::to_string(bytes.size()) + ':' + bytes;
}

void add_column(Json& object, const event::ProcessEvent& event, Column column, std::size_t max_bytes) {
  const auto value = event::column_value(event, 0, column);
  if (std::holds_alternative<std::monostate>(value)) return;
  const auto& info = event::info(column);
  if (column == Column::arguments) {
    // A list in SQL's text form; here it can be a list.
    object[std::string(info.name)] = Json::parse(std::get<std::string>(value), nullptr, /*allow_exceptions=*/false);
    return;
  }
  auto json = to_json(value, info.is_time);
  if (json.is_string() && json.get_ref<const std::string&>().size() > max_bytes) {
    json = json.get_ref<const std::string&>().substr(0, max_bytes) + "…";
  }
  object[std::string(info.name)] = std::move(json);
}

Json process_object(const event::ProcessEvent& event) {
  Json object = Json::object();
  for (const auto& info : event::columns()) {
    const bool of_parent = info.column >= Column::parent_name;
    if (info.in_processes || of_parent) add_column(object, event, info.column, event::max_text_bytes);
  }
  return object;
}

Json ancestor_object(const event::ProcessEvent& event) {
  Json object = Json::object();
  for (const auto column : ancestor_columns) add_column(object, event, column, max_ancestor_text_bytes);
  return object;
}

// The row's values by name, with the driving event's as the fallback.
class Values {
 public:
  Values(const LoadedRule& rule, const sql::Row& row, const StoredEvent* driving)
      : columns_(rule.compiled->columns()), row_(row), driving_(driving) {}

  event::Value get(std::string_view name) const {
    for (std::size_t i = 0; i < columns_.size() && i < row_.size(); ++i) {
      if (columns_[i].name == name) return row_[i];
    }
    const auto column = event::find_column(name);
    if (driving_ == nullptr || !column) return std::monostate{};
    return event::column_value(driving_->event, driving_->id, *column);
  }
  std::optional<std::string> text(std::string_view name) const {
    const auto value = get(name);
    if (const auto* text = std::get_if<std::string>(&value)) return *text;
    return std::nullopt;
  }
  std::optional<std::int64_t> integer(std::string_view name) const {
    const auto value = get(name);
    if (const auto* number = std::get_if<std::int64_t>(&value)) return *number;
    return std::nullopt;
  }
  std::optional<std::string> shown(std::string_view name) const {
    bool is_time = false;
    for (const auto& column : columns_) is_time = is_time || (column.name == name && column.is_time);
    if (const auto column = event::find_column(name)) is_time = is_time || event::info(*column).is_time;
    const auto json = to_json(get(name), is_time);
    if (json.is_null()) return std::nullopt;
    return json.is_string() ? json.get<std::string>() : json.dump();
  }

 private:
  const std::vector<sql::ResultColumn>& columns_;
  const sql::Row& row_;
  const StoredEvent* driving_;
};

}  // namespace

std::string dedup_key(const LoadedRule& rule, const sql::Row& row) {
  const auto& columns = rule.compiled->columns();
  std::vector<std::string> by = rule.rule.dedup_by;
  if (by.empty() && std::ranges::any_of(columns, [](const auto& column) { return column.name == "process_key"; })) {
    by = {"process_key"};
  }
  std::string values;
  add_exactly(values, rule.rule.id);
  for (std::size_t i = 0; i < columns.size() && i < row.size(); ++i) {
    if (by.empty() || std::ranges::find(by, columns[i].name) != by.end()) add_exactly(values, row[i]);
  }
  return base::to_hex(base::sha256(values));
}

std::string correlation_id(const std::vector<event::ProcessEvent>& lineage) {
  if (lineage.empty()) return {};
  const auto& process = lineage.front().process;
  const event::ProcessKey* root = &process.key;
  for (const auto& link : lineage) {
    if (link.process.key.pid <= 1) break;
    root = &link.process.key;
    if (process.session_id && link.process.key.pid == *process.session_id) break;
  }
  return base::to_hex(base::sha256(event::to_string(*root))).substr(0, correlation_digits);
}

const std::vector<event::ProcessEvent>& AlertBuilder::lineage(const event::ProcessKey& key,
                                                              event::Completeness& completeness) {
  if (const auto found = lineages_.find(key); found != lineages_.end()) return found->second;
  auto links = connection_.lineage(key, max_lineage);
  if (!links) {
    completeness.reasons.push_back({"lineage_unavailable", {}, {}, {}});
    static const std::vector<event::ProcessEvent> none;
    return none;
  }
  return lineages_.emplace(key, *std::move(links)).first->second;
}

store::Alert AlertBuilder::summary(const LoadedRule& rule, std::uint64_t held, std::vector<event::EventId> evidence,
                                   const event::Completeness& completeness, Timestamp now,
                                   const RuleLimits& limits) const {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(limits.window()).count();
  store::Alert alert;
  alert.alert_id = base::to_hex(base::random_bytes(id_bytes));
  alert.time = alert.last_seen = now;
  alert.count = held;
  alert.rule_id = rule.rule.id;
  alert.severity = rule.rule.severity;
  alert.tags = rule.rule.tags;
  alert.title = "More alerts of " + rule.rule.id + " than " + std::to_string(limits.alerts()) + " in " +
                std::to_string(seconds) + " s: the others are counted here";
  alert.description = rule.rule.description;
  alert.row_json = dump(Json{{"held_back", true}, {"limit", limits.alerts()}, {"window_seconds", seconds}});
  alert.process_json = dump(Json{{"process", nullptr}, {"ancestors", Json::array()}});
  alert.evidence = std::move(evidence);
  alert.completeness = completeness;
  alert.host = host_;
  alert.agent_version = agent_version_;
  alert.dedup_key = base::to_hex(base::sha256("held back\n" + rule.rule.id));
  return alert;
}

store::Alert AlertBuilder::build(const LoadedRule& rule, const sql::Row& row, const StoredEvent* driving,
                                 const event::Completeness& completeness, Timestamp now) {
  const Values values(rule, row, driving);
  store::Alert alert;
  alert.alert_id = base::to_hex(base::random_bytes(id_bytes));
  alert.time = now;
  alert.last_seen = now;
  alert.rule_id = rule.rule.id;
  alert.severity = rule.rule.severity;
  alert.tags = rule.rule.tags;
  alert.title = title_of(rule.rule.title, [&](std::string_view name) { return values.shown(name); });
  if (alert.title.size() > max_title_bytes) alert.title = alert.title.substr(0, max_title_bytes) + "…";
  alert.description = rule.rule.description;
  alert.process_key = values.text("process_key");
  alert.pid = values.integer("pid");
  alert.name = values.text("name");
  alert.executable_path = values.text("executable_path");
  alert.command_line = values.text("command_line");
  alert.completeness = completeness;
  alert.host = host_;
  alert.agent_version = agent_version_;
  alert.dedup_key = dedup_key(rule, row);
  if (driving != nullptr && driving->id > 0)
    alert.evidence.push_back(driving->id);
  else if (const auto id = values.integer("event_id"))
    alert.evidence.push_back(*id);

  Json row_object = Json::object();
  const auto& columns = rule.compiled->columns();
  for (std::size_t i = 0; i < columns.size() && i < row.size(); ++i) {
    row_object[columns[i].name] = to_json(row[i], columns[i].is_time);
  }
  alert.row_json = dump(row_object);

  Json details{{"process", nullptr}, {"ancestors", Json::array()}};
  const auto key = alert.process_key ? event::parse_process_key(*alert.process_key)
                                     : fail(Errc::not_found, "the row names no process");
  if (key) {
    std::vector<event::ProcessEvent> chain = lineage(*key, alert.completeness);
    const bool own_event = driving != nullptr && driving->event.process.key == *key;
    if (chain.empty() || chain.front().process.key != *key) {
      // Not known to the store (any more): the event itself is all there is.
      if (own_event) chain.insert(chain.begin(), driving->event);
    } else if (own_event) {
      chain.front() = driving->event;  // as it was at that moment
    }
    if (!chain.empty() && chain.front().process.key == *key) details["process"] = process_object(chain.front());
    for (const auto& link : chain) {
      if (link.process.key != *key) details["ancestors"].push_back(ancestor_object(link));
    }
    alert.correlation_id = correlation_id(chain);
  }
  alert.process_json = dump(details);
  return alert;
}

}  // namespace daemoneye::detect
