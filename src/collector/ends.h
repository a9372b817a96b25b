// Processes that ended lately: their late and repeated events must not begin them anew.
#pragma once

#include <cstdint>
#include <vector>

#include "event/process_event.h"

namespace daemoneye::collector {

struct End {
  event::Pid pid = 0;
  std::uint64_t start_ticks = 0;  // of the latest instance of that pid that ended
  Timestamp time;
  std::int32_t exit_code = 0, exit_signal = 0;
  bool known = false;  // an event told of it; else it was only found gone
  bool told = false;   // the process was told of, and so is its end
};

// A table by pid with as many places as pids are given out before one is overwritten. A pid's instances follow each
// other, so that the latest end speaks for all before it.
class Ends {
 public:
  static constexpr std::size_t places = 8192;

  // The end of `pid`'s instance that began at `start_ticks`, or of a later one; null when none is remembered.
  [[nodiscard]] End* find(event::Pid pid, std::uint64_t start_ticks) {
    End& end = table_[pid % places];
    return end.pid == pid && end.start_ticks >= start_ticks ? &end : nullptr;
  }
  void remember(const End& end) {
    End& place = table_[end.pid % places];
    if (place.pid != end.pid || place.start_ticks <= end.start_ticks) place = end;
  }

 private:
  std::vector<End> table_ = std::vector<End>(places);
};

}  // namespace daemoneye::collector
