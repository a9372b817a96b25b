// The tracker against random worlds. A world of processes forks, executes, changes users, ends, is waited for and gets
// its pids reused; what the kernel would tell of that is shuffled within a bound, repeated, lost, stamped by a wall
// clock that jumps; scans of both depths run in between, while the world goes on; the receiver refuses events; the
// table is too small. Whatever happens, of each process instance (key):
//
//   start    the first event of a key is exec, fork or seen. Fork and seen are never told of it again.
//   end      at most one exit, and no event after it.
//   both     once a full scan has passed, with nothing refused: exactly one exit of each key that was told of and whose
//            process is gone; of each living process a start and no exit.
//   now      by then, the last event of a living process has its executable and its user.
//   parent   parent_key is the process that forked it, or the one it was given to. While that is in the table every
//   event
//            has its name.
//   clock    start_time is boot + ticks, whatever the wall clock does.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "collector/tracker.h"

namespace daemoneye::collector {
namespace {

using event::EventKind;
using event::EventSource;
using event::ProcessKey;

constexpr Timestamp boot_time{1'700'000'000'000'000'000};
constexpr event::BootId boot{7};
constexpr int steps = 350;

struct Process {
  event::Pid pid = 0, ppid = 0;
  std::uint64_t ticks = 0, parent_ticks = 0;
  unsigned image = 0, uid = 0;
  bool zombie = false;
};

struct Mode {
  bool shuffle, repeat, lose, clock_steps, refuse, small_table, store_forks, realtime;
  [[nodiscard]] bool in_order() const { return realtime && !shuffle && !lose && !refuse; }
  explicit Mode(unsigned seed)
      : shuffle(seed & 1U),
        repeat(seed & 2U),
        lose(seed & 4U),
        clock_steps(seed & 8U),
        refuse(seed & 16U),
        small_table(seed & 32U),
        store_forks(seed & 64U),
        realtime((seed & 384U) != 384U) {}
};

class World {
 public:
  explicit World(unsigned seed) : mode_(seed), random_(seed), tracker_(options(), boot, boot_time, emit()) {
    living_[1] = Process{.pid = 1, .ticks = 1};
    note_parent(living_[1]);
  }

  void run() {
    scan(sensor::Depth::full);
    for (int i = 0; i < steps; ++i) {
      step();
      if (one_in(25)) scan_as_the_collector_does();
    }
    refusing_ = false;
    while (!pending_.empty()) deliver_next();
    for (auto it = living_.begin(); it != living_.end();) it = it->second.zombie ? living_.erase(it) : std::next(it);
    quiet_ = true;
    scan(sensor::Depth::full);
  }

  void check() const {
    std::map<ProcessKey, std::vector<const event::ProcessEvent*>> by_key;
    for (const auto& event : told_) by_key[event.process.key].push_back(&event);
    std::set<ProcessKey> living;
    for (const auto& [pid, process] : living_) living.insert({boot, pid, process.ticks});
    for (const auto& [key, events] : by_key) {
      const std::string who = event::to_string(key);
      EXPECT_TRUE(is_start(events.front()->kind)) << who << " begins with " << to_string(events.front()->kind);
      int ends = 0;
      for (const auto* event : events) {
        EXPECT_EQ(ends, 0) << who << ": " << to_string(event->kind) << " after its end";
        ends += event->kind == EventKind::exit ? 1 : 0;
        if (event != events.front()) {
          EXPECT_TRUE(event->kind != EventKind::fork && event->kind != EventKind::seen) << who << " begins twice";
        }
        // Where every event is heard in its order, no scan finds an exec that was missed.
        if (mode_.in_order()) {
          EXPECT_FALSE(event->kind == EventKind::exec && event->source == EventSource::scan) << who << event->detail;
        }
        EXPECT_EQ(event->process.start_time->ns,
                  boot_time.ns + static_cast<std::int64_t>(key.start_ticks) * 10'000'000);
        if (event->process.parent_key) {
          EXPECT_TRUE(parents_.at(key).contains(*event->process.parent_key)) << who << ": a parent it never had";
        }
      }
      EXPECT_EQ(ends, living.contains(key) ? 0 : 1) << who;
    }
    for (const auto& [pid, process] : living_) {
      const ProcessKey key{boot, pid, process.ticks};
      const auto found = by_key.find(key);
      if (found == by_key.end()) {
        ADD_FAILURE() << event::to_string(key) << " lives and was never told";
        continue;
      }
      if (mode_.small_table) continue;  // of what does not fit only start and end are known
      const auto& last = found->second.back()->process;
      EXPECT_EQ(last.executable_path, path_of(process.image)) << event::to_string(key);
      EXPECT_EQ(last.uid, process.uid) << event::to_string(key);
    }
  }

