// Alerts as they are raised, kept and delivered.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "event/completeness.h"
#include "event/process_event.h"

namespace daemoneye::store {

enum class Severity : std::uint8_t { low = 1, medium, high, critical };
std::string_view to_string(Severity severity);
std::optional<Severity> parse_severity(std::string_view text);

struct Alert {
  std::string alert_id;  // stable and unique; made by the raiser; also the idempotency key of deliveries
  Timestamp time, last_seen;
  std::uint64_t count = 1;
  std::string rule_id;
  Severity severity = Severity::medium;
  std::string title, description;
  std::string status = "open";  // open | acknowledged | closed
  std::optional<std::string> process_key, name, executable_path, command_line;
  std::optional<std::int64_t> pid;
  std::string row_json;      // the matched row: an object, column -> value
  std::string process_json;  // the process and its ancestors at that time: {"process":{…},"ancestors":[…]}
  std::vector<event::EventId> evidence;
  std::string correlation_id;
  event::Completeness completeness;
  std::string host, agent_version;
  std::string dedup_key;          // digest of rule id and the configured columns
  std::vector<std::string> tags;  // of the rule
};

// Rule ids of alerts that no rule raised.
inline constexpr std::string_view rate_limit_rule = "daemoneye.rate-limit";  // stands for alerts that were held back
inline constexpr std::string_view sink_test_rule = "daemoneye.sink-test";    // sent by `sinks test`, never stored

// The alert as one JSON object, one line, as sinks and `alerts show` give it.
std::string to_json(const Alert& alert);

}  // namespace daemoneye::store
