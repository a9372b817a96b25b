#include "store/schema.h"

namespace daemoneye::store {

const std::vector<std::string>& schema_steps() {
  static const std::vector<std::string> steps = {
      R"sql(
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE epochs(
  epoch_id INTEGER PRIMARY KEY, source TEXT NOT NULL, epoch BLOB NOT NULL,
  last_sequence INTEGER NOT NULL, -- of the batches that have left the tail
  last_scan_id INTEGER, last_scan_time INTEGER,
  UNIQUE(source, epoch));
CREATE TABLE tail(
  batch_no INTEGER PRIMARY KEY, epoch_id INTEGER NOT NULL, sequence INTEGER NOT NULL, digest BLOB NOT NULL,
  first_event INTEGER NOT NULL, events INTEGER NOT NULL, first_time INTEGER, last_time INTEGER,
  ended BLOB NOT NULL,     -- hashes of the process keys of its exit events, 8 bytes each
  canonical BLOB NOT NULL  -- framed as a chunk with the id batch_no
);
CREATE TABLE blocks(
  block_id INTEGER PRIMARY KEY, first_event INTEGER NOT NULL, last_event INTEGER NOT NULL, events INTEGER NOT NULL,
  batches INTEGER NOT NULL, first_time INTEGER, last_time INTEGER, bytes INTEGER NOT NULL);
CREATE TABLE chunks(chunk_id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE live(
  pid INTEGER NOT NULL, start_ticks INTEGER NOT NULL, boot BLOB NOT NULL, parent_pid INTEGER,
  epoch_id INTEGER NOT NULL, time INTEGER NOT NULL, cpu_usage REAL, memory_usage INTEGER, status INTEGER NOT NULL,
  event BLOB NOT NULL,     -- as in a batch
  PRIMARY KEY(pid, start_ticks, boot)) WITHOUT ROWID;
CREATE INDEX live_parent ON live(parent_pid);
CREATE TABLE gaps(
  gap_id INTEGER PRIMARY KEY, from_time INTEGER NOT NULL, to_time INTEGER NOT NULL, reason TEXT NOT NULL,
  count INTEGER, source TEXT NOT NULL, event_id INTEGER);
CREATE TABLE collectors(source TEXT PRIMARY KEY, connected INTEGER NOT NULL, covered_until INTEGER NOT NULL)
  WITHOUT ROWID;
CREATE TABLE scans(
  scan_id INTEGER NOT NULL, time INTEGER NOT NULL, duration_ms INTEGER NOT NULL, source TEXT NOT NULL,
  processes INTEGER NOT NULL, errors INTEGER NOT NULL, lost_events INTEGER NOT NULL);
CREATE INDEX scans_time ON scans(time);
CREATE TABLE alerts(
  alert_id TEXT PRIMARY KEY, time INTEGER NOT NULL, last_seen INTEGER NOT NULL, count INTEGER NOT NULL,
  rule_id TEXT NOT NULL, severity TEXT NOT NULL, title TEXT NOT NULL, description TEXT NOT NULL, status TEXT NOT NULL,
  process_key TEXT, pid INTEGER, name TEXT, executable_path TEXT, command_line TEXT, row TEXT NOT NULL,
  evidence TEXT NOT NULL, correlation_id TEXT NOT NULL, completeness TEXT NOT NULL, host TEXT NOT NULL,
  agent_version TEXT NOT NULL);
CREATE INDEX alerts_time ON alerts(time);
CREATE TABLE alert_state(
  alert_id TEXT PRIMARY KEY, dedup_key TEXT NOT NULL, last_seen INTEGER NOT NULL, process TEXT NOT NULL)
  WITHOUT ROWID;
CREATE INDEX alert_state_dedup ON alert_state(dedup_key, last_seen);
CREATE TABLE outbox(
  outbox_id INTEGER PRIMARY KEY AUTOINCREMENT, alert_id TEXT NOT NULL, sink TEXT NOT NULL, attempts INTEGER NOT NULL,
  next_attempt INTEGER NOT NULL);
CREATE INDEX outbox_due ON outbox(sink, next_attempt);
CREATE TABLE alert_deliveries(
  delivery_id INTEGER PRIMARY KEY, alert_id TEXT NOT NULL, sink TEXT NOT NULL, attempt INTEGER NOT NULL,
  time INTEGER NOT NULL, duration_ms INTEGER NOT NULL, outcome TEXT NOT NULL, error TEXT, response_code INTEGER);
CREATE INDEX alert_deliveries_alert ON alert_deliveries(alert_id);
CREATE TABLE detection_rules(
  rule_id TEXT PRIMARY KEY, title TEXT NOT NULL, severity TEXT NOT NULL, status TEXT NOT NULL, state TEXT NOT NULL,
  reason TEXT, sql TEXT NOT NULL, file TEXT NOT NULL, version TEXT NOT NULL, loaded_at INTEGER NOT NULL);
INSERT INTO meta VALUES('store_id', lower(hex(randomblob(16)))), ('next_event', 1), ('stream_watermark', 0);
)sql",
      // Alerts: tags, what is known of sinks beyond one start, dead letters of their own, rate limits, changes.
      R"sql(
ALTER TABLE alerts ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
ALTER TABLE outbox ADD COLUMN time INTEGER NOT NULL DEFAULT 0; -- the alert's
UPDATE outbox SET time=coalesce((SELECT a.time FROM alerts a WHERE a.alert_id=outbox.alert_id), 0),
  next_attempt=CASE attempts WHEN 0 THEN 0 ELSE next_attempt END;
CREATE TABLE dead_letters(
  dead_letter_id INTEGER PRIMARY KEY AUTOINCREMENT, alert_id TEXT NOT NULL, sink TEXT NOT NULL,
  attempts INTEGER NOT NULL, time INTEGER NOT NULL, reason TEXT NOT NULL, response_code INTEGER);
CREATE UNIQUE INDEX dead_letters_alert ON dead_letters(alert_id, sink);
CREATE INDEX dead_letters_sink ON dead_letters(sink);
INSERT INTO dead_letters(alert_id, sink, attempts, time, reason, response_code)
  SELECT alert_id, sink, attempt, max(time), coalesce(error, ''), response_code FROM alert_deliveries
  WHERE outcome='dead_letter' AND alert_id IN (SELECT alert_id FROM alerts) GROUP BY alert_id, sink;
CREATE TABLE sink_states(
  sink TEXT PRIMARY KEY, type TEXT NOT NULL, breaker TEXT NOT NULL, failures INTEGER NOT NULL,
  open_until INTEGER NOT NULL, last_success INTEGER, last_failure INTEGER, last_error TEXT) WITHOUT ROWID;
CREATE TABLE rate_windows(sink TEXT PRIMARY KEY, started INTEGER NOT NULL, passed INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE held_alerts(
  sink TEXT NOT NULL, rule_id TEXT NOT NULL, severity TEXT NOT NULL, count INTEGER NOT NULL,
  first_time INTEGER NOT NULL, last_time INTEGER NOT NULL, PRIMARY KEY(sink, rule_id, severity)) WITHOUT ROWID;
CREATE TABLE alert_changes(
  change_id INTEGER PRIMARY KEY, alert_id TEXT NOT NULL, time INTEGER NOT NULL, actor TEXT NOT NULL,
  from_status TEXT NOT NULL, to_status TEXT NOT NULL, note TEXT);
CREATE INDEX alert_changes_alert ON alert_changes(alert_id);
)sql",
      // What operators have changed of rules without editing their files.
      R"sql(
CREATE TABLE rule_overrides(
  rule_id TEXT PRIMARY KEY, status TEXT, severity TEXT, actor TEXT NOT NULL, time INTEGER NOT NULL, note TEXT)
  WITHOUT ROWID;
)sql",
  };
  return steps;
}

}  // namespace daemoneye::store
