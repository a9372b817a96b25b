// Points in time and deadlines.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/result.h"

namespace daemoneye::base {

// Wall-clock time: Unix nanoseconds, UTC.
struct Timestamp {
  std::int64_t ns = 0;
  auto operator<=>(const Timestamp&) const = default;
};

Timestamp wall_now();
// "2026-11-21T20:48:23.123456789Z"; always nine fraction digits, so that text sorts as time does.
std::string to_iso(Timestamp time);
// ISO 8601 with 'T' or a space, optional fraction, 'Z', an offset or nothing (= UTC); also a date alone.
Result<Timestamp> parse_iso(std::string_view text);
// "250ms", "30s", "5m", "2h", "7d"; the unit is required.
Result<std::chrono::nanoseconds> parse_duration(std::string_view text);

using SteadyClock = std::chrono::steady_clock;

// The moment after which an operation must give up. Copyable value; `never()` has no end.
class Deadline {
 public:
  static Deadline after(std::chrono::nanoseconds span) { return Deadline(SteadyClock::now() + span); }
  static Deadline at(SteadyClock::time_point point) { return Deadline(point); }
  static Deadline never() { return Deadline(std::nullopt); }

  [[nodiscard]] bool expired() const { return point_ && SteadyClock::now() >= *point_; }
  [[nodiscard]] bool is_never() const { return !point_; }
  // Time left, not below zero; for never() the largest duration.
  [[nodiscard]] std::chrono::nanoseconds remaining() const;
  // For poll(2)/epoll_wait(2): -1 for never(), rounded up, at most INT_MAX.
  [[nodiscard]] int poll_timeout_ms() const;
  // The steady time point; for never() one that is a year away.
  [[nodiscard]] SteadyClock::time_point point() const;

 private:
  explicit Deadline(std::optional<SteadyClock::time_point> point) : point_(point) {}
  std::optional<SteadyClock::time_point> point_;
};

}  // namespace daemoneye::base

namespace daemoneye {
using base::Deadline;
using base::Timestamp;
}  // namespace daemoneye
