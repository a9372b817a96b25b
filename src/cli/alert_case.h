// An alert and all that is known around it: what `alerts show` and `report` show.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/invocation.h"
#include "detect/rule.h"
#include "event/process_event.h"
#include "store/reader.h"

namespace daemoneye::cli {

// Bounds of what is shown; what is beyond is counted, or said to be there.
inline constexpr std::size_t max_case_evidence = 100, max_case_descendants = 200, max_case_events = 400,
                             max_counted_events = 100'000, max_case_deliveries = 100;

struct CaseEvent {
  event::EventId id = 0;
  event::ProcessEvent event;
  bool evidence = false;
};

struct CaseRule {
  // As the agent has it in force now; nothing when it has none of that id.
  struct Loaded {
    std::string title, severity, status, state, sql, file, version;
    Timestamp loaded_at;
  };
  std::optional<Loaded> loaded;
  std::optional<detect::Rule> text;  // of its file, when that can be read here
  std::vector<std::string> notes;    // what to know when relying on it
};

struct CaseDelivery {
  Timestamp time;
  std::string sink, outcome, error;
  std::int64_t attempt = 0;
};

struct AlertCase {
  store::Alert alert;
  std::vector<store::Reader::AlertChange> changes;
  std::vector<CaseDelivery> deliveries;
  // The process, its ancestors as they were when the alert was raised, and what it started. How those of the alert
  // ended since is filled in.
  std::vector<event::ProcessInfo> family;
  std::optional<event::ProcessKey> subject;
  std::optional<Timestamp> hashed_after_end;  // when the subject's hash became known, if it had ended by then
  std::size_t ancestors = 0;                  // that many of the family follow the subject, nearest first
  bool more_descendants = false;
  std::vector<CaseEvent> events;              // evidence, and others of the family in `window`; by time
  std::uint64_t more_events = 0;              // of the family in the window, farther from the alert
  bool more_events_uncounted = false;         // more than that
  std::vector<event::EventId> lost_evidence;  // no longer kept, or not readable
  std::uint64_t more_evidence = 0;            // beyond max_case_evidence
  event::TimeRange window;
  event::Completeness looked;  // of what was read for this, now
};

// 1 when there is no such alert.
Outcome<AlertCase> collect_case(sql::Connection& connection, Invocation& invocation, const std::string& alert_id);
Outcome<CaseRule> collect_rule(sql::Connection& connection, Invocation& invocation, const store::Alert& alert);

// The alert's own completeness and that of looking now.
event::Completeness completeness_of(const AlertCase& found);
// What happened, in a line: the command line of an exec, how an exit ended, what a change changed.
std::string event_for_people(const event::ProcessEvent& event);
// "pid 10" or "bash (10)"
std::string process_for_people(const event::ProcessInfo& process);

}  // namespace daemoneye::cli