 private:
  static bool is_start(EventKind kind) {
    return kind == EventKind::exec || kind == EventKind::fork || kind == EventKind::seen;
  }
  unsigned pick(unsigned n) { return static_cast<unsigned>(random_() % n); }
  bool one_in(unsigned n) { return pick(n) == 0; }
  Tracker::Options options() const {
    Tracker::Options options;
    options.store_forks = mode_.store_forks;
    if (mode_.small_table) options.max_processes = 8;
    return options;
  }
  Tracker::Emit emit() {
    return [this](const event::ProcessEvent& event, Tracker::Refused) {
      if (mode_.refuse && refusing_ && one_in(6)) return false;
      told_.push_back(event);
      if (const auto parent = event.process.parent_key; parent && !event.parent_name) {
        const auto* known = tracker_.look_up(parent->pid);  // which overwrites `event`
        EXPECT_TRUE(known == nullptr || known->process.key != parent)
            << event::to_string(told_.back().process.key) << ": its parent is known, and not named";
      }
      return true;
    };
  }
  static std::string path_of(unsigned image) { return "/bin/image-" + std::to_string(image); }
  void note_parent(const Process& process) {
    parents_[{boot, process.pid, process.ticks}].insert({boot, process.ppid, process.parent_ticks});
  }
  Moment now() {
    ++stamp_;
    return {Timestamp{boot_time.ns + static_cast<std::int64_t>(stamp_) * 1'000'000 + wall_step_},
            static_cast<std::int64_t>(stamp_) * 1'000'000};
  }

  sensor::RawProcess raw(const Process& process) const {
    sensor::RawProcess raw;
    raw.pid = process.pid;
    raw.start_ticks = process.ticks;
    raw.ppid = process.ppid;
    raw.parent_start_ticks = process.parent_ticks;
    raw.comm = "image-" + std::to_string(process.image);
    raw.uid = raw.euid = process.uid;
    raw.status = process.zombie ? event::ProcessStatus::zombie : event::ProcessStatus::sleeping;
    return raw;
  }
  sensor::RawProcess with_image(const Process& process) const {
    auto raw = this->raw(process);
    if (process.zombie) return raw;  // it has no file and no arguments any more
    raw.executable_path = path_of(process.image);
    raw.arguments = raw.comm + '\0';
    raw.arguments_bytes = raw.arguments->size();
    raw.file = {.device = 2049, .inode = 100 + process.image, .size = 1, .mtime_ns = 1, .ctime_ns = 1};
    raw.executable_state = event::ExecutableState::ok;
    return raw;
  }

  void happened(sensor::RawKind kind, sensor::RawProcess process) {
    if (!mode_.realtime) return;
    sensor::RawEvent event;
    event.kind = kind;
    const auto at = now();
    event.time = at.wall;
    event.boot_ns = static_cast<std::uint64_t>(at.boot_ns);
    event.process = std::move(process);
    if (mode_.lose && one_in(6)) return;
    const auto later = [&](unsigned bound) { return mode_.shuffle ? random_() % bound : 0U; };
    if (mode_.repeat && one_in(5)) pending_.emplace(number_ + later(6) + 1, event);
    pending_.emplace(number_ + later(6), std::move(event));
  }
  void deliver_next() {
    auto event = std::move(pending_.begin()->second);
    pending_.erase(pending_.begin());
    tracker_.on_event(event, EventSource::ebpf);
  }
  // What is due: without shuffling everything, as a drained ring gives it.
  void deliver() {
    while (!pending_.empty() && (!mode_.shuffle || pending_.begin()->first <= number_)) deliver_next();
  }

