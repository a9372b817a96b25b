#include "alert/breaker.h"

#include <algorithm>

namespace daemoneye::alert {

Breaker::State Breaker::state(Timestamp now) {
  if (state_ != State::open) return state_;
  // A clock that was set back must not keep it open for longer.
  open_until_ = std::min(open_until_, Timestamp{now.ns + std::chrono::nanoseconds(open_for_).count()});
  if (now >= open_until_) state_ = State::half_open;
  return state_;
}

void Breaker::succeeded() {
  state_ = State::closed;
  failures_in_a_row_ = 0;
}

void Breaker::failed(Timestamp now) {
  ++failures_in_a_row_;
  if (state_ == State::half_open || failures_in_a_row_ >= limit_) {
    state_ = State::open;
    open_until_ = Timestamp{now.ns + std::chrono::nanoseconds(open_for_).count()};
  }
}

void Breaker::restore(State state, unsigned failures, Timestamp open_until, Timestamp now) {
  state_ = state;
  failures_in_a_row_ = failures;
  open_until_ = std::min(open_until, Timestamp{now.ns + std::chrono::nanoseconds(open_for_).count()});
}

std::string_view to_string(Breaker::State state) {
  switch (state) {
    case Breaker::State::closed: return "closed";
    case Breaker::State::open: return "open";
    case Breaker::State::half_open: return "half_open";
  }
  return "unknown";
}

Breaker::State parse_breaker(std::string_view text) {
  if (text == "open") return Breaker::State::open;
  if (text == "half_open") return Breaker::State::half_open;
  return Breaker::State::closed;
}

}  // namespace daemoneye::alert
