// The process table: turns what sources see into events with identity, parents and masked arguments. Knows nothing of
// kernels, files or sockets. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "collector/names.h"
#include "event/batch.h"
#include "event/process_event.h"
#include "predicate/predicate.h"
#include "sensor/source.h"

namespace daemoneye::collector {

class Tracker {
 public:
  struct Options {
    std::size_t max_processes = 32768;  // more are reported, but without memory of their parents
    bool mask_arguments = true;
    bool store_forks = false;
    std::vector<predicate::Predicate> exclude;  // an event that matches one is not emitted, but counted
  };
  struct Counters {
    std::uint64_t emitted = 0, excluded = 0, refused = 0, untracked = 0, masked = 0;
  };
  // Takes the event, or refuses it (no room): then it is told again in another form by the next scan.
  using Emit = std::function<bool(const event::ProcessEvent&)>;

  Tracker(Options options, event::BootId boot, Timestamp boot_time, Emit emit);

  // A real-time event, in the order the kernel gave it.
  void on_event(const sensor::RawEvent& raw, event::EventSource source);

  // A scan: begin, every process found, end. `realtime` says whether a real-time source runs beside it, whose events up
  // to each record were handed to on_event() before that record. end_scan() closes what the scan did not find and
  // gives the counters of the living.
  void begin_scan(std::uint64_t scan_id, Timestamp now, bool realtime);
  void on_scanned(const sensor::RawProcess& raw, Timestamp now);
  std::vector<event::LiveUpdate> end_scan(Timestamp now);

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] const Counters& counters() const { return counters_; }
  // Every living process as last known; for tasks.
  void for_each(const std::function<void(const event::ProcessEvent&)>& each) const;

 private:
  // What an exec determines. Shared, and never changed once made: forked children run their parent's image, and keep
  // the one their parent had when it forked.
  struct Image {
    std::string name, comm;
    std::optional<std::string> executable_path;
    std::optional<event::Arguments> arguments;
    std::uint64_t arguments_bytes = 0;  // true length before truncation
    std::optional<event::ExecutableState> state;
  };
  struct Entry {
    event::ProcessKey key;
    std::optional<event::ProcessKey> parent;
    std::shared_ptr<const Image> image, parent_image;
    std::optional<std::string> cwd, tty, cgroup, container;
    std::optional<std::uint32_t> uid, gid, euid, loginuid, session_id;
    std::optional<event::ProcessStatus> status;
    std::optional<std::uint64_t> resident_bytes, cpu_ticks;
    std::optional<double> cpu_usage;
    Timestamp first_seen, sampled;
    std::uint64_t scan_id = 0;  // of the last scan that found it
    bool announced = false;     // a start of it was emitted
    bool retell = false;        // what it is now was refused: the next scan tells it
    bool kernel_thread = false;
  };

  [[nodiscard]] event::ProcessKey make_key(event::Pid pid, std::uint64_t ticks) const { return {boot_, pid, ticks}; }
  std::shared_ptr<const Image> make_image(const sensor::RawProcess& raw);
  void take_fields(Entry& entry, const sensor::RawProcess& raw) const;
  void take_parent(Entry& entry, const sensor::RawProcess& raw) const;
  Entry* find(event::Pid pid, std::uint64_t ticks);
  // The entry for a new instance; one that had the pid before is closed. Null when the table is full.
  Entry* insert(Entry entry, Timestamp now);
  void on_fork(const sensor::RawEvent& raw, event::EventSource source);
  void on_exec(const sensor::RawEvent& raw, event::EventSource source);
  void on_exit(const sensor::RawEvent& raw, event::EventSource source);
  bool remember_end(const event::ProcessKey& key);  // false: it was told before
  void reconcile(Entry& entry, const sensor::RawProcess& raw, Timestamp now);
  void sample(Entry& entry, const sensor::RawProcess& raw, Timestamp now) const;
  void announce_ancestors(const Entry& entry, Timestamp now, event::EventSource source);
  // Tells the end of `entry`, which no event told. False when it was refused.
  bool close_missed(const Entry& entry, Timestamp now);
  [[nodiscard]] event::ProcessEvent describe(const Entry& entry, Timestamp now) const;
  bool emit(event::ProcessEvent& event, event::EventKind kind, event::EventSource source, Timestamp time,
            std::string detail);

  Options options_;
  event::BootId boot_;
  Timestamp boot_time_;
  Emit emit_;
  UserNames users_;
  Counters counters_;
  std::unordered_map<event::Pid, Entry> entries_;
  // Ended lately: a source may tell the end of one process twice (two last threads that die at the same moment).
  static constexpr std::size_t max_remembered_ends = 1024;
  std::unordered_set<event::ProcessKey> ended_;
  std::deque<event::ProcessKey> ended_order_;
  // Found by scans and told, but not in the table for lack of room; as many as live beyond it.
  std::unordered_set<event::ProcessKey> untracked_told_;
  struct Scan {
    std::uint64_t id = 0;
    Timestamp begin;
    bool running = false, realtime = false, first = true;
    std::unordered_set<event::ProcessKey> untracked;  // met in this scan
    std::unordered_set<event::ProcessKey> ended;      // while it runs: their records may still be on the way
  } scan_;
};

}  // namespace daemoneye::collector
