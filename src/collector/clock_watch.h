// The wall clock held against the one that nobody can set: spans that stay true, and notice of when it was set.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <optional>
#include <utility>

#include "base/time.h"

namespace daemoneye::collector {

// Since the machine was started, suspension included.
inline std::chrono::nanoseconds boot_clock() {
  timespec time{};
  ::clock_gettime(CLOCK_BOOTTIME, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

// A moment by both clocks: the wall clock is told, and may be set at any time; spans are measured by the other one.
struct Moment {
  Timestamp wall;
  std::int64_t boot_ns = 0;  // CLOCK_BOOTTIME
};
inline Moment moment_now() { return {base::wall_now(), boot_clock().count()}; }

// Every time that the wall clock may have shown from `begin` to `end`, also when it was set in between.
inline std::pair<Timestamp, Timestamp> span_between(const Moment& begin, const Moment& end) {
  const std::int64_t elapsed = end.boot_ns - begin.boot_ns;
  return {std::min(begin.wall, Timestamp{end.wall.ns - elapsed}),
          std::max(end.wall, Timestamp{begin.wall.ns + elapsed})};
}

class ClockWatch {
 public:
  // A clock that is slewed gains or loses at most 1 ms in 2 s; a step is more than what scheduling between the two
  // readings makes.
  static constexpr std::chrono::milliseconds least_step{500};
  struct Step {
    Timestamp from, to;  // what the clock would have shown, and what it shows
    double seconds = 0;
  };
  // Both clocks, read one after the other.
  std::optional<Step> look(Timestamp wall, std::chrono::nanoseconds boot) {
    const std::int64_t offset = wall.ns - boot.count();
    const auto before = offset_;
    offset_ = offset;
    if (!before) return std::nullopt;
    const std::int64_t step = offset - *before;
    if (std::chrono::abs(std::chrono::nanoseconds(step)) < least_step) return std::nullopt;
    return Step{Timestamp{wall.ns - step}, wall, static_cast<double>(step) / 1e9};
  }

 private:
  std::optional<std::int64_t> offset_;
};

}  // namespace daemoneye::collector
