// A queue with a named bound, a stated behaviour when full, and counts of what it dropped. All members thread-safe.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

#include "base/time.h"

namespace daemoneye::base {

enum class OnFull { wait, drop_oldest, drop_newest };
std::string_view to_string(OnFull policy);

enum class Push { accepted, dropped_oldest, dropped_newest, timed_out, closed };

struct QueueCounters {
  std::uint64_t pushed = 0;  // accepted, including those dropped later as oldest
  std::uint64_t popped = 0;
  std::uint64_t dropped = 0;  // oldest or newest, by policy
  std::size_t depth = 0;
  std::size_t highest_depth = 0;
};

template <class T>
class BoundedQueue {
 public:
  BoundedQueue(std::string name, std::size_t capacity, OnFull on_full)
      : name_(std::move(name)), capacity_(capacity == 0 ? 1 : capacity), on_full_(on_full) {}

  // `wait` blocks until there is room, the deadline passes or the queue is closed; the other policies never block.
  Push push(T item, Deadline deadline = Deadline::never()) {
    std::unique_lock lock(mutex_);
    auto outcome = Push::accepted;
    if (closed_) return Push::closed;
    if (items_.size() >= capacity_) {
      switch (on_full_) {
        case OnFull::wait: {
          auto ready = [&] { return closed_ || items_.size() < capacity_; };
          if (deadline.is_never())
            not_full_.wait(lock, ready);
          else if (!not_full_.wait_until(lock, deadline.point(), ready))
            return Push::timed_out;
          if (closed_) return Push::closed;
          break;
        }
        case OnFull::drop_newest: ++counters_.dropped; return Push::dropped_newest;
        case OnFull::drop_oldest:
          items_.pop_front();
          ++counters_.dropped;
          outcome = Push::dropped_oldest;
          break;
      }
    }
    items_.push_back(std::move(item));
    ++counters_.pushed;
    if (items_.size() > counters_.highest_depth) counters_.highest_depth = items_.size();
    lock.unlock();
    not_empty_.notify_one();
    return outcome;
  }

  // The next item; nothing when the deadline passes, a stop is requested, or the queue is closed and drained.
  std::optional<T> pop(Deadline deadline = Deadline::never(), std::stop_token stop = {}) {
    std::unique_lock lock(mutex_);
    not_empty_.wait_until(lock, stop, deadline.point(), [&] { return closed_ || !items_.empty(); });
    if (items_.empty()) return std::nullopt;
    T item = std::move(items_.front());
    items_.pop_front();
    ++counters_.popped;
    lock.unlock();
    not_full_.notify_one();
    return item;
  }

  // No further push is accepted; what is queued can still be popped.
  void close() {
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
    }
    not_empty_.notify_all();
    not_full_.notify_all();
  }

  [[nodiscard]] QueueCounters counters() const {
    std::lock_guard lock(mutex_);
    auto copy = counters_;
    copy.depth = items_.size();
    return copy;
  }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }

 private:
  const std::string name_;
  const std::size_t capacity_;
  const OnFull on_full_;
  mutable std::mutex mutex_;
  std::condition_variable_any not_empty_;
  std::condition_variable_any not_full_;
  std::deque<T> items_;
  QueueCounters counters_;
  bool closed_ = false;
};

}  // namespace daemoneye::base
