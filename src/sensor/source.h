// Where processes are seen: real-time sources and snapshots, each behind one interface. What they give is raw: the
// kernel's view at that moment. Identity, parents, masking and batches are the collector's work.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "event/process_event.h"

namespace daemoneye::sensor {

// A file as the kernel knows it. As long as none of this changes its content is the same: what a hash is kept under.
struct FileIdentity {
  std::uint64_t device = 0, inode = 0;  // device as in struct stat; an inode of 0: nothing is known
  std::uint64_t size = 0;               // bytes
  std::int64_t mtime_ns = 0, ctime_ns = 0;
  bool operator==(const FileIdentity&) const = default;
};

// Inode numbers of the namespaces a process lives in, as in /proc/PID/ns; 0: unknown.
struct Namespaces {
  std::uint32_t mnt = 0, pid = 0, net = 0, user = 0, uts = 0, ipc = 0, cgroup = 0;
  bool operator==(const Namespaces&) const = default;
};

// What one process looked like, as far as it could be seen. Reused between records: buffers keep their capacity.
struct RawProcess {
  event::Pid pid = 0, ppid = 0;
  std::uint64_t start_ticks = 0;         // field 22 of /proc/PID/stat; the same number from every source
  std::uint64_t parent_start_ticks = 0;  // 0: unknown
  std::string comm;
  std::optional<std::string> executable_path;  // without the kernel's " (deleted)"
  std::optional<std::string> arguments;        // NUL-separated, unmasked
  std::uint64_t arguments_bytes = 0;           // true length, more than arguments' when truncated
  std::optional<std::string> filename;         // as passed to execve: a script's own path; of exec events only
  std::optional<std::string> cwd;
  std::optional<std::string> cgroup;  // v2; where that is at its root: named systemd, memory, pids of v1
  // Ids of the initial namespaces. session_id is that of setsid(2); an unset loginuid is absent.
  std::optional<std::uint32_t> uid, gid, euid, egid, loginuid, session_id;
  std::optional<std::string> tty;                          // "pts/3"
  std::optional<std::uint64_t> resident_bytes, cpu_ticks;  // cpu: user + system of all threads, in 1/100 s
  std::optional<event::ProcessStatus> status;
  std::optional<event::ExecutableState> executable_state;
  FileIdentity file;                   // of the executable
  std::optional<std::uint32_t> links;  // hard links to it: 0 when it is deleted or never had a name
  std::optional<Namespaces> namespaces;
  bool kernel_thread = false;
  bool counters_only = false;  // from a scan of that depth: names, arguments, paths and places were not looked at
};

enum class RawKind : std::uint8_t { exec, fork, exit };

struct RawEvent {
  RawKind kind = RawKind::exec;
  Timestamp time;  // wall clock, from the kernel's monotonic stamp
  // That stamp: grows from event to event of one process, whatever happens to the wall clock, and is the same when one
  // event is told twice. 0: the source has none.
  std::uint64_t boot_ns = 0;
  RawProcess process;  // of an exit: pid, start_ticks, comm only; of a fork: the child
  std::int32_t exit_code = 0, exit_signal = 0;
};

struct SourceCounters {
  std::uint64_t events = 0;
  std::uint64_t lost = 0;        // the kernel could not hand them over (recursion misses among them)
  std::uint64_t truncated = 0;   // arguments or a path were longer than their bound
  std::uint64_t incomplete = 0;  // the process was gone before its image (path, arguments) could be read
};

// A real-time source. Passive: opened while privileged, then driven by the collector's loop after privileges are gone.
class Source {
 public:
  virtual ~Source() = default;
  [[nodiscard]] virtual event::EventSource kind() const = 0;
  [[nodiscard]] virtual std::string_view name() const = 0;  // "ebpf"
  // Registers with the loop; `on_event` gets each event in the loop's thread. The reference lives for the call.
  // The loop must outlive the source, or stop() be called before it ends.
  virtual Result<void> start(EventLoop& loop, std::function<void(const RawEvent&)> on_event,
                             std::function<void(const Error&)> on_failure) = 0;
  // What it cannot see even when it works, for health; empty: nothing.
  [[nodiscard]] virtual std::string limits() const { return {}; }
  // Hands over everything the kernel has ready now.
  virtual void poll() = 0;
  // It has given up: what happens from now on is not heard, also when on_failure is yet to say so.
  [[nodiscard]] virtual bool failed() const { return false; }
  // `lost` grows when the kernel could not hand an event over.
  [[nodiscard]] virtual SourceCounters counters() const = 0;
  virtual void stop() = 0;
};

// Opens the eBPF exec/fork/exit source (needs CAP_BPF and CAP_PERFMON here, nothing afterwards). `ring_bytes`: a power
// of two from 4096. Events gather in the ring from now on; start() hands them over. `forks_at_once`: else a fork is
// told with what comes next, a second later at most. The error says what is missing.
Result<std::unique_ptr<Source>> open_bpf_source(std::size_t ring_bytes, bool forks_at_once = true);

// Opens the process events connector, read together with /proc: for systems without eBPF. Needs the initial network,
// user and pid namespaces and, before Linux 6.6, CAP_NET_ADMIN; nothing afterwards, and goes on in another network
// namespace. `buffer_bytes` of messages wait in the kernel; without CAP_NET_ADMIN perhaps fewer, see limits(). To be
// called in the thread of the loop: it is given a short time slice and, with CAP_SYS_NICE, some priority.
Result<std::unique_ptr<Source>> open_netlink_source(std::size_t buffer_bytes);

// Enumerates all processes. `each` gets one at a time.
struct SnapshotResult {
  std::uint64_t processes = 0;
  std::uint64_t vanished = 0;   // gone while they were read: not errors
  std::uint64_t forbidden = 0;  // seen, but some fields could not be read
  std::uint64_t errors = 0;
  std::vector<event::Pid> unreadable;  // those of the errors: somebody lives under this pid, and nothing more is known
  bool others_hidden = false;          // processes of other users are not even listed
};
// What a scan looks at. `counters`: who lives, its ids, status, processor time, memory and the identity of its
// executable; about a third of the work. A snapshot that cannot do less gives everything.
enum class Depth : std::uint8_t { full, counters };

class Snapshot {
 public:
  virtual ~Snapshot() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;  // "bpf_iter" or "procfs"
  virtual Result<SnapshotResult> scan(Depth depth, const std::function<void(const RawProcess&)>& each) = 0;
  // What it cannot see with the privileges that this process has now, for health; empty: nothing.
  [[nodiscard]] virtual std::string limits() const { return {}; }
};
// BPF iterator with dentry walk: sees the executable of every process after privileges are gone. Reconciled with
// getdents on /proc (a process that the iterator hides is read from /proc). Each scan makes one bpf(2) call
// (BPF_ITER_CREATE), which a system call filter has to let through.
Result<std::unique_ptr<Snapshot>> open_bpf_snapshot();
// /proc by openat and reused buffers. `proc_path` is "/proc"; tests give their own.
Result<std::unique_ptr<Snapshot>> open_procfs_snapshot(const std::string& proc_path = "/proc");
// One process from /proc; not_found when it is gone.
Result<RawProcess> read_process(const std::string& proc_path, event::Pid pid);

// Those of this process. Opened to nobody: works without any privilege, and before a namespace is changed tells which
// ones the machine's own processes have.
Namespaces own_namespaces();

Result<event::BootId> read_boot_id();
// Wall-clock time of boot, so that start time = boot + ticks/100 s. Taken once a run: start times must not move.
Result<Timestamp> read_boot_time();

}  // namespace daemoneye::sensor
