// Alerts, what waits for delivery, and what became of it.
#include <algorithm>
#include <utility>

#include "store/alert_table.h"
#include "store/reader_impl.h"

namespace daemoneye::store {
namespace {

std::size_t size_of(const Alert& alert) {
  return sizeof(Alert) + alert.row_json.size() + alert.process_json.size() + alert.title.size() +
         alert.description.size() + alert.command_line.value_or("").size();
}

std::optional<Timestamp> optional_time(const db::Statement& row, int column) {
  if (row.is_null(column)) return std::nullopt;
  return Timestamp{row.integer(column)};
}

// Rows of outbox id, attempts, time and alert, until the window is full.
Result<std::vector<Delivery>> read_deliveries(db::Statement& select, const std::string& sink, Reader::Window window) {
  std::vector<Delivery> due;
  std::size_t bytes = 0;
  while (true) {
    DE_TRY(const bool row, select.step());
    if (!row) return due;
    Delivery delivery{
        select.integer(0), sink, static_cast<std::uint32_t>(select.integer(1)), Timestamp{select.integer(2)}, {}};
    if (auto alert = read_alert(select, 3)) {
      delivery.alert = *std::move(alert);
    } else {
      // The others must not wait for it.
      delivery.alert.alert_id = select.text(3);
      delivery.unreadable = alert.error().message;
    }
    bytes += size_of(delivery.alert);
    due.push_back(std::move(delivery));
    if (bytes >= window.bytes || due.size() >= window.entries) return due;
  }
}

const std::string& outbox_select() {
  static const std::string sql = std::string("SELECT o.outbox_id, o.attempts, o.time, ") + alert_columns +
                                 " FROM outbox o CROSS JOIN alerts a ON a.alert_id=o.alert_id CROSS JOIN alert_state s "
                                 "ON s.alert_id=a.alert_id WHERE o.sink=?1 AND ";
  return sql;
}

}  // namespace

Result<std::vector<Delivery>> Reader::first_deliveries(const std::string& sink, std::int64_t after, Window window) {
  static const std::string sql = outbox_select() + "o.next_attempt=0 AND o.outbox_id>?2 ORDER BY o.outbox_id";
  DE_TRY(auto* select, impl_->statements->get(sql));
  const db::StatementReset reset(*select);
  select->bind_text(1, sink).bind(2, after);
  return read_deliveries(*select, sink, window);
}

Result<std::vector<Delivery>> Reader::due_retries(const std::string& sink, Timestamp now, Timestamp horizon,
                                                  Window window) {
  static const std::string in_time =
      outbox_select() + "o.next_attempt>0 AND o.next_attempt<=?2 ORDER BY o.next_attempt";
  static const std::string beyond = outbox_select() + "o.next_attempt>?2 ORDER BY o.next_attempt";
  for (const auto& [sql, moment] : {std::pair(&in_time, now), std::pair(&beyond, horizon)}) {
    DE_TRY(auto* select, impl_->statements->get(*sql));
    const db::StatementReset reset(*select);
    select->bind_text(1, sink).bind(2, moment.ns);
    DE_TRY(auto due, read_deliveries(*select, sink, window));
    if (!due.empty()) return due;
  }
  return std::vector<Delivery>{};
}

Result<std::optional<Timestamp>> Reader::next_retry(const std::string& sink, Timestamp after) {
  DE_TRY(auto* select, impl_->statements->get("SELECT min(next_attempt) FROM outbox WHERE sink=? AND next_attempt>?"));
  const db::StatementReset reset(*select);
  DE_TRY(const bool row, select->bind_text(1, sink).bind(2, std::max<std::int64_t>(after.ns, 0)).step());
  if (!row) return std::nullopt;
  return optional_time(*select, 0);
}

Result<std::uint64_t> Reader::outbox_depth(const std::string& sink) {
  DE_TRY(auto* select, impl_->statements->get("SELECT count(*) FROM outbox WHERE sink=?"));
  const db::StatementReset reset(*select);
  DE_TRY(const bool row, select->bind_text(1, sink).step());
  return row ? static_cast<std::uint64_t>(select->integer(0)) : 0;
}

Result<std::optional<Timestamp>> Reader::oldest_undelivered(const std::string& sink) {
  // Of what was never tried the first is the oldest; of what is tried again there is never much.
  DE_TRY(auto* select,
         impl_->statements->get(
             "SELECT min(time) FROM (SELECT * FROM (SELECT time FROM outbox WHERE sink=?1 AND next_attempt=0 ORDER BY "
             "outbox_id LIMIT 1) UNION ALL SELECT min(time) FROM outbox WHERE sink=?1 AND next_attempt>0)"));
  const db::StatementReset reset(*select);
  DE_TRY(const bool row, select->bind_text(1, sink).step());
  if (!row) return std::nullopt;
  return optional_time(*select, 0);
}

Result<std::map<std::string, std::uint64_t>> Reader::dead_letter_counts() {
  DE_TRY(auto* select, impl_->statements->get("SELECT sink, count(*) FROM dead_letters GROUP BY sink"));
  const db::StatementReset reset(*select);
  std::map<std::string, std::uint64_t> counts;
  while (true) {
    DE_TRY(const bool row, select->step());
    if (!row) return counts;
    counts[std::string(select->text(0))] = static_cast<std::uint64_t>(select->integer(1));
  }
}

Result<std::vector<SinkRecord>> Reader::sink_records() {
  DE_TRY(auto* select, impl_->statements->get("SELECT sink, type, breaker, failures, open_until, last_success, "
                                              "last_failure, last_error FROM sink_states ORDER BY sink"));
  const db::StatementReset reset(*select);
  std::vector<SinkRecord> records;
  while (true) {
    DE_TRY(const bool row, select->step());
    if (!row) return records;
    records.push_back({std::string(select->text(0)), std::string(select->text(1)), std::string(select->text(2)),
                       static_cast<std::uint32_t>(select->integer(3)), Timestamp{select->integer(4)},
                       optional_time(*select, 5), optional_time(*select, 6), std::string(select->text(7))});
  }
}

Result<Reader::RateWindow> Reader::rate_window(const std::string& sink) {
  DE_TRY(auto* select, impl_->statements->get("SELECT (SELECT started FROM rate_windows WHERE sink=?1), (SELECT "
                                              "sum(count) FROM held_alerts WHERE sink=?1)"));
  const db::StatementReset reset(*select);
  RateWindow window;
  DE_TRY(const bool row, select->bind_text(1, sink).step());
  if (!row) return window;
  window.started = optional_time(*select, 0);
  window.held = static_cast<std::uint64_t>(select->integer(1));
  return window;
}

Result<std::vector<std::string>> Reader::held_sinks() {
  DE_TRY(auto* select, impl_->statements->get("SELECT DISTINCT sink FROM held_alerts"));
  const db::StatementReset reset(*select);
  std::vector<std::string> sinks;
  while (true) {
    DE_TRY(const bool row, select->step());
    if (!row) return sinks;
    sinks.emplace_back(select->text(0));
  }
}

Result<std::vector<Reader::DeadLetter>> Reader::dead_letters(const std::vector<std::string>& sinks,
                                                             std::int64_t before_id, std::size_t limit) {
  DE_TRY(auto* select, impl_->statements->get(
                           "SELECT d.dead_letter_id, d.alert_id, d.sink, d.attempts, d.time, d.reason, "
                           "d.response_code, a.rule_id, a.severity, a.title FROM dead_letters d LEFT JOIN alerts a "
                           "ON a.alert_id=d.alert_id WHERE d.dead_letter_id<? ORDER BY d.dead_letter_id DESC"));
  const db::StatementReset reset(*select);
  select->bind(1, before_id);
  std::vector<DeadLetter> found;
  while (found.size() < limit) {
    DE_TRY(const bool row, select->step());
    if (!row) break;
    const auto text = [&](int column) { return std::string(select->text(column)); };
    if (!sinks.empty() && std::ranges::find(sinks, select->text(2)) == sinks.end()) continue;
    DeadLetter one{select->integer(0),
                   text(1),
                   text(2),
                   text(5),
                   text(7),
                   text(8),
                   text(9),
                   static_cast<std::uint32_t>(select->integer(3)),
                   Timestamp{select->integer(4)},
                   {}};
    if (!select->is_null(6)) one.response_code = static_cast<int>(select->integer(6));
    found.push_back(std::move(one));
  }
  return found;
}

Result<std::vector<Alert>> Reader::alerts(std::size_t limit) {
  static const std::string sql = std::string("SELECT ") + alert_columns +
                                 " FROM alerts a JOIN alert_state s ON s.alert_id=a.alert_id "
                                 "ORDER BY a.time DESC, a.rowid DESC LIMIT ?";
  DE_TRY(auto* select, impl_->statements->get(sql));
  const db::StatementReset reset(*select);
  select->bind(1, static_cast<std::int64_t>(std::min<std::size_t>(limit, INT64_MAX)));
  std::vector<Alert> found;
  while (true) {
    DE_TRY(const bool row, select->step());
    if (!row) return found;
    DE_TRY(auto alert, read_alert(*select, 0));
    found.push_back(std::move(alert));
  }
}

Result<std::optional<Alert>> Reader::alert(const std::string& alert_id) {
  static const std::string sql = std::string("SELECT ") + alert_columns +
                                 " FROM alerts a JOIN alert_state s ON s.alert_id=a.alert_id WHERE a.alert_id=?";
  DE_TRY(auto* select, impl_->statements->get(sql));
  const db::StatementReset reset(*select);
  DE_TRY(const bool row, select->bind_text(1, alert_id).step());
  if (!row) return std::nullopt;
  DE_TRY(auto alert, read_alert(*select, 0));
  return alert;
}

Result<std::vector<Reader::AlertChange>> Reader::alert_changes(const std::string& alert_id) {
  DE_TRY(auto* select, impl_->statements->get("SELECT time, actor, from_status, to_status, note FROM alert_changes "
                                              "WHERE alert_id=? ORDER BY change_id"));
  const db::StatementReset reset(*select);
  select->bind_text(1, alert_id);
  std::vector<AlertChange> changes;
  while (true) {
    DE_TRY(const bool row, select->step());
    if (!row) return changes;
    changes.push_back({Timestamp{select->integer(0)}, std::string(select->text(1)), std::string(select->text(2)),
                       std::string(select->text(3)), std::string(select->text(4))});
  }
}

Result<std::int64_t> Reader::last_alert_row() {
  DE_TRY(auto* select, impl_->statements->get("SELECT coalesce(max(rowid), 0) FROM alerts"));
  const db::StatementReset reset(*select);
  DE_CHECK(select->step());
  return select->integer(0);
}

Result<std::vector<Alert>> Reader::alerts_after(std::int64_t& row, Window window, std::uint64_t* passed) {
  static const std::string sql = std::string("SELECT a.rowid, ") + alert_columns +
                                 " FROM alerts a CROSS JOIN alert_state s ON s.alert_id=a.alert_id WHERE a.rowid>? "
                                 "ORDER BY a.rowid";
  DE_TRY(auto* select, impl_->statements->get(sql));
  const db::StatementReset reset(*select);
  select->bind(1, row);
  std::vector<Alert> found;
  std::size_t bytes = 0;
  std::uint64_t unreadable = 0;
  while (found.size() < window.entries && bytes < window.bytes) {
    DE_TRY(const bool more, select->step());
    if (!more) break;
    auto alert = read_alert(*select, 1);
    if (!alert) {
      ++unreadable;
      continue;
    }
    // Passed for good with the next one that can be read: the place is always that of an alert which was given.
    if (passed != nullptr) *passed += std::exchange(unreadable, 0);
    row = select->integer(0);
    bytes += size_of(*alert);
    found.push_back(*std::move(alert));
  }
  return found;
}

}  // namespace daemoneye::store
