// The process table: turns what sources see into events with identity, parents and masked arguments. Knows nothing of
// kernels, files or sockets. One thread.
//
// What it promises of each process instance (tracker_property_test.cc), whatever is lost, repeated or late: its first
// event is its start (exec, fork or seen), once; more execs and changes may follow; its last is its exit, once. Only
// the change that brings the hash of what was gone before it was known comes after that.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "collector/account.h"
#include "collector/clock_watch.h"
#include "collector/ends.h"
#include "collector/hashes.h"
#include "collector/names.h"
#include "collector/places.h"
#include "event/batch.h"
#include "event/process_event.h"
#include "predicate/predicate.h"
#include "sensor/source.h"

namespace daemoneye::collector {

class Tracker {
 public:
  struct Options {
    std::size_t max_processes = 32768;  // more are reported, but without memory of their parents
    std::size_t max_bytes = SIZE_MAX;   // of the table and what it keeps of the ended: as with too many processes
    bool mask_arguments = true;
    bool store_forks = false;
    std::vector<predicate::Predicate> exclude;         // an event that matches one is not emitted, but counted
    std::optional<sensor::Namespaces> own_namespaces;  // others than these are told in `detail`; absent: none are
  };
  struct Counters {
    std::uint64_t emitted = 0, untracked = 0, masked = 0;
    std::uint64_t refused = 0;            // and lost
    std::uint64_t shortened = 0;          // argument lists that are kept short: the start told them whole
    std::uint64_t not_kept_for_hash = 0;  // ended before their hash was known, and there was no room to wait for it
    std::uint64_t late = 0;               // told a second time, or after the end of its process was told: dropped
    std::uint64_t excluded = 0;
    std::vector<std::uint64_t> excluded_by;  // by the first predicate that matched, in the order of Options::exclude
  };
  // What a refusal means: that event is lost, and only its process is told later, in another form; or the tracker
  // keeps what it tells, and offers it again.
  enum class Refused : std::uint8_t { lost, kept };
  // Takes the event, or refuses it (no room). The reference lives for the call.
  using Emit = std::function<bool(const event::ProcessEvent&, Refused)>;

  Tracker(Options options, event::BootId boot, Timestamp boot_time, Emit emit);
  Tracker(const Tracker&) = delete;
  Tracker& operator=(const Tracker&) = delete;

  // What is masked, stored and left out of what is seen from now on.
  void retune(bool mask_arguments, bool store_forks, std::vector<predicate::Predicate> exclude);

  // A real-time event, in the order the kernel gave it.
  void on_event(const sensor::RawEvent& raw, event::EventSource source);

  // A scan: begin, every process found, end. `realtime` says whether a real-time source runs beside it, whose events up
  // to each record were handed to on_event() before that record. end_scan() closes what the scan did not find and
  // gives the counters of the living. A scan of counters cannot tell what it meets for the first time: then
  // wants_full_scan() says so, and a full one should follow at once.
  void begin_scan(std::uint64_t scan_id, Moment now, bool realtime, sensor::Depth depth = sensor::Depth::full);
  void on_scanned(const sensor::RawProcess& raw, Moment now);
  // Pids that were there, of which nothing more could be read: whom the table knows by them has not vanished.
  void on_unreadable(std::vector<event::Pid> pids);
  // Processes of others are out of this scan's sight: whom no scan ever found has not vanished.
  void on_others_hidden() { scan_.others_hidden = true; }
  std::vector<event::LiveUpdate> end_scan(Moment now);
  // Instead of end_scan(), when the scan did not reach its end: nothing may be called vanished.
  void abandon_scan(Moment now);
  [[nodiscard]] bool wants_full_scan() const { return scan_.wants_full; }

  // Offers the ends that were refused, the first one first, until one is refused again. end_scan() does so, too.
  void tell_owed();
  // The earliest time of an end that is still owed: until it is told nothing from there on is whole.
  [[nodiscard]] std::optional<Timestamp> owed_since() const;

