// procmond's way out of its privileges, and how it tells of it.
#pragma once

#include <functional>
#include <string>

#include "base/event_loop.h"
#include "config/config.h"
#include "observe/health.h"
#include "sandbox/sandbox.h"

namespace daemoneye::procmond {

struct Confinement {
  std::string audit_folder, key_folder;
  std::vector<std::string> configuration_folders = {};  // stay readable
  bool reads_proc_links = false;                        // scans or the source see executables by /proc alone
  std::function<Result<void>()> once_unprivileged;      // opens what must belong to the collector's user
};
// After everything privileged is open, and before anything is read that the agent says.
Result<sandbox::Reached> confine(const config::Settings& settings, Confinement confinement);

// Health of "capabilities": what was reached, what is missing, what was refused since.
observe::ComponentHealth capability_health(const sandbox::Reached& reached);

// Looks now and then for system calls that were refused: metric and log, a line when a call is refused for the first
// time and then at most once a minute for each. What it gives looks once more, for the end.
Result<std::function<void()>> watch_refused_calls(EventLoop& loop);

}  // namespace daemoneye::procmond
