// Private to the writer's files: what it holds, and what waits to be written.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <variant>

#include "base/backoff.h"
#include "observe/metrics.h"
#include "store/ingest.h"
#include "store/maintenance.h"
#include "store/retention.h"
#include "store/store_file.h"
#include "store/store_metrics.h"
#include "store/wal_watch.h"
#include "store/writer.h"

namespace daemoneye::store {

using base::SteadyClock;

inline constexpr auto first_optimize = std::chrono::minutes(10);
inline constexpr std::size_t measured_commits = 512;
inline constexpr auto hanging_after = std::chrono::seconds(5);  // a commit that takes longer is told as a pause
// Frames in the WAL (a page each) from which on it goes into the file: when nothing waits, and in any case.
inline constexpr int checkpoint_frames = 1000, checkpoint_frames_at_most = 1400;
inline constexpr auto first_retry = std::chrono::milliseconds(20), last_retry = std::chrono::milliseconds(2000);

struct BatchOperation {
  IncomingBatch batch;
  bool decoded = false;
  Result<Commit> result = Commit{};
  std::function<void(Result<Commit>)> done;
};
struct RaiseOperation {
  std::vector<Writer::Raise> alerts;
  std::optional<event::EventId> watermark;
  Result<std::vector<RaiseResult>> result = std::vector<RaiseResult>{};
  std::function<void(Result<std::vector<RaiseResult>>)> done;
};
struct DeliveriesOperation {
  std::vector<DeliveryRecord> records;
  std::vector<SinkRecord> sinks;
  Result<void> result;
  std::function<void(Result<void>)> done;
};
struct ChangeOperation {
  std::function<Result<void>(db::StatementCache&)> write;
  Result<void> result;
  std::function<void(Result<void>)> done;
};
struct RulesOperation {
  std::vector<RuleRow> rules;
  Result<void> result;
  std::function<void(Result<void>)> done;
};
struct ProbeOperation {
  Result<void> result;
  std::function<void(Result<void>)> done;
};
using Operation =
    std::variant<BatchOperation, RaiseOperation, DeliveriesOperation, ChangeOperation, RulesOperation, ProbeOperation>;

void finish(Operation& operation);  // gives its result to who waits for it
void set_error(Operation& operation, const Error& error);
bool is_watermark_alone(const Operation& operation);

struct Writer::Impl {
  struct Collector {
    bool connected = false;
    Timestamp until;
  };

  StoreOptions options;
  std::optional<WriterLock> lock;
  std::unique_ptr<db::Database> database;
  std::unique_ptr<db::StatementCache> statements;
  std::unique_ptr<Ingest> ingest;
  std::unique_ptr<Retention> retention;
  std::unique_ptr<WalWatch> wal_watch;
  std::unique_ptr<Maintenance> maintenance;  // while one runs
  std::string store_id;
  int wal_frames = 0, wal_frames_before = 0;  // after the last commit; when it was last looked at
  int checkpoint_at = checkpoint_frames;      // later while a reader keeps the WAL from being begun anew

  mutable std::mutex mutex;
  std::condition_variable work, room, idle;
  std::deque<Operation> queue;
  std::optional<SteadyClock::time_point> committing_since;  // of the attempt that is under way
  const std::shared_ptr<std::atomic<bool>> probing = std::make_shared<std::atomic<bool>>(false);
  bool deliveries_waited = false;  // outcomes of deliveries were put back for others
  bool busy = false, closing = false, give_up = false, drain_wanted = false;
  SteadyClock::time_point give_up_at = SteadyClock::time_point::max();
  std::map<std::string, Collector> collectors;
  bool collectors_dirty = false, collectors_urgent = false;
  SteadyClock::time_point collectors_written{}, watermark_since{};
  std::map<Ingest::EpochKey, std::uint64_t> sequences;
  State state;
  std::uint64_t sealed_counted = 0;  // of ingest's blocks, those that `state` has
  MaintenanceState maintenance_state;
  std::optional<MaintenanceRequest> maintenance_wanted;
  std::optional<StoreOptions> bounds_wanted;
  std::optional<SteadyClock::time_point> pinned_since;
  std::array<double, measured_commits> commit_ms{};
  std::size_t commits_measured = 0;

  observe::Histogram commit_seconds =
      observe::histogram("daemoneye_store_commit_seconds", "Durable commits of the store.");
  observe::Gauge queue_depth = queue_depth_gauge();
  observe::Counter removed = observe::counter("daemoneye_store_retention_events_removed_total",
                                              "Events removed because of their age or the size of the store.");
  SteadyClock::time_point next_housekeeping = SteadyClock::now() + std::chrono::seconds(1);
  SteadyClock::time_point next_wal_look = SteadyClock::now(), next_optimize = SteadyClock::now() + first_optimize;
  SteadyClock::time_point seal_again{};
  std::thread::id writer_thread;
  std::thread thread;  // last: it uses everything above

  Result<void> open();
  void submit(Operation operation);
  bool try_submit(Operation& operation);  // false, and nothing is taken: there is no room, or it closes
  void run();
  std::vector<Operation> take_group();
  void commit_group(std::vector<Operation> group);
  Result<void> try_group(std::vector<Operation>& group, std::size_t& failed);
  Result<void> apply(Operation& operation, Timestamp now);
  Result<void> check_room();
  void take_bounds();  // what set_retention() left; writer's thread
  Result<void> write_collectors(const std::map<std::string, Collector>& copy);
  bool pause(const Error& error, base::Backoff& backoff);
  void resume();
  void seal_if_due();
  void checkpoint_if_due();
  Result<void> seal_for_retention(Timestamp now);
  void count_sealed();
  void housekeeping();
  void maintenance_step();
  void watch_wal();
  void tell_checkpoints();
  void count_removed(const Retention::Removed& before);
  void after_commit(const std::vector<Operation>& group, std::chrono::nanoseconds took);
  void update_sizes();
  [[nodiscard]] SteadyClock::time_point work_due() const;  // the past: now
};

}  // namespace daemoneye::store
