// One supervised program: its process, its control socket, its backoff. Inside this room only.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>

#include "base/backoff.h"
#include "base/event_loop.h"
#include "base/result.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "supervise/supervise.h"

namespace daemoneye::supervise {

struct Child {
  Child(const ChildSpec& spec_in, const Options& options);

  const ChildSpec& spec;
  pid_t pid = 0;     // 0: not running
  UniqueFd control;  // our end
  base::Backoff backoff;
  base::SteadyClock::time_point started;
  bool proven = false;   // one of its lives lasted healthy_after
  bool hurried = false;  // it was started again at once since it last was healthy
  std::optional<EventLoop::TimerId> respawn;

  [[nodiscard]] bool running() const { return pid > 0; }
};

// Forks and executes the program: control socket on descriptor 3, every other descriptor from 4 closed on exec, default
// signal handlers, own session, SIGKILL when the supervisor ends. A program that cannot be executed ends with 127.
Result<void> spawn(Child& child);

}  // namespace daemoneye::supervise
