// Reading the event store: in the agent, and in other processes while it runs and while it does not.
#pragma once

#include <bitset>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/time.h"
#include "db/database.h"
#include "event/columns.h"
#include "event/completeness.h"
#include "predicate/predicate.h"
#include "store/alert.h"
#include "store/column_view.h"
#include "store/writer.h"

namespace daemoneye::store {

using ColumnSet = std::bitset<event::column_count>;

// A view of one value; text lives until the cursor's next block (see EventScan::next).
using ValueView = std::variant<std::monostate, std::int64_t, double, std::string_view>;
event::Value to_value(const ValueView& view);  // a copy that keeps

struct ScanRequest {
  event::TimeRange time;
  std::optional<event::EventId> first_event, last_event;  // both inclusive
  std::vector<predicate::Condition> conditions;  // all must hold; applied exactly (once a dictionary entry where text)
  ColumnSet columns;          // what value() will be asked for: looked for damage, and decoded when first asked for
  bool newest_first = false;  // by event id
};

struct ScanStats {
  std::uint64_t blocks_read = 0, blocks_skipped = 0, tail_batches_read = 0, rows = 0;
  std::vector<event::Incompleteness> damage;  // corrupt_block, with its time range
};

class Reader;

// One pass over process_events in event id order, in one snapshot.
class EventScan {
 public:
  ~EventScan();
  // False at the end. `stop` is asked at least once a block; when it says so: cancelled.
  Result<bool> next();
  [[nodiscard]] event::EventId event_id() const;
  // Valid until next_block(), or until next() comes to another block. Of a column that was not among those of the
  // request and is damaged: NULL.
  [[nodiscard]] ValueView value(event::Column column) const;
  // The whole row, whatever `columns` says. At most once a row: what is held decoded is handed over. corrupt when a
  // value of it cannot be.
  Result<event::ProcessEvent> take_event();

  // Instead of next(), many rows at once: to the next block or batch of the tail that has rows which meet the
  // conditions. What is left of the one before is passed over.
  Result<bool> next_block();
  // Of that place: which of its rows meet the conditions, in the order of the scan; whether all do; the event id of row
  // 0; and the columns by row, decoded now unless they are in the request's `columns`: then corrupt may be an answer.
  // All valid until the scan moves on.
  [[nodiscard]] std::span<const std::uint32_t> rows() const;
  // event_id() and value() are of rows()[place] from now on.
  void go_to(std::size_t place);
  [[nodiscard]] bool has_all_rows() const;
  [[nodiscard]] event::EventId first_event() const;
  Result<IntegerColumn> integers(event::Column column);
  Result<RealColumn> reals(event::Column column);
  Result<TextColumn> texts(event::Column column);
  [[nodiscard]] std::string_view text(event::Column column, std::uint32_t entry);  // after texts()
  // Of all values of an integer column there, when that is known without decoding it.
  [[nodiscard]] std::optional<IntegerBounds> range(event::Column column) const;
  [[nodiscard]] bool in_tail() const;  // whether the scan stands in a batch of the tail
  // A column of it was corrupt: the place counts as damage, and none of its rows as delivered.
  void leave_damaged_block();
  [[nodiscard]] const ScanStats& stats() const;

