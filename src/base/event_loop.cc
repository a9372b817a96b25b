#include "base/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/time.h"
#include "base/unique_fd.h"

namespace daemoneye::base {

struct EventLoop::State {
  struct Registration {
    std::shared_ptr<Handler> handler;  // shared: a handler may remove itself while it runs
    std::uint64_t generation = 0;      // tells a reused fd number from the one that epoll reported
  };
  struct Timer {
    SteadyClock::time_point due;
    std::chrono::nanoseconds period;
    std::shared_ptr<Task> task;  // shared: it may remove its own timer while it runs
  };
  UniqueFd epoll, wake, clock, signals;
  std::unordered_map<int, Registration> registrations;
  // One timerfd for all timers, set to the earliest: most timers here are short, come and go with each batch of events,
  // and a descriptor for each would cost five system calls. When the earliest goes it is left alone until the next one
  // comes: to wake for nothing costs more than to set it.
  std::unordered_map<TimerId, Timer> timers;
  std::set<std::pair<SteadyClock::time_point, TimerId>> queue;
  std::optional<SteadyClock::time_point> armed;
  TimerId next_timer = 1;
  std::uint64_t next_generation = 1;
  std::mutex mutex;
  std::vector<Task> posted;
  std::thread::id runs_in;   // under the mutex, like the tasks
  bool posted_here = false;  // by the loop's own thread, which needs no wake-up
  std::atomic<bool> stopping{false};

  void run_posted() {
    std::vector<Task> tasks;
    {
      std::lock_guard lock(mutex);
      tasks.swap(posted);
    }
    for (auto& task : tasks) task();
  }
};

namespace {

std::uint64_t drain_counter(int fd) {
  std::uint64_t count = 0;
  // EAGAIN: another wake-up already took the count.
  if (::read(fd, &count, sizeof count) != static_cast<ssize_t>(sizeof count)) return 0;
  return count;
}

}  // namespace

EventLoop::EventLoop() : state_(std::make_unique<State>()) {}
EventLoop::~EventLoop() = default;

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  std::unique_ptr<EventLoop> loop(new EventLoop());
  State& state = *loop->state_;
  state.epoll.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!state.epoll) return fail_errno("epoll_create1", errno);
  state.wake.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!state.wake) return fail_errno("eventfd", errno);
  const int wake = state.wake.get();
  DE_CHECK(loop->add(wake, EPOLLIN, [&state, wake](std::uint32_t) {
    drain_counter(wake);
    state.run_posted();
  }));
  state.clock.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!state.clock) return fail_errno("timerfd_create", errno);
  EventLoop* const self = loop.get();
  DE_CHECK(loop->add(state.clock.get(), EPOLLIN, [self](std::uint32_t) { self->run_timers(); }));
  return loop;
}

