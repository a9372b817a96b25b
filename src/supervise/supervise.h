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
  std::vector<std::string> argv;          // argv[0] is the executable's path
};

struct Options {
  ChildSpec first, second;                // "procmond", "agent"
  std::chrono::milliseconds backoff_first{100}, backoff_max{10000};
  std::chrono::milliseconds shutdown_grace{10000};  // then SIGKILL
  // A child that ends with one of these is not started again: configuration and privileges do not heal by themselves.
  std::vector<int> final_exit_codes{2, 4};
};

// Runs until SIGTERM/SIGINT (forwarded to both: first the second child, when it ended the first) or until a child ends
// with a final code (the other is then stopped). SIGHUP is forwarded. Children die with the supervisor
// (PR_SET_PDEATHSIG). Returns the exit code for the whole.
int run(const Options& options);

// In a child: receives data sockets handed over on control_fd. `on_socket` gets a new one whenever the other side was
// (re)started; `on_end` when the supervisor is gone.
Result<void> receive_sockets(EventLoop& loop, int control, std::function<void(UniqueFd)> on_socket,
                             std::function<void()> on_end);

// SCM_RIGHTS, one descriptor a message of one byte.
Result<void> send_fd(int socket, int fd);
Result<UniqueFd> receive_fd(int socket);

}  // namespace daemoneye::supervise
