// procmond's work, wired: sources feed the tracker, the tracker feeds the uplink. One thread: the loop's.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "collector/clock_watch.h"
#include "collector/hashes.h"
#include "collector/tasks.h"
#include "collector/tracker.h"
#include "collector/uplink.h"
#include "ledger/ledger.h"
#include "observe/health.h"
#include "observe/process_use.h"
#include "sensor/source.h"

namespace daemoneye::collector {

class Collector {
 public:
  struct Parts {
    std::unique_ptr<sensor::Source> source;      // may be null: then scans alone see processes
    std::unique_ptr<sensor::Snapshot> snapshot;  // never null
    std::unique_ptr<ledger::Ledger> ledger;      // never null
    event::BootId boot{};
    Timestamp boot_time;
    std::unique_ptr<Hashes> hashes = nullptr;  // null: executables are not to be hashed
    // Looks where `snapshot` fails; null: then that scan fails.
    std::unique_ptr<sensor::Snapshot> spare_snapshot = nullptr;
  };
  struct Options {
    Uplink::Options uplink;
    Tracker::Options tracker;
    Tasks::Options tasks;
    std::chrono::milliseconds scan_interval{30000};
    double scan_cpu_percent = 5;  // of one core: scans that cost more come less often
    std::string source_reason;    // why this source, for health
    std::string source_limits;    // why there is no better source, for health; empty when it is the best
    std::function<std::vector<observe::ComponentHealth>()> own_health;  // of the program around it: capabilities
  };
  static constexpr std::size_t max_owed_entries = 256;
  // Of so many scans one looks at everything; the others at counters, unless something calls for more.
  static constexpr int full_scan_every = 10;

  Collector(EventLoop& loop, Options options, Parts parts, Tasks::Capabilities capabilities);
  ~Collector();

  // Starts the source, takes the first picture, starts the timers. An error: nothing could be seen at all.
  Result<void> start();
  void attach(UniqueFd socket) { uplink_.attach(std::move(socket)); }
  [[nodiscard]] bool connected() const { return uplink_.attached(); }
  // Hands over what is there, then calls `done`: when all is acknowledged, or at the deadline, or at once when there
  // is no agent.
  void stop(std::chrono::milliseconds grace, std::function<void()> done);

  // What a reload of the configuration may change.
  struct Live {
    bool mask_arguments = true, store_forks = false;
    std::vector<predicate::Predicate> exclude;
    std::chrono::milliseconds scan_interval{30000}, checkpoint_interval{300000};
    std::uint64_t checkpoint_entries = 10'000;
    unsigned hash_cpu_percent = 10;
  };
  Result<void> reconfigure(Live live);
  // In the ledger, after what waits to be there; waits itself while the ledger cannot be written. False: it waits.
  bool record(const std::string& action, const std::string& payload);

  struct ScanCounters {
    std::uint64_t full = 0, counters = 0, failed = 0;
    std::uint64_t stretched = 0;  // left out, for what the one before had cost
  };
  [[nodiscard]] const ScanCounters& scans() const { return scans_; }
  [[nodiscard]] std::vector<observe::ComponentHealth> health() const;

  // The source died while running, or did not start: what to exit with. Set before start().
  std::function<void(const Error&)> on_source_failure;

 private:
  [[nodiscard]] Tasks::HashPath hash_path() const;
  Result<void> start_scan_timer();
  void on_raw(const sensor::RawEvent& raw);
  void on_scan_timer();
  void scan();
  bool scan(sensor::Depth depth);  // false: it failed
  Result<sensor::SnapshotResult> look(sensor::Depth depth, Moment begin);
  Result<sensor::SnapshotResult> look(sensor::Snapshot& snapshot, sensor::Depth depth, Moment begin);
  [[nodiscard]] sensor::Snapshot& snapshot_in_use() const {
    return snapshot_problem_.empty() ? *parts_.snapshot : *parts_.spare_snapshot;
  }
  [[nodiscard]] sensor::Depth due_depth() const;
  [[nodiscard]] std::uint64_t losses() const;
  void check_losses();
  void on_gap(const event::Gap& gap);
  void seal();
  void record_acknowledged();
  void beat();
  void finish_stop();  // when all is acknowledged, or nobody is there to do so
  void end_stop();
  void measure_use();
  void tidy_up();
  void publish_metrics();
  void count(const std::string& name, const char* help, std::uint64_t total,
             const std::map<std::string, std::string>& labels = {});
  [[nodiscard]] observe::ComponentHealth collector_health() const;
  [[nodiscard]] observe::ComponentHealth ledger_health() const;
  bool write_owed_entries();

  EventLoop& loop_;
  Options options_;
  Parts parts_;
  Tracker tracker_;
  Uplink uplink_;
  Tasks tasks_;
  std::vector<EventLoop::TimerId> timers_;
  std::optional<EventLoop::TimerId> scan_timer_;
  std::uint64_t scan_id_ = 0;
  std::uint64_t lost_reported_ = 0, lost_before_scan_ = 0;
  Moment losses_checked_;
  struct LastScan {
    Timestamp time;
    std::chrono::nanoseconds duration{0}, cpu{0};
    sensor::Depth depth = sensor::Depth::full;
    sensor::SnapshotResult result;
    std::string error;
  } last_scan_;
  ScanCounters scans_;
  std::string snapshot_problem_;  // why the spare one is in use; empty while it is not
  int scans_since_full_ = 0;
  std::uint64_t tidied_after_ = 0;    // scans, when memory was last given back
  std::uint64_t losses_at_full_ = 0;  // losses() when the last full scan began
  base::SteadyClock::time_point next_scan_allowed_{};
  std::optional<event::Gap> recent_loss_;
  ClockWatch clock_watch_;
  observe::ProcessUse use_;  // of this process and the hashing helper
  base::SteadyClock::time_point next_use_{};
  std::string ledger_error_;
  std::uint64_t acknowledged_told_ = 0;  // to the ledger
  base::SteadyClock::time_point acknowledged_told_at_{};
  std::deque<ledger::NewEntry> owed_entries_;  // of the ledger: could not be written yet
  struct LostEntries {
    std::uint64_t count = 0;
    Timestamp from, to;
  } lost_entries_;                                  // found no room among these; an entry that follows them tells
  std::uint64_t entries_lost_ = 0;                  // ever
  std::map<std::string, std::uint64_t> published_;  // counters as the metrics have them, by name and labels
  std::function<void()> stop_done_;
};

}  // namespace daemoneye::collector
