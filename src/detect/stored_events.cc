#include "detect/stored_events.h"

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
      DE_CHECK(event::set_column(stored.event, info.column, value));
    }
    out.events.push_back(std::move(stored));
  }
  out.damage = scan->stats().damage;
  return out;
}

std::vector<sql::DrivingRow> driving_rows(const std::vector<StoredEvent>& events) {
  std::vector<sql::DrivingRow> rows;
  rows.reserve(events.size());
  for (const auto& stored : events) rows.push_back({stored.id, &stored.event});
  return rows;
}

}  // namespace daemoneye::detect
