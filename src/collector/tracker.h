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

#include "collector/hashes.h"
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

  // From now on executables are hashed. `hashes` must outlive the tracker; its outcomes go to on_hash().
  void use_hashes(Hashes& hashes) { hashes_ = &hashes; }
  void on_hash(const Hashes::Outcome& outcome, Timestamp now);

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] const Counters& counters() const { return counters_; }
  // Every living process as last known; for tasks.
  void for_each(const std::function<void(const event::ProcessEvent&)>& each) const;

 private:
  // What an exec determines. Shared: forked children run their parent's image, and keep the one their parent had when
  // it forked. Never changed once made, but for what the hashing helper finds out of it (tracker_hash.cc).
  struct Image {
    std::string name, comm;
    std::optional<std::string> executable_path;
    std::optional<event::Arguments> arguments;
    std::uint64_t arguments_bytes = 0;  // true length before truncation
    std::optional<event::ExecutableState> state;
    std::uint64_t id = 0;  // of this execution; a copy keeps it
    sensor::FileIdentity file;
    std::optional<std::string> hash;
    bool hash_settled = false;  // asked and answered
  };
  struct Entry {
    event::ProcessKey key;
    std::optional<event::ProcessKey> parent;
    std::shared_ptr<Image> image, parent_image;
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
    bool hash_awaited = false;  // its outcome will name this process and image
    bool hash_told = false;     // the last event carried it
  };

  [[nodiscard]] event::ProcessKey make_key(event::Pid pid, std::uint64_t ticks) const { return {boot_, pid, ticks}; }
  std::shared_ptr<Image> make_image(const sensor::RawProcess& raw);
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

  // tracker_hash.cc. After a start was told: asks for the hash when it was not known, and tells of another one than the
  // path held before.
  void follow_hash(Entry& entry, Timestamp now, event::EventSource source);
  // After a scan looked again: what changed of the file since.
  void refresh_hash(Entry& entry, const sensor::RawProcess& raw, Timestamp now);
  // `event` told the end of a process whose hash is still to come: it is told then.
  void keep_for_hash(const Entry& entry, const event::ProcessEvent& event);
  [[nodiscard]] static std::optional<event::ExecutableState> newer_state(const Image& image,
                                                                         const sensor::RawProcess& raw);

  Options options_;
  Hashes* hashes_ = nullptr;
  std::uint64_t last_image_ = 0;
  // Ended, and waiting for their hash. As many as may wait (Hashes::Options::waiting).
  struct Ended {
    std::uint64_t image = 0;
    event::ProcessEvent event;
  };
  std::unordered_map<event::ProcessKey, Ended> ended_unhashed_;
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