  // From now on executables are hashed. `hashes` must outlive the tracker; its outcomes go to on_hash().
  void use_hashes(Hashes& hashes) { hashes_ = &hashes; }
  void on_hash(const Hashes::Outcome& outcome, Timestamp now);

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] std::size_t untracked_size() const { return untracked_.size(); }
  // What is kept, in bytes. From three quarters of max_bytes on long arguments are kept short.
  [[nodiscard]] std::size_t bytes() const;
  [[nodiscard]] bool is_short_of_memory() const { return bytes() > options_.max_bytes / 4 * 3; }
  static constexpr std::size_t kept_argument_bytes = 256;
  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] const Counters& counters() const { return counters_; }
  // The living, by pid in no order; and one of them as last known, null when it is not in the table. The event is
  // overwritten by the next call of any member.
  [[nodiscard]] std::vector<event::Pid> pids() const;
  const event::ProcessEvent* look_up(event::Pid pid);

 private:
  // What an exec determines. Shared: forked children run their parent's image, and keep the one their parent had when
  // it forked. Never changed once made, but for what the hashing helper finds out of it (tracker_hash.cc).
  struct Image {
    std::string name, comm;
    std::optional<std::string> executable_path;
    std::optional<event::Arguments> arguments;
    std::optional<event::ExecutableState> state;
    sensor::FileIdentity file;
    std::string detail;    // its share of an event's `detail`, as Place::detail
    std::uint64_t id = 0;  // of this execution; a copy keeps it
    std::optional<std::string> hash;
    bool hash_settled = false;          // asked and answered
    bool told = false;                  // some event carried it whole
    bool shortened = false;             // its arguments are kept short since
    std::uint64_t arguments_bytes = 0;  // their true length
    Account::Share share;
  };
  struct Entry {
    event::Pid pid = 0, parent_pid = 0;  // 0: no parent is known
    std::uint64_t start_ticks = 0, parent_ticks = 0;
    std::shared_ptr<Image> image, parent_image;
    std::shared_ptr<const Place> place;
    std::optional<std::uint64_t> resident_bytes, cpu_ticks;
    std::optional<double> cpu_usage;
    std::int64_t sampled_ns = 0;     // when cpu_ticks was read, by CLOCK_BOOTTIME
    std::uint64_t scan_id = 0;       // of the last scan that found it
    std::uint64_t born_in_scan = 0;  // while this scan ran it came: not finding it says nothing
    std::uint64_t exec_in_scan = 0;  // while this scan ran it executed: the record may have been read before
    std::uint64_t exec_stamp = 0;    // of its latest exec, when the source has one
    std::optional<event::ProcessStatus> status;
    bool announced = false;  // a start of it was emitted
    bool found = false;      // by the scan that runs, at whose end it is told
    bool retell = false;     // what it is now was refused: the next scan tells it, or its end does
    bool kernel_thread = false;
    bool started_by_stamp = false;  // its start was taken from a message's stamp: right, or one tick late
    bool hash_awaited = false;      // its outcome will name this process and image
    bool hash_told = false;         // the last event carried it
  };
  // Told, but not in the table for lack of room: as much as its end needs.
  struct Untracked {
    std::string name;
    std::uint64_t scan_id = 0;
    Account::Share share;
  };
  struct OwedEnd {
    Entry entry;
    End end;
    event::EventSource source;
  };

  [[nodiscard]] event::ProcessKey key_of(const Entry& entry) const { return {boot_, entry.pid, entry.start_ticks}; }
  std::shared_ptr<Image> make_image(const sensor::RawProcess& raw);
  void count(Image& image);
  // When memory is short: what was told whole.
  void shorten(Image& image);
  void shorten_all();
  static std::string shortened_detail(std::uint64_t arguments_bytes);
  Entry make_entry(const sensor::RawProcess& raw) const;
  void take_parent(Entry& entry, const sensor::RawProcess& raw) const;
  void name_parent(Entry& entry) const;
  Entry* find(event::Pid pid, std::uint64_t start_ticks);
  [[nodiscard]] static bool is_instance(const Entry& entry, std::uint64_t start_ticks) {
    return entry.start_ticks == start_ticks || (entry.started_by_stamp && entry.start_ticks == start_ticks + 1);
  }
  // Whether this instance has ended, or its pid already belongs to a later one.
  [[nodiscard]] bool is_gone(event::Pid pid, std::uint64_t start_ticks);
  // The entry for a new instance; one that had the pid before is closed. Null when the table is full.
  Entry* insert(Entry entry, Moment now);
  void on_fork(const sensor::RawEvent& raw, event::EventSource source);
  void on_exec(const sensor::RawEvent& raw, event::EventSource source);
  void on_late_exec(const sensor::RawEvent& raw, event::EventSource source);
  void on_exit(const sensor::RawEvent& raw, event::EventSource source);
  void on_unknown_exit(const sensor::RawEvent& raw, event::EventSource source, const End& end);
  void reconcile(Entry& entry, const sensor::RawProcess& raw, Moment now);
  [[nodiscard]] static bool missed_exec(const Image& image, const sensor::RawProcess& raw);
  void complete_image(Entry& entry, const sensor::RawProcess& raw);
  static void sample(Entry& entry, const sensor::RawProcess& raw, Moment now);
  void announce_ancestors(const Entry& entry, Timestamp now, event::EventSource source);
  bool tell(Entry& entry, event::EventKind kind, event::EventSource source, Timestamp time,
            std::string_view detail = {}, Refused if_refused = Refused::lost);
  // As `seen`: what was not told of yet. Refused a second time it is not lost once more.
  void announce(Entry& entry, event::EventSource source, Timestamp time);
  // What the scan found: at its end, when all parents are known.
  void announce_found(Timestamp now);
  // Tells the end of what was told; refused, it is owed.
  void tell_end(Entry entry, const End& end, event::EventSource source);
  bool emit_end(Entry& entry, const End& end, event::EventSource source);
  void close_missed(Entry entry, Moment now);
  void close_vanished(Moment now);
  void remember_untracked(const Entry& entry);
  void describe(Entry& entry, Timestamp now);
  void describe_end(Entry& entry, const End& end);
  bool emit(Refused if_refused);

  // tracker_hash.cc. After a start was told: asks for the hash when it was not known, and tells of another one than the
  // path held before.
  void follow_hash(Entry& entry, Timestamp now, event::EventSource source);
  // After a scan looked again: what changed of the file since.
  void refresh_hash(Entry& entry, const sensor::RawProcess& raw, Timestamp now);
  // The end was told of a process whose hash is still to come: it is told then.
  void keep_for_hash(const Entry& entry, const End& end);
  [[nodiscard]] static std::optional<event::ExecutableState> newer_state(const Image& image,
                                                                         const sensor::RawProcess& raw);

  Options options_;
  Hashes* hashes_ = nullptr;
  std::uint64_t last_image_ = 0;
  Account account_;
  // Ended, and waiting for their hash. As many as may wait (Hashes::Options::waiting).
  struct Ended {
    Entry entry;
    End end;
  };
  std::unordered_map<event::ProcessKey, Ended> ended_unhashed_;
  event::BootId boot_;
  Timestamp boot_time_;
  Emit emit_;
  UserNames users_;
  Places places_{users_};
  Counters counters_;
  std::unordered_map<event::Pid, Entry> entries_;
  Ends ends_;
  std::deque<OwedEnd> owed_;  // ends that were refused; with the entries at most max_processes
  std::unordered_map<std::uint64_t, Untracked> untracked_;
  struct Scan {
    std::uint64_t id = 0;
    bool running = false, realtime = false, first = true, wants_full = false, others_hidden = false;
    sensor::Depth depth = sensor::Depth::full;
    std::vector<std::pair<event::Pid, std::uint64_t>> found;  // pids and start ticks, in the order of the scan
  } scan_;
  std::size_t shorten_again_at_ = 0;  // bytes(): before, shorten_all() would find little
  event::ProcessEvent event_;         // the one being told: its buffers keep their capacity
};

}  // namespace daemoneye::collector
