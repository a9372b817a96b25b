#include "store/alert_table.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "base/text.h"

namespace daemoneye::store {
namespace {

void bind_optional(db::Statement& statement, int index, const std::optional<std::string>& text) {
  if (text) statement.bind_text(index, *text);
}

std::string evidence_json(const std::vector<event::EventId>& evidence) {
  std::string json = "[";
  for (const auto id : evidence) {
    if (json.size() > 1) json += ',';
    json += std::to_string(id);
  }
  return json + "]";
}

std::vector<event::EventId> parse_evidence(std::string_view json) {
  std::vector<event::EventId> evidence;
  if (json.size() < 2) return evidence;
  for (const auto part : base::split(json.substr(1, json.size() - 2), ',')) {
    if (const auto id = base::parse_integer<event::EventId>(base::trim(part))) evidence.push_back(*id);
  }
  return evidence;
}

std::string tags_json(const std::vector<std::string>& tags) {
  return nlohmann::json(tags).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::vector<std::string> parse_tags(std::string_view json) {
  if (json == "[]") return {};
  std::vector<std::string> tags;
  const auto list = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  for (const auto& tag : list.is_array() ? list : nlohmann::json::array()) {
    if (tag.is_string()) tags.push_back(tag.get<std::string>());
  }
  return tags;
}

// False: the route's limit is reached, and the alert was counted for the summary.
Result<bool> passes_limit(db::StatementCache& statements, const Route& route, const Alert& alert) {
  if (route.limit == 0) return true;
  const auto window = std::chrono::nanoseconds(route.window).count();
  std::optional<std::int64_t> started;
  std::int64_t passed = 0;
  {
    DE_TRY(auto* select, statements.get("SELECT started, passed FROM rate_windows WHERE sink=?"));
    const db::StatementReset reset(*select);
    DE_TRY(const bool row, select->bind_text(1, route.sink).step());
    if (row) {
      started = select->integer(0);
      passed = select->integer(1);
    }
  }
  // A clock that was set back must not keep a window open for longer than it is.
  const bool current = started && alert.time.ns - *started < window && *started - alert.time.ns < window;
  if (!current) {
    started = alert.time.ns;
    passed = 0;
  }
  if (passed < std::int64_t{route.limit}) {
    DE_TRY(auto* count, statements.get("INSERT OR REPLACE INTO rate_windows VALUES(?,?,?)"));
    DE_CHECK(count->bind_text(1, route.sink).bind(2, *started).bind(3, passed + 1).run());
    return true;
  }
  DE_TRY(auto* hold,
         statements.get("INSERT INTO held_alerts VALUES(?1,?2,?3,1,?4,?4) ON CONFLICT DO UPDATE SET count=count+1, "
                        "first_time=min(first_time, ?4), last_time=max(last_time, ?4)"));
  DE_CHECK(hold->bind_text(1, route.sink)
               .bind_text(2, alert.rule_id)
               .bind_text(3, to_string(alert.severity))
               .bind(4, alert.time.ns)
               .run());
  return false;
}

// An alert that no attempt was made for leaves a trace as well: it is known why not.
Result<void> write_held(db::StatementCache& statements, const Alert& alert, const std::string& sink,
                        const std::string& why) {
  DeliveryRecord record;
  record.alert_id = alert.alert_id;
  record.sink = sink;
  record.outcome = "held";
  record.attempt = 0;
  record.time = alert.time;
  record.error = why;
  return write_delivery(statements, record);
}

// The alert this one only repeats: an open one, or one that was closed when all that this one tells was there already.
Result<std::optional<std::string>> find_repeated(db::StatementCache& statements, const Writer::Raise& raise) {
  if (raise.alert.dedup_key.empty() || raise.dedup_window.count() <= 0) return std::nullopt;
  DE_TRY(auto* select, statements.get("SELECT s.alert_id FROM alert_state s JOIN alerts a ON a.alert_id=s.alert_id "
                                      "WHERE s.dedup_key=?1 AND s.last_seen BETWEEN ?2 AND ?3 AND (a.status<>'closed' "
                                      "OR EXISTS(SELECT 1 FROM alert_changes c WHERE c.alert_id=a.alert_id AND "
                                      "c.to_status='closed' AND c.time>=?4)) "
                                      "ORDER BY a.status='closed', s.last_seen DESC LIMIT 1"));
  const db::StatementReset reset(*select);
  const auto window = std::chrono::nanoseconds(raise.dedup_window).count();
  select->bind_text(1, raise.alert.dedup_key).bind(2, raise.alert.time.ns - window);
  if (raise.repeats_closed_since) select->bind(4, raise.repeats_closed_since->ns);  // else NULL: no closed one
  // What was seen last in the far future was seen before the clock was set back.
  DE_TRY(const bool found, select->bind(3, raise.alert.time.ns + window).step());
  if (!found) return std::nullopt;
  return std::string(select->text(0));
}

}  // namespace

Result<RaiseResult> write_alert(db::StatementCache& statements, const Writer::Raise& raise) {
  const auto& alert = raise.alert;
  const auto last_seen = std::max(alert.last_seen, alert.time);
  DE_TRY(const auto repeated, find_repeated(statements, raise));
  if (repeated) {
    DE_TRY(auto* update,
           statements.get("UPDATE alerts SET count=count+?, last_seen=max(last_seen, ?) WHERE alert_id=?"));
    DE_CHECK(
        update->bind(1, static_cast<std::int64_t>(alert.count)).bind(2, last_seen.ns).bind_text(3, *repeated).run());
    DE_TRY(auto* state, statements.get("UPDATE alert_state SET last_seen=max(last_seen, ?) WHERE alert_id=?"));
    DE_CHECK(state->bind(1, last_seen.ns).bind_text(2, *repeated).run());
    return RaiseResult{*repeated, true};
  }
  DE_TRY(auto* insert,
         statements.get("INSERT OR IGNORE INTO alerts VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"));
  insert->bind_text(1, alert.alert_id).bind(2, alert.time.ns).bind(3, last_seen.ns);
  insert->bind(4, static_cast<std::int64_t>(alert.count)).bind_text(5, alert.rule_id);
  insert->bind_text(6, to_string(alert.severity)).bind_text(7, alert.title).bind_text(8, alert.description);
  insert->bind_text(9, alert.status);
  bind_optional(*insert, 10, alert.process_key);
  if (alert.pid) insert->bind(11, *alert.pid);
  bind_optional(*insert, 12, alert.name);
  bind_optional(*insert, 13, alert.executable_path);
  bind_optional(*insert, 14, alert.command_line);
  insert->bind_text(15, alert.row_json).bind_text(16, evidence_json(alert.evidence));
  insert->bind_text(17, alert.correlation_id).bind_text(18, event::to_json(alert.completeness));
  insert->bind_text(19, alert.host).bind_text(20, alert.agent_version);
  insert->bind_text(21, tags_json(alert.tags));
  DE_CHECK(insert->run());
  // The id is there already: the same alert again, which was delivered to the outbox when it first came.
  if (statements.database().changes() == 0) return RaiseResult{alert.alert_id, true};
  DE_TRY(auto* state, statements.get("INSERT OR REPLACE INTO alert_state VALUES(?,?,?,?)"));
  DE_CHECK(state->bind_text(1, alert.alert_id)
               .bind_text(2, alert.dedup_key)
               .bind(3, last_seen.ns)
               .bind_text(4, alert.process_json)
               .run());
  if (raise.sinks.empty()) DE_CHECK(write_held(statements, alert, "", "no sink wants it (min_severity, rules, tags)"));
  for (const auto& route : raise.sinks) {
    DE_TRY(const bool passes, passes_limit(statements, route, alert));
    if (!passes) {
      DE_CHECK(write_held(statements, alert, route.sink,
                          "over the sink's rate limit of " + std::to_string(route.limit) + " alerts in " +
                              std::to_string(route.window.count()) + " ms; counted in its summary"));
      continue;
    }
    // Due at once whatever the clock says, in the order of commit.
    DE_TRY(auto* entry,
           statements.get("INSERT INTO outbox(alert_id, sink, attempts, next_attempt, time) VALUES(?,?,0,0,?)"));
    DE_CHECK(entry->bind_text(1, alert.alert_id).bind_text(2, route.sink).bind(3, alert.time.ns).run());
  }
  return RaiseResult{alert.alert_id, false};
}

Result<void> write_delivery(db::StatementCache& statements, const DeliveryRecord& record) {
  DE_TRY(auto* insert,
         statements.get("INSERT INTO alert_deliveries(alert_id, sink, attempt, time, duration_ms, outcome, "
                        "error, response_code) VALUES(?,?,?,?,?,?,?,?)"));
  insert->bind_text(1, record.alert_id).bind_text(2, record.sink).bind(3, std::int64_t{record.attempt});
  insert->bind(4, record.time.ns).bind(5, record.duration_ms).bind_text(6, record.outcome);
  if (!record.error.empty()) insert->bind_text(7, record.error);
  if (record.response_code) insert->bind(8, std::int64_t{*record.response_code});
  DE_CHECK(insert->run());
  if (record.outbox_id == 0) return {};
  if (record.outcome == "dead_letter") {
    DE_TRY(auto* keep, statements.get("INSERT OR REPLACE INTO dead_letters(alert_id, sink, attempts, time, reason, "
                                      "response_code) VALUES(?,?,?,?,?,?)"));
    keep->bind_text(1, record.alert_id).bind_text(2, record.sink).bind(3, std::int64_t{record.attempt});
    keep->bind(4, record.time.ns).bind_text(5, record.error);
    if (record.response_code) keep->bind(6, std::int64_t{*record.response_code});
    DE_CHECK(keep->run());
  }
  if (record.outcome != "failed") {
    DE_TRY(auto* remove, statements.get("DELETE FROM outbox WHERE outbox_id=?"));
    return remove->bind(1, record.outbox_id).run();
  }
  // Without a next time it is due at once: an alert leaves the outbox by delivery or as a dead letter only.
  DE_TRY(auto* update, statements.get("UPDATE outbox SET attempts=?, next_attempt=? WHERE outbox_id=?"));
  return update->bind(1, std::int64_t{record.attempt})
      .bind(2, std::max<std::int64_t>(record.next_attempt.value_or(record.time).ns, 1))
      .bind(3, record.outbox_id)
      .run();
}

Result<void> write_sink(db::StatementCache& statements, const SinkRecord& sink) {
  DE_TRY(auto* insert, statements.get("INSERT OR REPLACE INTO sink_states VALUES(?,?,?,?,?,?,?,?)"));
  insert->bind_text(1, sink.sink).bind_text(2, sink.type).bind_text(3, sink.breaker);
  insert->bind(4, std::int64_t{sink.failures}).bind(5, sink.open_until.ns);
  if (sink.last_success) insert->bind(6, sink.last_success->ns);
  if (sink.last_failure) insert->bind(7, sink.last_failure->ns);
  if (!sink.last_error.empty()) insert->bind_text(8, sink.last_error);
  return insert->run();
}

Result<void> write_rules(db::StatementCache& statements, const std::vector<RuleRow>& rules) {
  DE_CHECK(statements.database().execute("DELETE FROM detection_rules"));
  for (const auto& rule : rules) {
    DE_TRY(auto* insert, statements.get("INSERT OR REPLACE INTO detection_rules VALUES(?,?,?,?,?,?,?,?,?,?)"));
    insert->bind_text(1, rule.rule_id).bind_text(2, rule.title).bind_text(3, rule.severity);
    insert->bind_text(4, rule.status).bind_text(5, rule.state);
    if (!rule.reason.empty()) insert->bind_text(6, rule.reason);
    insert->bind_text(7, rule.sql).bind_text(8, rule.file).bind_text(9, rule.version).bind(10, rule.loaded_at.ns);
    DE_CHECK(insert->run());
  }
  return {};
}

Result<Alert> read_alert(const db::Statement& row, int first) {
  const auto text = [&](int column) { return std::string(row.text(first + column)); };
  const auto optional_text = [&](int column) {
    return row.is_null(first + column) ? std::nullopt : std::optional(text(column));
  };
  Alert alert;
  alert.alert_id = text(0);
  alert.time = Timestamp{row.integer(first + 1)};
  alert.last_seen = Timestamp{row.integer(first + 2)};
  alert.count = static_cast<std::uint64_t>(row.integer(first + 3));
  alert.rule_id = text(4);
  const auto severity = parse_severity(row.text(first + 5));
  if (!severity) return fail(Errc::corrupt, "alert " + alert.alert_id + ": unknown severity");
  alert.severity = *severity;
  alert.title = text(6);
  alert.description = text(7);
  alert.status = text(8);
  alert.process_key = optional_text(9);
  if (!row.is_null(first + 10)) alert.pid = row.integer(first + 10);
  alert.name = optional_text(11);
  alert.executable_path = optional_text(12);
  alert.command_line = optional_text(13);
  alert.row_json = text(14);
  alert.evidence = parse_evidence(row.text(first + 15));
  alert.correlation_id = text(16);
  DE_TRY(alert.completeness, event::parse_completeness(row.text(first + 17)));
  alert.host = text(18);
  alert.agent_version = text(19);
  alert.tags = parse_tags(row.text(first + 20));
  alert.dedup_key = text(21);
  alert.process_json = text(22);
  return alert;
}

}  // namespace daemoneye::store
