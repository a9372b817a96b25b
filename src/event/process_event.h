// What happened to a process, with the process as it was at that moment.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "event/process.h"

namespace daemoneye::event {

using EventId = std::int64_t;  // given by the store at commit: ascending, never reused

enum class EventKind : std::uint8_t { exec = 1, exit, seen, change, gap, fork };
enum class EventSource : std::uint8_t { ebpf = 1, netlink, scan, import };
std::string_view to_string(EventKind kind);
std::string_view to_string(EventSource source);
std::optional<EventKind> parse_event_kind(std::string_view text);
std::optional<EventSource> parse_event_source(std::string_view text);

struct ProcessEvent {
  Timestamp time;
  EventKind kind = EventKind::exec;
  EventSource source = EventSource::scan;
  std::string detail;  // a JSON object, or empty for none
  // Of a `gap` only `collection_time` is meaningful: it concerns no process, and its columns are NULL in SQL.
  ProcessInfo process;
  std::optional<std::string> parent_name, parent_executable_path, parent_command_line;
  bool operator==(const ProcessEvent&) const = default;
};

// A stretch of time of which something is missing. Travels as the `detail` of a `gap` event:
// {"reason":"events_lost","from":NS,"to":NS,"count":N}; count is absent when unknown.
struct Gap {
  std::string reason;  // events_lost | collector_unavailable | store_rolled_back | …
  Timestamp from, to;
  std::optional<std::uint64_t> count;
  bool operator==(const Gap&) const = default;
};

ProcessEvent make_gap_event(const Gap& gap, EventSource source, Timestamp now);
Result<Gap> parse_gap(std::string_view detail_json);

}  // namespace daemoneye::event
