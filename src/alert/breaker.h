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
  // As it was before a restart. It is never open for longer than the configuration of today says.
  void restore(State state, unsigned failures, Timestamp open_until, Timestamp now);
  [[nodiscard]] std::chrono::milliseconds open_for() const { return open_for_; }
  // When an open breaker becomes half-open.
  [[nodiscard]] Timestamp open_until() const { return open_until_; }
  [[nodiscard]] State last_state() const { return state_; }  // as it was when it was last asked for
  [[nodiscard]] unsigned failures_in_a_row() const { return failures_in_a_row_; }

 private:
  unsigned limit_;
  std::chrono::milliseconds open_for_;
  unsigned failures_in_a_row_ = 0;
  State state_ = State::closed;
  Timestamp open_until_;
};

std::string_view to_string(Breaker::State state);
Breaker::State parse_breaker(std::string_view text);  // what is not known is closed

}  // namespace daemoneye::alert
