#include "supervise/supervise.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

#include "observe/log.h"
#include "supervise/child.h"

namespace daemoneye::supervise {
namespace {

using observe::Level;

constexpr int exit_failed = 1;
constexpr int exit_unavailable = 4;

class Supervisor {
 public:
  Supervisor(const Options& options, EventLoop& loop)
      : options_(options),
        loop_(loop),
        first_(options.first, options),
        second_(options.second, options),
        on_terminal_(::isatty(STDIN_FILENO) == 1) {}

  int run() {
    const auto watching =
        loop_.on_signals({SIGTERM, SIGINT, SIGHUP, SIGCHLD}, [this](int signal) { on_signal(signal); });
    if (!watching) return fatal("cannot watch signals", watching.error());
    start(first_);
    start(second_);
    loop_.run();
    return exit_code_;
  }

 private:
  Child& other(const Child& child) { return &child == &first_ ? second_ : first_; }

  int fatal(std::string_view what, const Error& error) {
    observe::log(Level::error, "supervise", what, {{"error", std::string_view(error.message)}});
    return exit_failed;
  }

  void start(Child& child) {
    child.respawn.reset();
    if (const auto spawned = spawn(child); !spawned) {
      // Out of processes or descriptors: that may pass.
      fatal("cannot start " + child.spec.name, spawned.error());
      schedule(child);
      return;
    }
    observe::log(Level::info, "supervise", "started",
                 {{"program", std::string_view(child.spec.name)}, {"pid", std::int64_t{child.pid}}});
    if (other(child).running()) connect();
  }

  // A new pair, an end to each. A side that is just dying gets another when it is back.
  void connect() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
      // Without a socket they cannot work: take the newest start back and try again after its backoff.
      fatal("cannot make a socket pair", fail_errno("socketpair", errno).error());
      ::kill(first_.pid, SIGKILL);
      return;
    }
    const UniqueFd for_first(ends[0]);
    const UniqueFd for_second(ends[1]);
    hand_over(first_, for_first.get());
    hand_over(second_, for_second.get());
  }

  void hand_over(const Child& child, int fd) {
    const auto sent = send_fd(child.control.get(), fd);
    if (sent) return;
    observe::log(Level::warn, "supervise", "cannot hand over a socket",
                 {{"program", std::string_view(child.spec.name)}, {"error", std::string_view(sent.error().message)}});
    // It lives and does not read: it hangs, and only a new start helps.
    if (sent.error().code != Errc::unavailable) ::kill(child.pid, SIGKILL);
  }

  void schedule(Child& child) {
    const auto delay = child.backoff.next();
    observe::log(Level::info, "supervise", "starting again after a pause",
                 {{"program", std::string_view(child.spec.name)}, {"pause_ms", std::int64_t{delay.count()}}});
    const auto timer = loop_.add_timer(delay, std::chrono::nanoseconds(0), [this, &child] { start(child); });
    if (timer) {
      child.respawn = *timer;
    } else {
      fatal("cannot wait for the next start", timer.error());
      stop(exit_failed);
    }
  }

  void on_signal(int signal) {
    switch (signal) {
      case SIGCHLD: reap(); break;
      case SIGHUP:
        if (terminal_is_gone()) {
          stop(0);
          break;
        }
        for (const auto* child : {&first_, &second_}) {
          if (child->running()) ::kill(child->pid, SIGHUP);
        }
        break;
      default: stop(0); break;
    }
  }

