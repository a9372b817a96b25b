// Keeps procmond connected to the agent's socket.
#pragma once

#include <chrono>
#include <string>

#include "base/event_loop.h"
#include "base/time.h"
#include "collector/collector.h"

namespace daemoneye::procmond {

// Connects to the agent's socket, again whenever the connection is gone, with a growing pause. Belongs to the loop's
// thread; the loop and the collector outlive it. `head_start`: so long it first leaves the connection to the
// supervisor, which hands a restarted agent to us; a line that broke while both live it does not.
class Connector {
 public:
  Connector(EventLoop& loop, std::string path, collector::Collector& collector, std::chrono::milliseconds head_start);
  Result<void> start();

 private:
  void attempt();

  EventLoop& loop_;
  std::string path_;
  collector::Collector& collector_;
  std::chrono::milliseconds head_start_;
  int failures_ = 0;
  base::SteadyClock::time_point not_before_;
};

inline constexpr std::chrono::milliseconds supervised_head_start{5000};

}  // namespace daemoneye::procmond
