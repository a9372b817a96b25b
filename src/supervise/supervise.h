// The minimal first process: forks both daemons, waits, respawns with backoff, hands out socket pairs. Parses nothing.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace daemoneye::supervise {

// The descriptor on which a supervised daemon receives its data socket, again and again: number 3.
inline constexpr int control_fd = 3;

struct ChildSpec {
  std::string name;
  std::vector<std::string> argv;  // argv[0] is the executable's path
};

struct Options {
  ChildSpec first, second;  // "procmond", "agent"
  std::chrono::milliseconds backoff_first{100}, backoff_max{10000};
  std::chrono::milliseconds healthy_after{30000};   // a child that lived so long starts its backoff anew
  std::chrono::milliseconds shutdown_grace{10000};  // then SIGKILL
  // A child that never ran for healthy_after and ends with one of these is not started again: configuration,
  // privileges and damaged files do not heal by themselves.
  std::vector<int> final_exit_codes{2, 4, 5};
  // One that ends with one of these asks to be started again at once: procmond, whose real-time source died, goes on
  // with the next one. Once; when it ends so again before it lived for healthy_after, with the usual pause.
  std::vector<int> at_once_exit_codes{10};
};

// Runs until SIGTERM/SIGINT or until a child ends with a final code; then the first child gets SIGTERM (it flushes to
// the second), and once it ended the second does. SIGHUP is forwarded to both; when it comes from a closed terminal it
// stops everything. Each child leads a session of its own, so that a terminal's Ctrl-C reaches the supervisor alone,
// and dies with the supervisor (PR_SET_PDEATHSIG; a change of user clears that, sandbox::drop_privileges sets it anew).
// Call it from the only thread. Returns the exit code for the whole: 0 when both ended well after a signal, the final
// code, 1 when a child ended badly or had to be killed at the end, 4 when a program is missing.
int run(const Options& options);

// In a child: receives data sockets handed over on control_fd. `on_socket` gets a new one whenever the other side was
// (re)started; `on_end`, once, when the supervisor is gone. `control` stays open and registered as long as the loop
// lives. An error when `control` is not the supervisor's socket: then nobody supervises this process.
Result<void> receive_sockets(EventLoop& loop, int control, std::function<void(UniqueFd)> on_socket,
                             std::function<void()> on_end);

// SCM_RIGHTS, one descriptor a message of one byte. Sending never blocks: limit_exceeded when the peer has left too
// many unread. Receiving blocks unless the socket is non-blocking (then: timeout); unavailable when the peer is gone.
Result<void> send_fd(int socket, int fd);
Result<UniqueFd> receive_fd(int socket);

}  // namespace daemoneye::supervise
