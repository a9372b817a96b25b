// Turns the process connector's messages, which hold hardly more than a pid, into events with identity and image, by
// reading /proc at once. Knows no socket: what came is handed in, so that tests can say what came.
//
// Identity. A message names a pid; an event needs the start time as well. It is read from /proc when the process is
// forked, kept until its end, and every later reading is held against it, so that a pid's next owner is never taken
// for the one that a message is about.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "sensor/linux/netlink_parse.h"
#include "sensor/linux/procfs_reader.h"
#include "sensor/source.h"

namespace daemoneye::sensor {

class NetlinkEvents {
 public:
  // What turns the messages' clock into others. Read once for many messages.
  struct Clocks {
    std::int64_t boot_minus_monotonic_ns = 0;
    std::int64_t wall_minus_monotonic_ns = 0;
    static Clocks now();
  };
  // Appends what there is, without waiting; false: that was all.
  using Receive = std::function<bool(std::vector<ProcMessage>& into)>;
  using Emit = std::function<void(const RawEvent&)>;

  NetlinkEvents(ProcReader reader, std::size_t max_processes = 131072);

  // Learns who lives already. To be called when messages are kept already and before any is handed in.
  Result<void> prime();
  // Handles what `receive` gives until there is nothing, or `limit` messages were handled: then some may be left over
  // for the next call, see waiting(). Gives how many were handled.
  std::size_t handle(const Receive& receive, std::size_t limit, const Emit& emit);
  [[nodiscard]] bool waiting() const { return !incoming_.empty(); }
  // Messages are missing: what was known is to be checked.
  void on_loss();

  [[nodiscard]] const SourceCounters& counters() const { return counters_; }
  [[nodiscard]] std::size_t size() const { return known_.size(); }

 private:
  struct Known {
    std::uint64_t start_ticks = 0;
    event::Pid parent = 0;
    std::int64_t exec_ns = 0;  // stamp of the last exec
    bool threads = false;      // has or may have others than the first, so its exit may not be the process's
    bool first_gone = false;   // the first thread has ended, others have not
    int first_status = 0;      // with this
  };
  // What was read because of a message.
  struct Look {
    RawProcess process;
    UniqueFd folder;
    bool has_stat = false;
    std::int64_t read_ns = 0;  // when reading ended, in the messages' clock
  };
  static constexpr std::size_t kNone = SIZE_MAX;

  void plan();
  Look& new_look(std::size_t message);
  void look_at_images();
  void look_at_forks();
  void take_round(std::size_t limit);
  [[nodiscard]] bool receive_all(const Receive& receive, std::int64_t until_ns);
  void mark_overtaken(bool all);
  void deliver(std::size_t message, const Emit& emit);
  void on_fork(const ProcMessage& message, Look* look, const Emit& emit);
  void on_exec(const ProcMessage& message, Look* look, const Emit& emit);
  void on_exit(const ProcMessage& message, const Emit& emit);
  Known* remember(event::Pid pid, const Known& known);
  // An event that belongs to no known process.
  void count_unknown(const ProcMessage& message);
  void set_parent(RawProcess& process, event::Pid parent) const;
  void hand_over(RawKind kind, const ProcMessage& message, const RawProcess& process, const Emit& emit);
  // The tick that contains this moment: no process that had started by then has a later one.
  [[nodiscard]] std::uint64_t ticks_at(std::int64_t monotonic_ns) const;

  ProcReader reader_;
  std::size_t max_processes_;
  std::unordered_map<event::Pid, Known> known_;
  std::int64_t primed_ns_ = 0;
  std::vector<ProcMessage> incoming_;  // received, not yet looked at
  std::vector<ProcMessage> messages_;  // of this round
  std::vector<std::size_t> look_of_;   // for each of them the index of its look, or kNone
  std::vector<Look> looks_;            // reused: only the first looks_used_ are of this round
  std::size_t looks_used_ = 0;
  std::vector<std::size_t> images_, forks_;            // messages whose process is to be looked at
  std::unordered_map<event::Pid, std::size_t> later_;  // while planning: the last message about a process
  Clocks clocks_;
  // Of when the source was opened, for RawEvent::boot_ns: read anew it would differ by what lies between two readings,
  // and the younger of two events could look like the older.
  std::int64_t first_boot_offset_ns_ = 0;
  RawEvent event_;
  SourceCounters counters_;
};

}  // namespace daemoneye::sensor
