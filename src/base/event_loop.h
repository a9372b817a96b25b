// One epoll loop: descriptors, timers (one timerfd), signals (signalfd), work posted from other threads (eventfd).
// All members but post() and stop() belong to the thread that calls run(). Objects registered here are passive:
// they hold no loop of their own. A handler may add or remove any registration, its own included.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>

#include "base/result.h"

namespace daemoneye::base {

class EventLoop {
 public:
  using Handler = std::function<void(std::uint32_t epoll_events)>;
  using Task = std::function<void()>;
  using TimerId = int;

  static Result<std::unique_ptr<EventLoop>> create();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // `fd` stays the caller's and must be removed before it is closed. `events`: EPOLLIN, EPOLLOUT, …
  Result<void> add(int fd, std::uint32_t events, Handler handler);
  Result<void> modify(int fd, std::uint32_t events);
  void remove(int fd);

  // Calls `task` after `first`, then every `period` (zero: once). At least 1 ns is waited.
  Result<TimerId> add_timer(std::chrono::nanoseconds first, std::chrono::nanoseconds period, Task task);
  void remove_timer(TimerId timer);

  // Blocks these signals in this thread (threads made later inherit that) and calls `handler` for each that arrives.
  // At most one call of on_signals() a loop.
  Result<void> on_signals(std::initializer_list<int> signals, std::function<void(int)> handler);

  // Runs `task` in the loop's thread. From any thread; also before run().
  void post(Task task);
  void run();
  // Makes run() return after the current handler. From any thread; stays in force until the next run().
  void stop();

 private:
  EventLoop();
  Result<void> arm();
  void run_timers();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace daemoneye::base

namespace daemoneye {
using base::EventLoop;
}
