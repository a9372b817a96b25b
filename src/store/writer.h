// The event store's only writer: one thread, group commit. Everything that changes the file goes through here.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "base/time.h"
#include "event/batch.h"
#include "event/completeness.h"
#include "store/alert.h"
#include "store/maintenance_state.h"

namespace daemoneye::db {
class StatementCache;
}

namespace daemoneye::store {

struct StoreOptions {
  std::string path;
  std::uint32_t retention_days = 30, max_size_mb = 4096;  // 0: no bound (an import)
  // Of the attempts to deliver alerts, and of dead letters (an alert with one stays as long); 0: no bound.
  std::uint32_t delivery_retention_days = 0, dead_letter_retention_days = 0;
  std::uint32_t block_events = 8192;
  std::uint32_t queue_capacity = 64;  // write operations that wait; submit() blocks when full
  std::string reader_group;           // given to folder and files when we may; empty: leave
};

struct Commit {
  event::BatchId id;
  event::EventId first_event = 0, last_event = -1;  // empty range: a batch without events
  Timestamp time;                                   // of the commit: `now` of its rules
  bool duplicate = false;                           // was there already; nothing changed
  bool scan = false;                                // it told the counters of the living
  // What was committed, so that who looks at each batch need not read it back. Shared: whoever is told of a commit may
  // keep it. None with a duplicate.
  std::shared_ptr<const std::string> canonical;
};

struct RaiseResult {
  std::string alert_id;  // of the alert that now stands for it
  bool merged = false;   // counted on an existing alert (dedup): nothing is delivered
};

// An outbox entry that is due.
struct Delivery {
  std::int64_t outbox_id = 0;
  std::string sink;
  std::uint32_t attempts = 0;  // made so far
  Timestamp since;             // when it began to wait
  Alert alert;
  std::string unreadable = {};  // why the alert's row cannot be read: then of `alert` only the id counts
};
struct DeliveryRecord {
  std::int64_t outbox_id = 0;           // 0: a test of the sink, of which only the attempt is kept
  std::string alert_id, sink, outcome;  // delivered | failed | dead_letter | held (no attempt was made)
  std::uint32_t attempt = 1;
  Timestamp time;
  std::int64_t duration_ms = 0;
  std::string error;
  std::optional<int> response_code;
  std::optional<Timestamp> next_attempt;  // when failed and to be tried again
};

// Where an alert goes. With a limit: so many alerts a window at most; what is beyond is counted, and told by a summary.
struct Route {
  Route(std::string name, std::uint32_t limit_ = 0, std::chrono::milliseconds window_ = {})  // NOLINT: a name is one
      : sink(std::move(name)), limit(limit_), window(window_) {}
  Route(const char* name) : Route(std::string(name)) {}  // NOLINT: as above
  std::string sink;
  std::uint32_t limit;  // 0: none
  std::chrono::milliseconds window;
  bool operator==(const Route&) const = default;
};

// What is known of a sink beyond one start of the agent.
struct SinkRecord {
  std::string sink, type;
  std::string breaker = "closed";  // closed | open | half_open
  std::uint32_t failures = 0;      // in a row
  Timestamp open_until;
  std::optional<Timestamp> last_success, last_failure;
  std::string last_error;  // empty after a success
};

struct RuleRow {
  std::string rule_id, title, severity, status, state, reason, sql, file, version;
  Timestamp loaded_at;
};

class Writer {
 public:
  // Opens or creates, migrates, takes the writer lock beside the file (unavailable when another agent holds it).
  static Result<std::unique_ptr<Writer>> open(const StoreOptions& options);
  ~Writer();  // drains, seals nothing, checkpoints

  [[nodiscard]] std::string store_id() const;
  [[nodiscard]] std::uint64_t committed_sequence(const std::string& source, const event::Epoch& epoch) const;
  [[nodiscard]] std::optional<Timestamp> covered_until(const std::string& source) const;