  // The same signal asks to reload and tells that the terminal was closed.
  [[nodiscard]] bool terminal_is_gone() const {
    pollfd input{STDIN_FILENO, 0, 0};
    return on_terminal_ && ::poll(&input, 1, 0) == 1 && (input.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
  }

  void reap() {
    for (;;) {
      siginfo_t info{};
      // Looked at first: as long as it is not reaped its number cannot be another's, and so neither its group's.
      if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return;
      for (auto* child : {&first_, &second_}) {
        // What it left running (its helpers) goes with it.
        if (child->pid == info.si_pid) ::kill(-info.si_pid, SIGKILL);
      }
      int status = 0;
      if (::waitpid(info.si_pid, &status, 0) != info.si_pid) return;
      for (auto* child : {&first_, &second_}) {
        if (child->pid == info.si_pid) ended(*child, status);
      }
    }
  }

  void ended(Child& child, int status) {
    child.pid = 0;
    child.control.reset();
    const bool exited = WIFEXITED(status);
    const int code = exited ? WEXITSTATUS(status) : WTERMSIG(status);
    // SIGTERM that came before the program had its own handler is an orderly end as well.
    const bool well = exited ? code == 0 : (stopping_ && code == SIGTERM);
    observe::log(stopping_ && well ? Level::info : Level::warn, "supervise", "ended",
                 {{"program", std::string_view(child.spec.name)},
                  {exited ? std::string_view("exit_code") : std::string_view("signal"), std::int64_t{code}}});
    if (stopping_) {
      if (!well && exit_code_ == 0) exit_code_ = exit_failed;
      stop_next();
      return;
    }
    const bool healthy = base::SteadyClock::now() - child.started >= options_.healthy_after;
    child.proven |= healthy;
    // One that has run well was configured well: a full disk, say, heals, and must not take the other child down.
    const bool final = std::ranges::find(options_.final_exit_codes, code) != options_.final_exit_codes.end();
    if (exited && final && !child.proven) {
      observe::log(Level::error, "supervise", "not started again: its exit code says that it would not help",
                   {{"program", std::string_view(child.spec.name)}, {"exit_code", std::int64_t{code}}});
      stop(code);
      return;
    }
    if (healthy) {
      child.backoff.reset();
      child.hurried = false;
    }
    const bool at_once = std::ranges::find(options_.at_once_exit_codes, code) != options_.at_once_exit_codes.end();
    if (exited && at_once && !child.hurried) {
      child.hurried = true;
      start(child);
      return;
    }
    schedule(child);
  }

  void stop(int code) {
    if (stopping_) return;
    stopping_ = true;
    exit_code_ = code;
    for (auto* child : {&first_, &second_}) {
      if (child->respawn) loop_.remove_timer(*child->respawn);
      child->respawn.reset();
    }
    stop_next();
  }

  // The first one flushes to the second, so the second is told only when the first has ended.
  void stop_next() {
    Child* next = first_.running() ? &first_ : second_.running() ? &second_ : nullptr;
    if (next == nullptr) {
      loop_.stop();
      return;
    }
    if (next == being_stopped_) return;  // it was told; the other one ended meanwhile
    being_stopped_ = next;
    if (grace_) loop_.remove_timer(*grace_);
    ::kill(next->pid, SIGTERM);
    const auto timer = loop_.add_timer(options_.shutdown_grace, std::chrono::nanoseconds(0), [this, next] {
      grace_.reset();
      if (!next->running()) return;
      observe::log(Level::error, "supervise", "killed: it did not end in time",
                   {{"program", std::string_view(next->spec.name)},
                    {"grace_ms", std::int64_t{options_.shutdown_grace.count()}}});
      ::kill(-next->pid, SIGKILL);
    });
    if (timer) {
      grace_ = *timer;
    } else {
      // Without a timer there is no bound: end it now.
      fatal("cannot wait for the end", timer.error());
      ::kill(-next->pid, SIGKILL);
    }
  }

  const Options& options_;
  EventLoop& loop_;
  Child first_, second_;
  const bool on_terminal_;
  bool stopping_ = false;
  int exit_code_ = 0;
  const Child* being_stopped_ = nullptr;
  std::optional<EventLoop::TimerId> grace_;
};

}  // namespace

int run(const Options& options) {
  for (const auto* spec : {&options.first, &options.second}) {
    if (spec->argv.empty() || ::access(spec->argv.front().c_str(), X_OK) != 0) {
      observe::log(Level::error, "supervise", "a program to supervise is missing or not executable",
                   {{"program", std::string_view(spec->name)},
                    {"path", std::string_view(spec->argv.empty() ? std::string_view() : spec->argv.front())}});
      return exit_unavailable;
    }
  }
  auto loop = EventLoop::create();
  if (!loop) {
    observe::log(Level::error, "supervise", "cannot start", {{"error", std::string_view(loop.error().message)}});
    return exit_failed;
  }
  return Supervisor(options, **loop).run();
}

}  // namespace daemoneye::supervise