Result<void> EventLoop::add(int fd, std::uint32_t events, Handler handler) {
  const std::uint64_t generation = state_->next_generation++;
  epoll_event event{};
  event.events = events;
  event.data.u64 = (generation << 32) | static_cast<std::uint32_t>(fd);
  if (::epoll_ctl(state_->epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) return fail_errno("epoll_ctl add", errno);
  state_->registrations[fd] = {std::make_shared<Handler>(std::move(handler)), generation & 0xffffffff};
  return {};
}

Result<void> EventLoop::modify(int fd, std::uint32_t events) {
  const auto found = state_->registrations.find(fd);
  if (found == state_->registrations.end()) return fail(Errc::internal, "event loop: modify of an unknown descriptor");
  epoll_event event{};
  event.events = events;
  event.data.u64 = (found->second.generation << 32) | static_cast<std::uint32_t>(fd);
  if (::epoll_ctl(state_->epoll.get(), EPOLL_CTL_MOD, fd, &event) != 0) return fail_errno("epoll_ctl modify", errno);
  return {};
}

void EventLoop::remove(int fd) {
  if (state_->registrations.erase(fd) > 0) ::epoll_ctl(state_->epoll.get(), EPOLL_CTL_DEL, fd, nullptr);
}

Result<EventLoop::TimerId> EventLoop::add_timer(std::chrono::nanoseconds first, std::chrono::nanoseconds period,
                                                Task task) {
  const TimerId id = state_->next_timer++;
  // At least 1 ns: a task that adds itself anew gives others their turn.
  const auto due = SteadyClock::now() + std::max(first, std::chrono::nanoseconds(1));
  state_->timers.emplace(id, State::Timer{due, period, std::make_shared<Task>(std::move(task))});
  state_->queue.emplace(due, id);
  if (auto armed = arm(); !armed) {
    remove_timer(id);
    return std::unexpected(armed.error());
  }
  return id;
}

void EventLoop::remove_timer(TimerId timer) {
  const auto found = state_->timers.find(timer);
  if (found == state_->timers.end()) return;
  state_->queue.erase({found->second.due, timer});
  state_->timers.erase(found);
}

Result<void> EventLoop::arm() {
  if (state_->queue.empty()) return {};
  const auto due = state_->queue.begin()->first;
  if (state_->armed && *state_->armed == due) return {};
  const auto since = due.time_since_epoch().count();  // CLOCK_MONOTONIC, as steady_clock is
  itimerspec when{};
  when.it_value = {static_cast<time_t>(since / 1'000'000'000), static_cast<long>(since % 1'000'000'000)};
  if (::timerfd_settime(state_->clock.get(), TFD_TIMER_ABSTIME, &when, nullptr) != 0) {
    return fail_errno("timerfd_settime", errno);
  }
  state_->armed = due;
  return {};
}

void EventLoop::run_timers() {
  drain_counter(state_->clock.get());
  state_->armed.reset();
  const auto now = SteadyClock::now();
  while (!state_->stopping && !state_->queue.empty() && state_->queue.begin()->first <= now) {
    const auto id = state_->queue.begin()->second;
    state_->queue.erase(state_->queue.begin());
    auto& timer = state_->timers.at(id);
    const auto task = timer.task;
    if (timer.period == std::chrono::nanoseconds(0)) {
      state_->timers.erase(id);
    } else {
      // Periods that were slept through are left out.
      timer.due += timer.period * ((now - timer.due) / timer.period + 1);
      state_->queue.emplace(timer.due, id);
    }
    (*task)();
  }
  // It failed with the same descriptor never before; if it does, the loop cannot keep time, and ends.
  if (!arm()) stop();
}

Result<void> EventLoop::on_signals(std::initializer_list<int> signals, std::function<void(int)> handler) {
  if (state_->signals) return fail(Errc::internal, "event loop: on_signals called twice");
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    return fail_errno("pthread_sigmask", error);
  }
  state_->signals.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!state_->signals) return fail_errno("signalfd", errno);
  const int fd = state_->signals.get();
  return add(fd, EPOLLIN, [fd, handler = std::move(handler)](std::uint32_t) {
    signalfd_siginfo info{};
    while (::read(fd, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      handler(static_cast<int>(info.ssi_signo));
    }
  });
}

void EventLoop::post(Task task) {
  {
    std::lock_guard lock(state_->mutex);
    state_->posted.push_back(std::move(task));
    if (state_->runs_in == std::this_thread::get_id()) {
      state_->posted_here = true;
      return;
    }
  }
  const std::uint64_t one = 1;
  // The only failure is a full counter, and then the loop is awake anyway.
  [[maybe_unused]] const auto written = ::write(state_->wake.get(), &one, sizeof one);
}

void EventLoop::run() {
  std::array<epoll_event, 64> ready{};
  const auto runs_in = [this](std::thread::id thread) {
    std::lock_guard lock(state_->mutex);
    state_->runs_in = thread;
  };
  runs_in(std::this_thread::get_id());
  while (!state_->stopping) {
    // What tasks post waits for the next round, so that descriptors get their turn.
    const int patience = state_->posted_here ? 0 : -1;
    const int count = ::epoll_wait(state_->epoll.get(), ready.data(), static_cast<int>(ready.size()), patience);
    if (count < 0) {
      if (errno == EINTR) continue;
      break;  // the epoll descriptor itself is broken: nothing can be waited for
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(count) && !state_->stopping; ++i) {
      const int fd = static_cast<int>(ready[i].data.u64 & 0xffffffff);
      const auto found = state_->registrations.find(fd);
      // An earlier handler of this round removed it.
      if (found == state_->registrations.end() || found->second.generation != ready[i].data.u64 >> 32) continue;
      const auto handler = found->second.handler;
      (*handler)(ready[i].events);
    }
    if (!state_->stopping && std::exchange(state_->posted_here, false)) state_->run_posted();
  }
  runs_in({});
  state_->stopping = false;
}

void EventLoop::stop() {
  state_->stopping = true;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(state_->wake.get(), &one, sizeof one);
}

}  // namespace daemoneye::base
