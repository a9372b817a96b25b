// What the tracker's tests share.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "collector/tracker.h"

namespace daemoneye::collector {

inline constexpr Timestamp boot_time{1'000'000'000'000};

inline sensor::RawProcess raw_process(event::Pid pid, std::uint64_t ticks, event::Pid ppid = 1,
                                      std::uint64_t parent_ticks = 1) {
  sensor::RawProcess raw;
  raw.pid = pid;
  raw.start_ticks = ticks;
  raw.ppid = ppid;
  raw.parent_start_ticks = parent_ticks;
  raw.comm = "task";
  return raw;
}

inline sensor::RawProcess with_image(sensor::RawProcess raw, const std::string& path, const std::string& arguments) {
  raw.executable_path = path;
  raw.filename = path;
  raw.arguments = arguments;
  raw.arguments_bytes = arguments.size();
  raw.comm = path.substr(path.rfind('/') + 1);
  raw.file.inode = std::hash<std::string>{}(path) | 1;
  raw.executable_state = event::ExecutableState::ok;
  raw.uid = raw.euid = 1000;
  return raw;
}

inline Tracker::Options with(const std::function<void(Tracker::Options&)>& change) {
  Tracker::Options options;
  change(options);
  return options;
}

class TrackerTest : public testing::Test {
 protected:
  Tracker make(Tracker::Options options = {}) {
    return Tracker(std::move(options), event::BootId{7}, boot_time,
                   [this](const event::ProcessEvent& event, Tracker::Refused refused) {
                     if (refuse_) {
                       lost_ += refused == Tracker::Refused::lost ? 1 : 0;
                       return false;
                     }
                     events_.push_back(event);
                     return true;
                   });
  }
  sensor::RawEvent event(sensor::RawKind kind, sensor::RawProcess process) {
    sensor::RawEvent raw;
    raw.kind = kind;
    raw.time = Timestamp{boot_time.ns + ++clock_ * 1'000'000};
    raw.process = std::move(process);
    return raw;
  }
  Moment now() {
    ++clock_;
    return {Timestamp{boot_time.ns + clock_ * 1'000'000}, clock_ * 1'000'000};
  }
  std::vector<event::EventKind> kinds() const {
    std::vector<event::EventKind> kinds;
    for (const auto& event : events_) kinds.push_back(event.kind);
    return kinds;
  }

  std::vector<event::ProcessEvent> events_;
  bool refuse_ = false;
  int lost_ = 0;  // of what was refused
  std::int64_t clock_ = 0;
};

}  // namespace daemoneye::collector