 private:
  friend class Reader;
  struct Impl;
  explicit EventScan(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// One read-only connection. One thread at a time.
class Reader {
 public:
  // not_found when there is no file; unavailable or corrupt with the reason otherwise.
  static Result<std::unique_ptr<Reader>> open(const std::string& path);
  ~Reader();

  // The connection, on which `sql` registers its virtual tables. Reads below use the same connection, and so the
  // same snapshot while a statement or begin_snapshot() is open.
  [[nodiscard]] db::Database& database();
  // Nests; inside a transaction that is open already nothing happens.
  Result<void> begin_snapshot();
  void end_snapshot();
  // What is kept of blocks for the next lookup: by one who will not ask for a while.
  void forget_blocks();

  using ShouldStop = std::function<bool()>;
  // invalid_input when a condition does not compile. Holds a snapshot as long as it lives, and must end before the
  // reader does.
  Result<std::unique_ptr<EventScan>> scan(const ScanRequest& request, ShouldStop stop = {});
  // Of one event of a sealed block; NULL, which `stats` counts as damage, when it cannot be read. Text is valid until
  // the next call.
  Result<ValueView> value_of(event::EventId id, event::Column column, ScanStats& stats);
  // Blocks and batches of the tail that a scan of this range may have to read.
  Result<std::uint64_t> blocks_in(const event::TimeRange& range);

  // A block or a batch of the tail.
  struct Place {
    event::EventId first_event = 0, last_event = 0;
    Timestamp first_time, last_time;
  };
  // Those that a scan of this range of times and events would come by; and how many of all of them lie over one moment
  // at most.
  Result<std::vector<Place>> places(const ScanRequest& request);
  Result<std::size_t> overlapping_places();

  // Live processes: the indexed table. `key` or `pid` narrow it; each row as an event of which only `process` and the
  // parent columns count.
  Result<void> live(const std::optional<std::string>& process_key, const std::optional<std::int64_t>& pid,
                    const std::function<bool(const event::ProcessEvent&)>& each);
  // What scans tell of the living without an event.
  struct Counters {
    std::optional<double> cpu_usage;
    std::optional<std::uint64_t> memory_usage;
    event::ProcessStatus status = event::ProcessStatus::running;
    bool operator==(const Counters&) const = default;
  };
  struct Live {
    event::ProcessEvent event;  // as it is now
    Counters told;              // as the last event of it said
  };
  // Live processes by their key, those after `after`; until `each` returns false. `whole` reads the rest of the row.
  Result<void> live_counters(const std::optional<event::ProcessKey>& after,
                             const std::function<Result<bool>(const event::ProcessKey& key, const Counters& now,
                                                              const std::function<Result<Live>()>& whole)>& each);
  // Which scan that told of the living is the last one; empty: none.
  Result<std::string> last_scan();
  // One instance: live, or else ended (its newest exit event in `range`). Places where it was looked for and that are
  // damaged count in `stats`.
  struct Instance {
    event::ProcessEvent event;
    std::optional<event::EventId> exit_id;  // of the exit event; none: live
  };
  Result<std::optional<Instance>> find_instance(const event::ProcessKey& key, const event::TimeRange& range,
                                                ScanStats& stats);
  Result<std::optional<event::ProcessEvent>> find_process(const event::ProcessKey& key);
  Result<std::vector<event::ProcessKey>> live_children(const event::ProcessKey& key);

  // What is missing in `range`: recorded gaps; when the collector or the agent is not running now, from then on; and
  // what an end of the range that was asked for leaves before the beginning of the record.
  Result<event::Completeness> completeness(const event::TimeRange& range, Timestamp now);
  // Since when there is a record: what is removed by its age takes the beginning with it. None: of an import, which is
  // whole as it is, and of a store without anything.
  Result<std::optional<Timestamp>> record_begin();

  // Bookkeeping of detection and delivery.
  Result<event::EventId> stream_watermark();
  Result<event::EventId> last_event_id();
  struct Window {
    std::size_t entries = 0, bytes = 0;  // at most; of the first there may be more bytes
  };
  // What was never tried, with an outbox id above `after`, in the order of commit.
  Result<std::vector<Delivery>> first_deliveries(const std::string& sink, std::int64_t after, Window window);
  // What failed and is to be tried again by now, the longest due first. A time beyond `horizon` was given by a clock
  // that has been set back since: due as well.
  Result<std::vector<Delivery>> due_retries(const std::string& sink, Timestamp now, Timestamp horizon, Window window);
  Result<std::optional<Timestamp>> next_retry(const std::string& sink, Timestamp after);  // the first after `after`
  Result<std::uint64_t> outbox_depth(const std::string& sink);
  Result<std::optional<Timestamp>> oldest_undelivered(const std::string& sink);
  Result<std::map<std::string, std::uint64_t>> dead_letter_counts();  // by sink
  Result<std::vector<SinkRecord>> sink_records();
  struct RateWindow {
    std::optional<Timestamp> started;
    std::uint64_t held = 0;  // alerts that wait for the summary
  };
  Result<RateWindow> rate_window(const std::string& sink);
  Result<std::vector<std::string>> held_sinks();  // those for which a summary is owed
  struct DeadLetter {
    std::int64_t id = 0;
    std::string alert_id, sink, reason, rule_id, severity, title;
    std::uint32_t attempts = 0;
    Timestamp time;
    std::optional<int> response_code;
  };
  // The newest first, below `before_id`.
  Result<std::vector<DeadLetter>> dead_letters(const std::vector<std::string>& sinks, std::int64_t before_id,
                                               std::size_t limit);
  Result<std::vector<Alert>> alerts(std::size_t limit);
  Result<std::optional<Alert>> alert(const std::string& alert_id);
  struct AlertChange {
    Timestamp time;
    std::string actor, from, to, note;
  };
  Result<std::vector<AlertChange>> alert_changes(const std::string& alert_id);
  // A place in the order in which alerts are raised; 0: before all.
  Result<std::int64_t> last_alert_row();
  // Those after `row`, in order, and where to go on. What cannot be read is passed and counted on `passed`.
  Result<std::vector<Alert>> alerts_after(std::int64_t& row, Window window, std::uint64_t* passed = nullptr);

  struct BatchRow {
    event::BatchId id;
    base::Sha256Digest digest{};
    event::EventId first_event = 0, last_event = -1;
  };
  // In order of commit; of blocks that end before `from` none. corrupt when a block's list of batches is damaged; what
  // lies before it was given.
  Result<void> batches(const std::function<bool(const BatchRow&)>& each, event::EventId from = 0);
  // The canonical encoding, rebuilt from the columns when the batch is sealed: its digest must be batch.digest.
  Result<std::string> reconstruct_batch(const BatchRow& batch);

  struct Stats {
    std::string store_id;
    std::uint32_t schema_version = 0;
    std::uint64_t events = 0, batches = 0, blocks = 0, tail_batches = 0, tail_events = 0, live_processes = 0,
                  alerts = 0;
    std::uint64_t file_bytes = 0, wal_bytes = 0, free_bytes = 0, chunk_bytes = 0, tail_bytes = 0;
    std::optional<Timestamp> oldest, newest;
    bool agent_running = false;  // the writer lock is held
    struct Collector {
      std::string source;
      bool connected = false;
      Timestamp covered_until;
    };
    std::vector<Collector> collectors;
    struct GapRow {
      event::Gap gap;
      std::string source;
    };
    std::vector<GapRow> recent_gaps;  // newest first, at most 20
  };
  Result<Stats> stats();
  [[nodiscard]] const std::string& path() const;

 private:
  friend class EventScan;
  struct Impl;
  explicit Reader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace daemoneye::store
