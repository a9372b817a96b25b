// A matched row -> an alert.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "detect/rule.h"
#include "detect/rule_limits.h"
#include "detect/stored_events.h"
#include "sql/connection.h"
#include "store/alert.h"

namespace daemoneye::detect {

// One a batch: processes looked up for one alert are kept for the next.
class AlertBuilder {
 public:
  AlertBuilder(sql::Connection& connection, std::string host, std::string agent_version)
      : connection_(connection), host_(std::move(host)), agent_version_(std::move(agent_version)) {}

  // `driving` is the event that was shown to the rule (its id is 0 when there is none in the store for the process that
  // was shown); null for a scheduled rule. `now` is when the alert is raised.
  // A lineage that cannot be read is a reason in the alert's completeness, not an error.
  store::Alert build(const LoadedRule& rule, const sql::Row& row, const StoredEvent* driving,
                     const event::Completeness& completeness, Timestamp now);
  // The one alert that counts `held` matches which a rule's limit holds back.
  store::Alert summary(const LoadedRule& rule, std::uint64_t held, std::vector<event::EventId> evidence,
                       const event::Completeness& completeness, Timestamp now, const RuleLimits& limits) const;
  // Forgets the lineages.
  void next_batch() { lineages_.clear(); }

 private:
  const std::vector<event::ProcessEvent>& lineage(const event::ProcessKey& key, event::Completeness& completeness);

  sql::Connection& connection_;
  const std::string host_, agent_version_;
  std::unordered_map<event::ProcessKey, std::vector<event::ProcessEvent>> lineages_;
};

// Digest of the rule's id and the values of its deduplication columns: those of `dedup.by`, else process_key when the
// rule selects it, else the whole row.
std::string dedup_key(const LoadedRule& rule, const sql::Row& row);

// Alerts of one chain of processes share it: digest of the process_key of the session's leader, where it is among
// `lineage` (the process first, then its ancestors); else of the topmost known ancestor below pid 1, or the process.
std::string correlation_id(const std::vector<event::ProcessEvent>& lineage);

}  // namespace daemoneye::detect
