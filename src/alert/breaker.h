// Circuit breaker of one sink: after so many failures in a row nothing is sent for a while, then one probe decides.
// A passive value: the caller tells the time. One thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "base/time.h"

namespace daemoneye::alert {

class Breaker {
 public:
  enum class State : std::uint8_t { closed, open, half_open };

  Breaker(unsigned failures, std::chrono::milliseconds open_for)
      : limit_(failures == 0 ? 1 : failures), open_for_(open_for) {}

  // Open turns half-open once its time is over; half-open lets one probe through at a time (the caller has at most
  // one attempt under way).
  [[nodiscard]] State state(Timestamp now);
  void succeeded();
  void failed(Timestamp now);
  // When an open breaker becomes half-open.
  [[nodiscard]] Timestamp open_until() const { return open_until_; }

 private:
  unsigned limit_;
  std::chrono::milliseconds open_for_;
  unsigned failures_in_a_row_ = 0;
  State state_ = State::closed;
  Timestamp open_until_;
};

std::string_view to_string(Breaker::State state);

}  // namespace daemoneye::alert
