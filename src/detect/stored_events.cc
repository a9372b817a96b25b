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

namespace {

// A change names in `detail` what was told anew. What follows from that changes with it.
bool changes_with(const std::string& told, const std::set<std::string>& columns) {
  if (columns.contains(told)) return true;
  const auto any = [&](std::initializer_list<const char*> others) {
    return std::ranges::any_of(others, [&](const char* column) { return columns.contains(column); });
  };
  if (told == "uid") return any({"user"});
  if (told == "executable_path") return any({"name"});
  if (told == "cgroup") return any({"container_id"});
  if (told == "executable_hash") return any({"executable_state"});
  return false;
}

// Of a process, what lies in the store up to this event.
store::ScanRequest events_of(const event::ProcessInfo& process, std::vector<event::Value> kinds) {
  store::ScanRequest request;
  // Nothing of it can be older than itself; the start time is reckoned from the boot time, which may be corrected.
  constexpr std::int64_t correction_ns = 60'000'000'000;
  if (process.start_time) request.time.from = Timestamp{process.start_time->ns - correction_ns};
  request.conditions = {
      {event::Column::process_key, predicate::Operator::equal, {event::to_string(process.key)}, false},
      {event::Column::kind, predicate::Operator::in, std::move(kinds), false}};
  request.newest_first = true;
  return request;
}

event::Value kind(event::EventKind of) { return std::string(to_string(of)); }

}  // namespace

bool concerns(const sql::Compiled& statement, const event::ProcessEvent& event) {
  if (!statement.driving() || statement.driving()->table != "processes") return true;
  const auto& named = statement.driving_conditions();
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
  return std::ranges::any_of(detail.items(), [&](const auto& item) { return changes_with(item.key(), named); });
}

Result<bool> was_known(store::Reader& reader, const StoredEvent& stored) {
  const auto& process = stored.event.process;
  if (stored.event.kind != event::EventKind::seen || stored.id <= 1) return false;
  auto request = events_of(process, {kind(event::EventKind::exec), kind(event::EventKind::seen)});
  request.last_event = stored.id - 1;
  DE_TRY(auto scan, reader.scan(request));
  return scan->next();
}

Result<std::optional<event::EventId>> last_event_of(store::Reader& reader, const event::ProcessInfo& process) {
  using Kind = event::EventKind;
  DE_TRY(auto scan, reader.scan(events_of(process, {kind(Kind::exec), kind(Kind::seen), kind(Kind::change)})));
  DE_TRY(const bool found, scan->next());
  return found ? std::optional(scan->event_id()) : std::nullopt;
}

std::vector<sql::DrivingRow> driving_rows(const std::vector<StoredEvent>& events) {
  std::vector<sql::DrivingRow> rows;
  rows.reserve(events.size());
  for (const auto& stored : events) rows.push_back({stored.id, &stored.event});
  return rows;
}

}  // namespace daemoneye::detect
