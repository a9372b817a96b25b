// Events as they lie in the store, read back for evaluation.
#pragma once

#include <optional>
#include <vector>

#include "event/process_event.h"
#include "sql/connection.h"
#include "store/reader.h"

namespace daemoneye::detect {

struct StoredEvent {
  event::EventId id = 0;
  event::ProcessEvent event;
};

struct StoredEvents {
  std::vector<StoredEvent> events;            // ascending by id
  std::vector<event::Incompleteness> damage;  // blocks that could not be read
};

// The events whose ids are in [first, last] and whose time is in `time`; at most `limit`, the lowest ids first.
Result<StoredEvents> read_events(store::Reader& reader, event::EventId first, event::EventId last, std::size_t limit,
                                 const event::TimeRange& time = {});

// Whether an event is one for this statement: every event is for one that is driven by `process_events`; one driven by
// `processes` sees an instance when it starts or is first found, and again when a column of its conditions has changed.
// What scans tell of without an event is LiveChanges' to find.
bool concerns(const sql::Compiled& statement, const event::ProcessEvent& event);

// Whether this is the sight of a process that the store knew before: a scan finds what an earlier one found.
Result<bool> was_known(store::Reader& reader, const StoredEvent& event);

// The newest event that tells of this process as it is; none when there is none (any more).
Result<std::optional<event::EventId>> last_event_of(store::Reader& reader, const event::ProcessInfo& process);

// As the SQL connection wants them; points into `events`.
std::vector<sql::DrivingRow> driving_rows(const std::vector<StoredEvent>& events);

}  // namespace daemoneye::detect