  // Each call below queues one operation and returns; `done` runs in the writer's thread after its commit (or with
  // the error, when nothing of it was kept). A full disk or I/O error: the operation stays queued and is tried again
  // with backoff, ingestion waits, state() says so; it is given up only by close(). Callable from any thread; blocks
  // while the queue is full.
  // `missing`: what the store lacks before this batch (a copy from before, or another store): kept as a gap with it.
  void commit_batch(event::BatchId id, std::string canonical, base::Sha256Digest digest, std::string scan,
                    std::function<void(Result<Commit>)> done, std::optional<event::Gap> missing = std::nullopt);
  // Inserts or merges (same dedup_key with last_seen within `dedup_window`) each alert, an outbox entry for each of
  // its sinks when inserted, and the stream watermark (last evaluated event id), in one transaction.
  struct Raise {
    Alert alert;
    std::chrono::milliseconds dedup_window{0};
    std::vector<Route> sinks;
    // It repeats a closed alert as well when that was closed at this time or later: what it tells was there already.
    // None: it never does.
    std::optional<Timestamp> repeats_closed_since = std::nullopt;
  };
  // A watermark alone rides on the next commit, or is written within a second.
  void raise(std::vector<Raise> alerts, std::optional<event::EventId> watermark,
             std::function<void(Result<std::vector<RaiseResult>>)> done);
  void record_deliveries(std::vector<DeliveryRecord> records, std::function<void(Result<void>)> done,
                         std::vector<SinkRecord> sinks = {});
  // Any other change of the tables of alerting (alert_changes.h), small: ingestion waits for it. `write` runs in the
  // writer's thread, inside its transaction, and again when that transaction is tried again.
  void change(std::function<Result<void>(db::StatementCache&)> write, std::function<void(Result<void>)> done);
  // The same for who must not wait for room: without any, `done` is called with unavailable at once.
  void change_unless_full(std::function<Result<void>(db::StatementCache&)> write,
                          std::function<void(Result<void>)> done);
  // Whether a batch can be queued without waiting, and leaves room for what operators ask.
  [[nodiscard]] bool has_room() const;
  void replace_rules(std::vector<RuleRow> rules, std::function<void(Result<void>)> done);
  // The collector is alive (nothing unsent up to `until`) or gone since `until`; in memory at once, on disk with the
  // next commit or within heartbeat_flush.
  void set_collector(const std::string& source, bool connected, Timestamp until);

  // A small durable commit of its own, to see that it works and how long it takes.
  void probe(std::function<void(Result<void>)> done);

  // Other bounds than it was opened with, from the next quiet moment on: days and size of the events, days of
  // deliveries and dead letters. Nothing else of `bounds` counts.
  void set_retention(const StoreOptions& bounds);

  // Begins what an operator asks for; done between batches. unavailable while another one runs. `before` is called when
  // nothing is in the way any more, and its error keeps it from beginning; it must not use the writer.
  Result<std::uint64_t> start_maintenance(const MaintenanceRequest& request,
                                          const std::function<Result<void>()>& before = {});
  [[nodiscard]] MaintenanceState maintenance() const;  // of the last one

  // The state that health shows. Any thread.
  struct State {
    bool paused = false;  // writes fail at the moment
    std::string reason;
    std::uint64_t events = 0, batches = 0, blocks = 0, duplicates = 0, commits = 0;
    std::uint64_t retention_events_removed = 0, retention_rows_removed = 0;
    std::uint64_t retention_events_by_size = 0;  // of those: removed before their time, to keep to max_size_mb
    std::string retention_damage;                // the last that removing met; until the next start
    std::string sealing_error;                   // why events stay in the tail; empty when the last block was sealed
    std::string checkpoint_error;                // why the WAL does not go into the file; empty: it does
    std::string housekeeping_error;              // why it ended early the last time
    bool over_size = false;                      // larger than allowed, and nothing left that may go
    double commit_p50_ms = 0, commit_p99_ms = 0;
    std::uint64_t file_bytes = 0, wal_bytes = 0;
    // Readers keep the WAL from being reset, for so many seconds: "pid 123 (name)" each.
    std::optional<double> wal_pinned_s;
    std::vector<std::string> wal_pinned_by;
  };
  [[nodiscard]] State state() const;
  // Waits until everything queued before is committed, or the deadline.
  bool drain(Deadline deadline);
  // Stops taking operations, drains until the deadline, gives the rest back with an error, closes the file.
  void close(Deadline deadline);

 private:
  struct Impl;
  explicit Writer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace daemoneye::store
