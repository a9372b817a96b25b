// Alerts, their deliveries and the rules, as rows.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "db/statement_cache.h"
#include "store/writer.h"

namespace daemoneye::store {

// Inside the caller's transaction.
Result<RaiseResult> write_alert(db::StatementCache& statements, const Writer::Raise& raise);
Result<void> write_delivery(db::StatementCache& statements, const DeliveryRecord& record);
Result<void> write_sink(db::StatementCache& statements, const SinkRecord& sink);
Result<void> write_rules(db::StatementCache& statements, const std::vector<RuleRow>& rules);

// The columns that read_alert() expects, from `alerts a` joined with `alert_state s`.
inline constexpr const char* alert_columns =
    "a.alert_id, a.time, a.last_seen, a.count, a.rule_id, a.severity, a.title, a.description, a.status, a.process_key, "
    "a.pid, a.name, a.executable_path, a.command_line, a.row, a.evidence, a.correlation_id, a.completeness, a.host, "
    "a.agent_version, a.tags, s.dedup_key, s.process";
Result<Alert> read_alert(const db::Statement& row, int first);

}  // namespace daemoneye::store
