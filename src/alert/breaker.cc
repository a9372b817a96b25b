#include "alert/breaker.h"

namespace daemoneye::alert {

Breaker::State Breaker::state(Timestamp now) {
  if (state_ == State::open && now >= open_until_) state_ = State::half_open;
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

std::string_view to_string(Breaker::State state) {
  switch (state) {
    case Breaker::State::closed: return "closed";
    case Breaker::State::open: return "open";
    case Breaker::State::half_open: return "half_open";
  }
  return "unknown";
}

}  // namespace daemoneye::alert
