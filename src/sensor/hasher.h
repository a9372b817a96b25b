// SHA-256 of executables, computed beside the events by a helper process of its own: opening another user's
// /proc/PID/exe needs CAP_SYS_PTRACE, reading a root-only file CAP_DAC_READ_SEARCH, and procmond has neither.
// docs/adr/0007-hashing-helper.md says why and how; docs/formats/hashing-helper.md what is said between the two.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"
#include "event/process.h"
#include "sensor/source.h"

namespace daemoneye::sensor {

// The executable of a process; or, with pid 0, the regular file with an execute bit at `path` (symbolic links
// followed), for an operator who asks.
struct HashRequest {
  std::uint64_t id = 0;  // the asker's, unique among those not answered yet
  event::Pid pid = 0;
  std::uint64_t start_ticks = 0;
  FileIdentity file = {};  // as the kernel saw it at exec; inode 0: unknown
  std::string path = {};   // where the kernel found it; empty: unknown
};

struct HashAnswer {
  std::uint64_t id = 0;
  std::optional<event::ExecutableState> state;  // absent: nothing is known beyond what the kernel said
  std::optional<std::string> hash;              // 64 lower-case hex digits
  FileIdentity file;                // what the hash may be kept under; inode 0: it counts for this process alone
  std::optional<std::string> path;  // the executable's, as /proc shows it
  std::string error;                // why there is no hash; empty with one
  bool hopeless = false;            // asking for this file again would end so again: too large, or it hung the helper
};

struct HasherCounters {
  std::uint64_t requests = 0;          // accepted
  std::uint64_t refused = 0;           // the queue was full, or nobody serves
  std::uint64_t hashed = 0;            // answered with a hash
  std::uint64_t unanswered = 0;        // answered without one
  std::uint64_t late = 0;              // of these: the deadline passed
  std::uint64_t stalls = 0;            // a file that did not let itself be opened or read held the helper up
  std::uint64_t restarts = 0;          // workers that took the place of one that ended
  std::uint64_t bad_messages = 0;      // from the helper, thrown away
  std::uint64_t queued = 0, sent = 0;  // now: waiting here, and given to the helper
  std::uint64_t bytes = 0;             // read and hashed
  std::chrono::nanoseconds cpu{0};     // of the workers
};

// Passive, driven by the collector's loop. One thread.
class Hasher {
 public:
  using OnAnswer = std::function<void(const HashAnswer&)>;
  virtual ~Hasher() = default;
  // `on_answer` gets exactly one answer for each accepted request, in any order, until stop(); never from inside
  // submit(). The loop must outlive the hasher, or stop() be called before it ends.
  virtual Result<void> start(EventLoop& loop, OnAnswer on_answer) = 0;
  // False: no room, or nobody serves any more; counted.
  virtual bool submit(HashRequest request) = 0;
  [[nodiscard]] virtual HasherCounters counters() const = 0;
  // Why nothing is hashed now; empty when all is well.
  [[nodiscard]] virtual std::string problem() const = 0;
  // Another share of a core than it was opened with.
  virtual void set_cpu_percent(unsigned percent) = 0;
  virtual void stop() = 0;
};

struct HasherOptions {
  unsigned cpu_percent = 10;  // of one core
  std::size_t max_queued = 4096;
  // An answer must come within this time of being sent; large files wait for their share of the budget.
  std::chrono::milliseconds request_timeout{300'000};
  // No word from the helper for so long while it has work: its worker hangs and is replaced.
  std::chrono::milliseconds stall_timeout{10'000};
  std::uint64_t max_file_bytes = std::uint64_t{4} << 30;  // larger files are not hashed
};

// What the helper does to itself. Both run in the helper; an error keeps it from serving, and is what open_hasher()
// gives. What they give (capabilities and the like, short texts) ends up in Opened::details.
struct Confinement {
  using Step = std::function<Result<std::map<std::string, std::string>>()>;
  Step drop;    // in its first process: user, capabilities, network
  Step filter;  // in each worker, after everything it needs is open: the system call filter
};

struct OpenedHasher {
  std::unique_ptr<Hasher> hasher;
  std::map<std::string, std::string> details;  // of the helper: pid, and what its confinement reached
};

// Forks the helper; it dies with this process. Call it while privileged and from the only thread. Waits until the
// helper has confined itself, or for `max_start`.
inline constexpr std::chrono::seconds max_start{10};
Result<OpenedHasher> open_hasher(const HasherOptions& options, const Confinement& confinement);

}  // namespace daemoneye::sensor
