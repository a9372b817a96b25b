#include "sensor/linux/netlink_events.h"

#include <sys/wait.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "sensor/linux/clocks.h"

namespace daemoneye::sensor {
namespace {

// Messages of one round. The loop waits for it, so it is no more than what is handled at once; the rest stays in the
// kernel's buffer, or here if it had to be received to know what was overtaken.
constexpr std::size_t kMaxRound = 4096;
constexpr std::size_t kMaxWaiting = 65536;  // some megabytes
constexpr std::size_t kMaxHandles = 64;
constexpr std::int64_t kNsPerTick = 10'000'000;  // USER_HZ is 100 on every Linux that /proc promises

std::int64_t now_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

// A zombie whose other threads are all released has ended.
bool lives(const StatFields& stat) { return status_of(stat.state) != event::ProcessStatus::zombie || stat.threads > 1; }

}  // namespace

NetlinkEvents::Clocks NetlinkEvents::Clocks::now() {
  Clocks clocks;
  const auto monotonic = now_ns(CLOCK_MONOTONIC);
  clocks.boot_minus_monotonic_ns = now_ns(CLOCK_BOOTTIME) - monotonic;
  clocks.wall_minus_monotonic_ns = now_ns(CLOCK_REALTIME) - monotonic;
  return clocks;
}

NetlinkEvents::NetlinkEvents(ProcReader reader, std::size_t max_processes)
    : reader_(std::move(reader)),
      max_processes_(max_processes),
      first_boot_offset_ns_(Clocks::now().boot_minus_monotonic_ns) {}

Result<void> NetlinkEvents::prime() {
  std::vector<event::Pid> pids;
  DE_CHECK(reader_.list(pids));
  for (const auto pid : pids) {
    if (const auto stat = reader_.stat(pid)) {
      Known known;
      known.start_ticks = stat->start_ticks;
      known.parent = stat->ppid;
      known.threads = stat->threads > 1;
      remember(pid, known);
    }
  }
  primed_ns_ = now_ns(CLOCK_MONOTONIC);
  return {};
}

// In rounds. What is there is received, up to a bound; then the arguments of all that executed something are read
// before anything else, because a process that does little is gone after some hundred microseconds; then the rest. Only
// after a further receiving, which would tell that a process executed something else before it was read, are the events
// handed over.
std::size_t NetlinkEvents::handle(const Receive& receive, std::size_t limit, const Emit& emit) {
  clocks_ = Clocks::now();
  std::size_t handled = 0;
  static_cast<void>(receive_all(receive, INT64_MAX));
  while (!incoming_.empty() && handled < limit) {
    take_round(std::min(limit - handled, kMaxRound));
    plan();
    look_at_images();
    look_at_forks();
    const bool received = receive_all(receive, now_ns(CLOCK_MONOTONIC));
    mark_overtaken(!received);
    for (std::size_t i = 0; i < messages_.size(); ++i) deliver(i, emit);
    handled += messages_.size();
  }
  messages_.clear();
  return handled;
}

void NetlinkEvents::take_round(std::size_t limit) {
  if (incoming_.size() <= limit) {
    messages_.swap(incoming_);
    incoming_.clear();
    return;
  }
  const auto end = incoming_.begin() + static_cast<std::ptrdiff_t>(limit);
  messages_.assign(incoming_.begin(), end);
  incoming_.erase(incoming_.begin(), end);
}

// Until there is nothing, or what comes is younger than `until_ns`. False: so much waits that some was left.
bool NetlinkEvents::receive_all(const Receive& receive, std::int64_t until_ns) {
  const auto bound = until_ns == INT64_MAX ? kMaxRound : kMaxWaiting;
  while (incoming_.size() < bound) {
    if (!receive(incoming_)) return true;
    if (!incoming_.empty() && incoming_.back().monotonic_ns > until_ns) return true;
  }
  return false;
}

// Which processes are worth a look: not those of which it is known that they ended or went on to something else.
void NetlinkEvents::plan() {
  look_of_.assign(messages_.size(), kNone);
  looks_used_ = 0;
  images_.clear();
  forks_.clear();
  later_.clear();
  for (std::size_t i = messages_.size(); i-- > 0;) {
    const auto& message = messages_[i];
    if (!message.first_thread()) continue;
    switch (message.kind) {
      case ProcMessageKind::exec:
        if (later_.emplace(message.pid, i).second) images_.push_back(i);
        break;
      case ProcMessageKind::exit: later_[message.pid] = i; break;
      case ProcMessageKind::fork:
        forks_.push_back(i);
        // Its start is also told by the look at what it executed.
        if (const auto later = later_.find(message.pid); later != later_.end()) {
          look_of_[i] = later->second;  // a message for now; look_at_forks() makes it a look
          later_.erase(later);          // what comes before is of an earlier owner of this pid
        }
        break;
      case ProcMessageKind::acknowledgement:
      case ProcMessageKind::other: break;
    }
  }
  std::ranges::reverse(images_);
}

NetlinkEvents::Look& NetlinkEvents::new_look(std::size_t message) {
  if (looks_used_ == looks_.size()) looks_.emplace_back();
  look_of_[message] = looks_used_;
  Look& look = looks_[looks_used_++];
  look.process = RawProcess{};
  look.folder.reset();
  look.has_stat = false;
  return look;
}

void NetlinkEvents::look_at_images() {
  for (std::size_t done = 0; done < images_.size();) {
    // A handle of each is kept open meanwhile.
    const auto end = std::min(done + kMaxHandles, images_.size());
    const auto first = looks_used_;
    for (; done < end; ++done) {
      Look& look = new_look(images_[done]);
      look.folder = reader_.open_process(messages_[images_[done]].pid);
      if (!look.folder) continue;
      reader_.take_arguments(look.folder.get(), look.process);
      if (const auto stat = reader_.stat(look.folder.get())) {
        ProcReader::take_stat(*stat, look.process);
        look.has_stat = true;
      }
    }
    for (auto i = first; i < looks_used_; ++i) {
      Look& look = looks_[i];
      if (look.has_stat) reader_.take_rest(look.folder.get(), look.process);
      look.folder.reset();
      look.read_ns = now_ns(CLOCK_MONOTONIC);
    }
  }
}

void NetlinkEvents::look_at_forks() {
  for (const auto i : forks_) {
    if (const auto later = std::exchange(look_of_[i], kNone); later != kNone) {
      look_of_[i] = look_of_[later];  // none when it has ended
      continue;
    }
    const auto stat = reader_.stat(messages_[i].pid);
    if (!stat) continue;
    Look& look = new_look(i);
    ProcReader::take_stat(*stat, look.process);
    look.has_stat = true;
  }
}

// A process that executed something else before it was read to the end: what was read is not this image, or not only.
// `all`: what was done meanwhile is not known, so it may be any.
void NetlinkEvents::mark_overtaken(bool all) {
  if (images_.empty()) return;
  const auto forget = [](Look& look) {
    RawProcess identity;
    identity.ppid = look.process.ppid;
    identity.start_ticks = look.process.start_ticks;
    look.process = std::move(identity);
  };
  if (all) {
    for (const auto i : images_) forget(looks_[look_of_[i]]);
    return;
  }
  later_.clear();
  for (const auto i : images_) later_.emplace(messages_[i].pid, look_of_[i]);
  for (const auto& message : incoming_) {
    if (message.kind != ProcMessageKind::exec) continue;
    const auto found = later_.find(message.pid);
    if (found == later_.end()) continue;
    Look& look = looks_[found->second];
    if (message.monotonic_ns > look.read_ns) continue;
    forget(look);
  }
}

void NetlinkEvents::deliver(std::size_t index, const Emit& emit) {
  const auto& message = messages_[index];
  Look* look = look_of_[index] != kNone ? &looks_[look_of_[index]] : nullptr;
  if (look != nullptr && !look->has_stat) look = nullptr;
  switch (message.kind) {
    case ProcMessageKind::fork: on_fork(message, look, emit); break;
    case ProcMessageKind::exec: on_exec(message, look, emit); break;
    case ProcMessageKind::exit: on_exit(message, emit); break;
    case ProcMessageKind::acknowledgement:
    case ProcMessageKind::other: break;
  }
}

void NetlinkEvents::on_fork(const ProcMessage& message, Look* look, const Emit& emit) {
  if (!message.first_thread()) {
    if (const auto process = known_.find(message.pid); process != known_.end()) process->second.threads = true;
    return;
  }
  RawProcess process;
  const auto latest = ticks_at(message.monotonic_ns);
  if (look != nullptr && look->process.start_ticks <= latest) {
    // Of what it looks like only what it has from birth: it may be beyond an exec by now.
    process.start_ticks = look->process.start_ticks;
    process.session_id = look->process.session_id;
    process.tty = look->process.tty;
    process.kernel_thread = look->process.kernel_thread;
    if (process.kernel_thread) process.comm = look->process.comm;
  } else {
    // It is gone, and its pid perhaps another's. The message was stamped when it was forked, but not at the same
    // nanosecond: one in some hundred falls into the next tick. The table takes a start one tick earlier for the same.
    process.start_ticks = latest;
  }
  process.pid = message.pid;
  process.status = event::ProcessStatus::running;
  set_parent(process, message.parent);
  Known known;
  known.start_ticks = process.start_ticks;
  known.parent = message.parent;
  remember(message.pid, known);
  hand_over(RawKind::fork, message, process, emit);
}

void NetlinkEvents::on_exec(const ProcMessage& message, Look* look, const Emit& emit) {
  const auto found = known_.find(message.pid);
  Known* known = found != known_.end() ? &found->second : nullptr;
  // Of this process? Younger than what is known is right when the message of its fork was lost; younger than this
  // message is the pid's next owner.
  const bool its_own = look != nullptr && look->process.start_ticks <= ticks_at(message.monotonic_ns) &&
                       (known == nullptr || look->process.start_ticks >= known->start_ticks);
  RawProcess nothing;
  RawProcess& process = its_own ? look->process : nothing;
  if (!its_own) {
    if (known == nullptr) return count_unknown(message);
    process.start_ticks = known->start_ticks;
  } else if (known == nullptr || process.start_ticks > known->start_ticks) {
    Known fresh;
    fresh.start_ticks = process.start_ticks;
    fresh.parent = process.ppid;
    known = remember(message.pid, fresh);
  }
  process.pid = message.pid;
  set_parent(process, process.ppid != 0 ? process.ppid : known != nullptr ? known->parent : 0);
  if (known != nullptr) {
    known->exec_ns = message.monotonic_ns;
    known->threads = known->first_gone = false;  // an exec ends all other threads
  }
  if (!process.arguments) ++counters_.incomplete;
  if (process.arguments && process.arguments_bytes > process.arguments->size()) ++counters_.truncated;
  // It may have ended meanwhile; that is the next message's to tell.
  process.status = event::ProcessStatus::running;
  hand_over(RawKind::exec, message, process, emit);
}

void NetlinkEvents::on_exit(const ProcMessage& message, const Emit& emit) {
  RawProcess process;
  process.pid = message.pid;
  const auto found = known_.find(message.pid);
  if (found == known_.end()) {
    if (!message.first_thread()) return;
    const auto stat = reader_.stat(message.pid);  // not yet waited for, perhaps
    if (!stat || stat->start_ticks > ticks_at(message.monotonic_ns)) return count_unknown(message);
    if (lives(*stat)) return;
    process.start_ticks = stat->start_ticks;
    process.comm = stat->comm;
    hand_over(RawKind::exit, message, process, emit);
    return;
  }
  Known& known = found->second;
  if (!message.first_thread() && !known.first_gone) return;
  if (known.start_ticks > ticks_at(message.monotonic_ns)) return;  // of one that had the pid before we looked
  // A process ends with its last thread. The first thread's end is told late when another executed something and took
  // over its place: then the stamp is older than the exec's.
  if (known.threads || message.monotonic_ns < known.exec_ns) {
    const auto stat = reader_.stat(message.pid);
    if (stat && stat->start_ticks == known.start_ticks && lives(*stat)) {
      if (status_of(stat->state) == event::ProcessStatus::zombie && message.first_thread()) {
        known.first_gone = true;
        known.first_status = message.wait_status;
      }
      return;
    }
  }
  process.start_ticks = known.start_ticks;
  // Of a group that ended as one all threads have one status, but for those that were leaving already, with 0. The
  // first thread's counts when nobody ended the group.
  auto last = message;
  if (known.first_gone && known.first_status != 0) last.wait_status = known.first_status;
  known_.erase(found);
  hand_over(RawKind::exit, last, process, emit);
}

void NetlinkEvents::count_unknown(const ProcMessage& message) {
  // Born before the source was opened and gone before we had looked: nobody's to tell.
  if (message.monotonic_ns > primed_ns_) ++counters_.lost;
}

void NetlinkEvents::on_loss() {
  for (auto& [pid, known] : known_) known.threads = true;
}

NetlinkEvents::Known* NetlinkEvents::remember(event::Pid pid, const Known& known) {
  if (known_.size() >= max_processes_ && !known_.contains(pid)) {
    // Ends that were lost leave entries behind.
    std::vector<event::Pid> living;
    if (!reader_.list(living)) return nullptr;
    std::ranges::sort(living);
    std::erase_if(known_, [&](const auto& entry) { return !std::ranges::binary_search(living, entry.first); });
    if (known_.size() >= max_processes_) return nullptr;
  }
  return &known_.insert_or_assign(pid, known).first->second;
}

void NetlinkEvents::set_parent(RawProcess& process, event::Pid parent) const {
  process.ppid = parent;
  const auto found = known_.find(parent);
  if (found != known_.end() && found->second.start_ticks <= process.start_ticks) {
    process.parent_start_ticks = found->second.start_ticks;
  }
}

void NetlinkEvents::hand_over(RawKind kind, const ProcMessage& message, const RawProcess& process, const Emit& emit) {
  event_.kind = kind;
  event_.time = Timestamp{message.monotonic_ns + clocks_.wall_minus_monotonic_ns};
  event_.boot_ns = static_cast<std::uint64_t>(std::max<std::int64_t>(message.monotonic_ns + first_boot_offset_ns_, 0));
  event_.process = process;
  event_.exit_code = event_.exit_signal = 0;
  if (kind == RawKind::exit) {
    if (WIFSIGNALED(message.wait_status))
      event_.exit_signal = WTERMSIG(message.wait_status);
    else
      event_.exit_code = WEXITSTATUS(message.wait_status);
  }
  ++counters_.events;
  emit(event_);
}

std::uint64_t NetlinkEvents::ticks_at(std::int64_t monotonic_ns) const {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(monotonic_ns + clocks_.boot_minus_monotonic_ns, 0) /
                                    kNsPerTick);
}

}  // namespace daemoneye::sensor
