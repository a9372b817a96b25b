#include "store/alert_changes.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "store/alert_table.h"

namespace daemoneye::store {
namespace {

constexpr std::size_t max_summary_rules = 100;  // told one by one; the rest as one number

struct DeadLetterRow {
  std::int64_t id = 0;
  std::string alert_id, sink;
  std::int64_t time = 0;
};

bool contains(const std::vector<std::string>& list, const std::string& wanted) {
  return list.empty() || std::ranges::find(list, wanted) != list.end();
}

// The next of them; `last` is the id that was looked at last, nothing when there was none.
Result<std::vector<DeadLetterRow>> next_dead_letters(db::StatementCache& statements, const DeadLetterFilter& filter,
                                                     std::int64_t after, std::optional<std::int64_t>& last) {
  DE_TRY(auto* select, statements.get("SELECT dead_letter_id, alert_id, sink, time FROM dead_letters WHERE "
                                      "dead_letter_id>? ORDER BY dead_letter_id LIMIT ?"));
  const db::StatementReset reset(*select);
  select->bind(1, after).bind(2, static_cast<std::int64_t>(rows_a_change));
  std::vector<DeadLetterRow> found;
  while (true) {
    DE_TRY(const bool row, select->step());
    if (!row) return found;
    DeadLetterRow one{select->integer(0), std::string(select->text(1)), std::string(select->text(2)),
                      select->integer(3)};
    last = one.id;
    if (filter.before && one.time >= filter.before->ns) continue;
    if (contains(filter.sinks, one.sink) && contains(filter.alerts, one.alert_id)) found.push_back(std::move(one));
  }
}

Result<void> remove_dead_letter(db::StatementCache& statements, std::int64_t id) {
  DE_TRY(auto* remove, statements.get("DELETE FROM dead_letters WHERE dead_letter_id=?"));
  return remove->bind(1, id).run();
}

Result<std::optional<std::string>> status_of(db::StatementCache& statements, const std::string& alert_id) {
  DE_TRY(auto* select, statements.get("SELECT status FROM alerts WHERE alert_id=?"));
  const db::StatementReset reset(*select);
  DE_TRY(const bool row, select->bind_text(1, alert_id).step());
  if (!row) return std::nullopt;
  return std::string(select->text(0));
}

std::string plural(std::uint64_t count, const char* what) {
  return std::to_string(count) + ' ' + what + (count == 1 ? "" : "s");
}

}  // namespace

Result<std::optional<std::string>> change_status(db::StatementCache& statements, const StatusChange& change) {
  DE_TRY(const auto status, status_of(statements, change.alert_id));
  if (!status) return std::nullopt;
  const std::string& before = *status;
  if (before == change.to && change.note.empty()) return before;
  DE_TRY(auto* update, statements.get("UPDATE alerts SET status=? WHERE alert_id=?"));
  DE_CHECK(update->bind_text(1, change.to).bind_text(2, change.alert_id).run());
  DE_TRY(auto* insert, statements.get("INSERT INTO alert_changes(alert_id, time, actor, from_status, to_status, note) "
                                      "VALUES(?,?,?,?,?,?)"));
  insert->bind_text(1, change.alert_id).bind(2, change.time.ns).bind_text(3, change.actor);
  insert->bind_text(4, before).bind_text(5, change.to);
  if (!change.note.empty()) insert->bind_text(6, change.note);
  DE_CHECK(insert->run());
  return before;
}

Result<std::vector<StatusOutcome>> change_statuses(db::StatementCache& statements, const std::vector<std::string>& ids,
                                                   const StatusChange& change) {
  std::vector<StatusOutcome> outcomes;
  for (const auto& id : ids) {
    DE_TRY(const auto status, status_of(statements, id));
    auto& outcome = outcomes.emplace_back(StatusOutcome{id, status.value_or(""), {}});
    if (!status) outcome.refused = "there is no such alert";
    if (status == "closed" && change.to == "acknowledged") outcome.refused = "it is closed: reopen it first";
  }
  if (std::ranges::any_of(outcomes, [](const auto& outcome) { return !outcome.refused.empty(); })) return outcomes;
  auto one = change;
  for (const auto& id : ids) {
    one.alert_id = id;
    DE_CHECK(change_status(statements, one));
  }
  return outcomes;
}

Result<std::optional<std::int64_t>> retry_dead_letters(db::StatementCache& statements, const DeadLetterFilter& filter,
                                                       Timestamp now, std::int64_t after, std::uint64_t& changed) {
  std::optional<std::int64_t> last;
  DE_TRY(const auto rows, next_dead_letters(statements, filter, after, last));
  for (const auto& row : rows) {
    DE_TRY(auto* insert, statements.get("INSERT INTO outbox(alert_id, sink, attempts, next_attempt, time) "
                                        "SELECT alert_id, ?2, 0, 0, ?3 FROM alerts WHERE alert_id=?1"));
    DE_CHECK(insert->bind_text(1, row.alert_id).bind_text(2, row.sink).bind(3, now.ns).run());
    DE_CHECK(remove_dead_letter(statements, row.id));
  }
  changed += rows.size();
  return last;
}

Result<std::optional<std::int64_t>> purge_dead_letters(db::StatementCache& statements, const DeadLetterFilter& filter,
                                                       std::int64_t after, std::uint64_t& changed) {
  std::optional<std::int64_t> last;
  DE_TRY(const auto rows, next_dead_letters(statements, filter, after, last));
  for (const auto& row : rows) DE_CHECK(remove_dead_letter(statements, row.id));
  changed += rows.size();
  return last;
}

Result<std::size_t> retire_sinks(db::StatementCache& statements, const std::vector<std::string>& configured,
                                 Timestamp now) {
  std::vector<DeliveryRecord> records;
  {
    DE_TRY(auto* select, statements.get("SELECT outbox_id, alert_id, sink, attempts FROM outbox WHERE sink NOT IN "
                                        "(SELECT value FROM json_each(?)) ORDER BY outbox_id LIMIT ?"));
    const db::StatementReset reset(*select);
    select->bind_text(1, nlohmann::json(configured).dump()).bind(2, static_cast<std::int64_t>(rows_a_change));
    while (true) {
      DE_TRY(const bool row, select->step());
      if (!row) break;
      DeliveryRecord record;
      record.outbox_id = select->integer(0);
      record.alert_id = select->text(1);
      record.sink = select->text(2);
      record.attempt = static_cast<std::uint32_t>(std::max<std::int64_t>(select->integer(3), 1));
      record.outcome = "dead_letter";
      record.error = no_such_sink;
      record.time = now;
      records.push_back(std::move(record));
    }
  }
  for (const auto& record : records) DE_CHECK(write_delivery(statements, record));
  return records.size();
}

Result<std::uint64_t> write_summary(db::StatementCache& statements, const std::string& sink, Alert summary) {
  std::uint64_t held = 0, untold = 0;
  std::size_t rules = 0;
  std::string list;
  auto counts = nlohmann::ordered_json::array();
  std::int64_t first = INT64_MAX, last = INT64_MIN;
  summary.severity = Severity::low;
  {
    DE_TRY(auto* select, statements.get("SELECT rule_id, severity, count, first_time, last_time FROM held_alerts WHERE "
                                        "sink=? ORDER BY count DESC, rule_id"));
    const db::StatementReset reset(*select);
    select->bind_text(1, sink);
    while (true) {
      DE_TRY(const bool row, select->step());
      if (!row) break;
      const auto count = static_cast<std::uint64_t>(select->integer(2));
      held += count;
      first = std::min(first, select->integer(3));
      last = std::max(last, select->integer(4));
      summary.severity = std::max(summary.severity, parse_severity(select->text(1)).value_or(Severity::low));
      if (++rules > max_summary_rules) {
        untold += count;
        continue;
      }
      counts.push_back({{"rule_id", select->text(0)}, {"severity", select->text(1)}, {"count", count}});
      list += (list.empty() ? "" : ", ") + std::to_string(count) + " of " + std::string(select->text(0)) + " (" +
              std::string(select->text(1)) + ')';
    }
  }
  if (held == 0) return 0;
  if (untold > 0) list += ", " + std::to_string(untold) + " of other rules";
  summary.rule_id = rate_limit_rule;
  summary.title =
      plural(held, "alert") + (held == 1 ? " was" : " were") + " held back by the rate limit of sink " + sink;
  summary.description = "Not sent one by one, from " + base::to_iso(Timestamp{first}) + " to " +
                        base::to_iso(Timestamp{last}) + ": " + list + ". `alerts list` has each of them.";
  summary.row_json = nlohmann::ordered_json{{"sink", sink},
                                            {"held_back", held},
                                            {"from", base::to_iso(Timestamp{first})},
                                            {"to", base::to_iso(Timestamp{last})},
                                            {"counts", std::move(counts)}}
                         .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  DE_CHECK(write_alert(statements, {std::move(summary), std::chrono::milliseconds(0), {Route(sink)}}));
  DE_TRY(auto* remove, statements.get("DELETE FROM held_alerts WHERE sink=?"));
  DE_CHECK(remove->bind_text(1, sink).run());
  return held;
}

}  // namespace daemoneye::store