  Process* any_alive() {
    std::vector<Process*> alive;
    for (auto& [pid, process] : living_) {
      if (!process.zombie) alive.push_back(&process);
    }
    return alive[random_() % alive.size()];
  }
  void fork() {
    const auto pid = static_cast<event::Pid>(2 + random_() % 22);
    if (living_.contains(pid)) return;
    const Process& parent = *any_alive();
    Process child = parent;
    child.pid = pid;
    child.ppid = parent.pid;
    child.parent_ticks = parent.ticks;
    child.ticks = ++ticks_;
    living_[pid] = child;
    note_parent(child);
    auto raw = this->raw(child);
    happened(sensor::RawKind::fork, std::move(raw));
  }
  void exec(Process& process) {
    process.image = 1 + pick(5);
    auto raw = with_image(process);
    raw.filename = raw.executable_path;
    happened(sensor::RawKind::exec, std::move(raw));
  }
  void exit(Process& process) {
    process.zombie = true;
    for (auto& [pid, child] : living_) {
      if (child.ppid != process.pid || child.parent_ticks != process.ticks) continue;
      child.ppid = 1;
      child.parent_ticks = 1;
      note_parent(child);
    }
    sensor::RawProcess raw;
    raw.pid = process.pid;
    raw.start_ticks = process.ticks;
    raw.comm = "image-" + std::to_string(process.image);
    happened(sensor::RawKind::exit, std::move(raw));
  }
  void act() {
    ++number_;
    switch (random_() % 8) {
      case 0:
      case 1: fork(); break;
      case 2:
      case 3: exec(*any_alive()); break;
      case 4:
        if (auto* process = any_alive(); process->pid != 1) exit(*process);
        break;
      case 5:
        for (auto it = living_.begin(); it != living_.end(); ++it) {
          if (!it->second.zombie || one_in(2)) continue;
          living_.erase(it);  // its parent waited for it
          break;
        }
        break;
      case 6: any_alive()->uid = pick(3); break;  // nobody tells
      default:
        if (mode_.clock_steps && one_in(3)) {
          wall_step_ = (static_cast<std::int64_t>(random_() % 7200) - 3600) * 1'000'000'000;
        }
    }
  }
  void step() {
    act();
    deliver();
  }

  void scan_as_the_collector_does() {
    const bool full = one_in(3);
    scan(full ? sensor::Depth::full : sensor::Depth::counters);
    if (!full && tracker_.wants_full_scan()) scan(sensor::Depth::full);
  }
  void scan(sensor::Depth depth) {
    tracker_.begin_scan(++scan_id_, now(), mode_.realtime, depth);
    for (event::Pid pid = 1; pid < 24; ++pid) {
      if (!quiet_ && one_in(4)) act();  // the world goes on
      const auto found = living_.find(pid);
      if (found == living_.end()) continue;
      auto record = depth == sensor::Depth::full ? with_image(found->second) : raw(found->second);
      if (depth == sensor::Depth::counters) {
        record.counters_only = true;
        if (!found->second.zombie) {
          record.file.device = 2049;
          record.file.inode = 100 + found->second.image;
        }
      }
      if (!quiet_ && one_in(4)) act();  // between reading the record and hearing of it
      deliver();
      tracker_.on_scanned(record, now());
    }
    deliver();
    if (!quiet_ && one_in(10))
      tracker_.abandon_scan(now());
    else
      tracker_.end_scan(now());
  }

  Mode mode_;
  std::mt19937 random_;
  std::map<event::Pid, Process> living_;
  std::map<ProcessKey, std::set<ProcessKey>> parents_;
  std::multimap<std::uint64_t, sensor::RawEvent> pending_;  // by the step at which they are delivered
  std::vector<event::ProcessEvent> told_;
  std::uint64_t number_ = 0, ticks_ = 1, stamp_ = 0, scan_id_ = 0;
  std::int64_t wall_step_ = 0;
  bool refusing_ = true, quiet_ = false;
  Tracker tracker_;
};

TEST(TrackerPropertyTest, OneStartAndOneEndOfEachProcessWhateverHappens) {
  constexpr unsigned worlds = 1024;  // each of the 512 modes twice
  for (unsigned seed = 0; seed < worlds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World world(seed);
    world.run();
    world.check();
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace daemoneye::collector
