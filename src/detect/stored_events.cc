#include "detect/stored_events.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace daemoneye::detect {

Result<StoredEvents> read_events(store::Reader& reader, event::EventId first, event::EventId last, std::size_t limit,
                                 const event::TimeRange& time) {
  StoredEvents out;
  store::ScanRequest request;
  request.time = time;
  request.first_event = first;
  request.last_event = last;
  DE_TRY(auto scan, reader.scan(request));
  while (out.events.size() < limit) {
    DE_TRY(const bool more, scan->next());
    if (!more) break;
    const auto id = scan->event_id();
    auto event = scan->take_event();
    if (!event) {
      if (event.error().code != Errc::corrupt) return std::unexpected(event.error());
      // One bad event must not stop detection for good; that it was not seen is said with what is found beside it.
      out.damage.push_back({"corrupt_block", 1, time.from, time.to});
      continue;
    }
    out.events.push_back({id, std::move(*event)});
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

Result<bool> was_known(store::Reader& reader, const StoredEvent& stored) {
  const auto& process = stored.event.process;
  if (stored.event.kind != event::EventKind::seen || stored.id <= 1) return false;
  store::ScanRequest request;
  request.last_event = stored.id - 1;
  // Nothing of it can be older than itself; the start time is reckoned from the boot time, which may be corrected.
  constexpr std::int64_t correction_ns = 60'000'000'000;
  if (process.start_time) request.time.from = Timestamp{process.start_time->ns - correction_ns};
  request.conditions = {
      {event::Column::process_key, predicate::Operator::equal, {event::to_string(process.key)}, false},
      {event::Column::kind,
       predicate::Operator::in,
       {std::string(to_string(event::EventKind::exec)), std::string(to_string(event::EventKind::seen))},
       false}};
  request.newest_first = true;
  DE_TRY(auto scan, reader.scan(request));
  return scan->next();
}

std::vector<sql::DrivingRow> driving_rows(const std::vector<StoredEvent>& events) {
  std::vector<sql::DrivingRow> rows;
  rows.reserve(events.size());
  for (const auto& stored : events) rows.push_back({stored.id, &stored.event});
  return rows;
}

}  // namespace daemoneye::detect
