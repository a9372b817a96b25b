#include "detect/stored_events.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace daemoneye::detect {
namespace {

event::Value owned(const store::ValueView& view) {
  if (const auto* integer = std::get_if<std::int64_t>(&view)) return *integer;
  if (const auto* real = std::get_if<double>(&view)) return *real;
  if (const auto* text = std::get_if<std::string_view>(&view)) return std::string(*text);
  return std::monostate{};
}

}  // namespace

Result<StoredEvents> read_events(store::Reader& reader, event::EventId first, event::EventId last, std::size_t limit,
                                 const event::TimeRange& time) {
  StoredEvents out;
  store::ScanRequest request;
  request.time = time;
  request.first_event = first;
  request.last_event = last;
  request.columns.set();
  DE_TRY(auto scan, reader.scan(request));
  while (out.events.size() < limit) {
    DE_TRY(const bool more, scan->next());
    if (!more) break;
    StoredEvent stored;
    stored.id = scan->event_id();
    for (const auto& info : event::columns()) {
      // event_id is the store's, command_line follows from the arguments; NULL is what a new event has.
      if (info.column == event::Column::event_id || info.column == event::Column::command_line) continue;
      auto value = owned(scan->value(info.column));
      if (std::holds_alternative<std::monostate>(value)) continue;
      // One bad value must not stop detection for good: it stays unknown, and what was matched says so.
      if (!event::set_column(stored.event, info.column, value)) {
        out.damage.push_back({"corrupt_value", {}, stored.event.time, stored.event.time});
      }
    }
    out.events.push_back(std::move(stored));
  }
  out.damage.insert(out.damage.end(), scan->stats().damage.begin(), scan->stats().damage.end());
  return out;
}

bool concerns(const sql::Compiled& statement, const event::ProcessEvent& event) {
  if (!statement.driving() || statement.driving()->table != "processes") return true;
  const auto& named = statement.driving_columns();
  switch (event.kind) {
    case event::EventKind::exec:
    case event::EventKind::seen: return true;
    case event::EventKind::exit:
      return std::ranges::any_of(std::initializer_list<const char*>{"status", "exit_time", "exit_code", "exit_signal"},
                                 [&](const char* column) { return named.contains(column); });
    case event::EventKind::change: break;
    case event::EventKind::gap:
    case event::EventKind::fork: return false;
  }
  // A change names its columns in `detail`; one that does not is shown rather than missed.
  const auto detail = nlohmann::json::parse(event.detail, nullptr, /*allow_exceptions=*/false);
  if (!detail.is_object() || detail.empty()) return true;
  return std::ranges::any_of(detail.items(), [&](const auto& item) { return named.contains(item.key()); });
}

std::vector<sql::DrivingRow> driving_rows(const std::vector<StoredEvent>& events) {
  std::vector<sql::DrivingRow> rows;
  rows.reserve(events.size());
  for (const auto& stored : events) rows.push_back({stored.id, &stored.event});
  return rows;
}

}  // namespace daemoneye::detect
