// daemoneye-cli: standard streams and signals around cli::run().
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <streambuf>
#include <string>
#include <vector>

#include "base/freed_memory.h"
#include "cli/cli.h"
#include "cli/exit_code.h"
#include "pager.h"
#include "probe.h"

namespace {

using daemoneye::cli::Exit;

// A buffer over a descriptor that remembers why writing failed.
class DescriptorBuffer final : public std::streambuf {
 public:
  explicit DescriptorBuffer(int fd) : fd_(fd) { setp(buffer_, buffer_ + sizeof buffer_); }
  [[nodiscard]] int error() const { return error_; }

 protected:
  int_type overflow(int_type c) override {
    if (sync() != 0) return traits_type::eof();
    if (!traits_type::eq_int_type(c, traits_type::eof())) {
      *pptr() = traits_type::to_char_type(c);
      pbump(1);
    }
    return traits_type::not_eof(c);
  }
  int sync() override {
    const char* from = pbase();
    while (from < pptr() && error_ == 0) {
      const auto written = ::write(fd_, from, static_cast<std::size_t>(pptr() - from));
      if (written >= 0)
        from += written;
      else if (errno != EINTR)
        error_ = errno;
    }
    setp(buffer_, buffer_ + sizeof buffer_);
    return error_ == 0 ? 0 : -1;
  }

 private:
  int fd_;
  int error_ = 0;
  char buffer_[64 * 1024];
};

bool is_terminal() {
  const char* term = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe): there is one thread
  return ::isatty(STDOUT_FILENO) == 1 && !(term != nullptr && std::strcmp(term, "dumb") == 0);
}

winsize terminal_size() {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size : winsize{};
}

// The verbs keep their deadline themselves; this ends what hangs outside of them (a read from stdin, a dead disk).
void out_of_time(int) {
  static constexpr char text[] = "error: gave up: the time limit has passed (--timeout)\n";
  (void)!::write(STDERR_FILENO, text, sizeof text - 1);
  ::_exit(static_cast<int>(Exit::failed));
}

void limit_time(std::chrono::nanoseconds timeout) {
  itimerval timer{};
  if (timeout <= std::chrono::nanoseconds(0)) {
    ::setitimer(ITIMER_REAL, &timer, nullptr);
    return;
  }
  struct sigaction action{};
  action.sa_handler = out_of_time;
  ::sigaction(SIGALRM, &action, nullptr);
  // A little later than the deadline, so that a verb that keeps it can say what it was doing.
  const auto microseconds = std::chrono::ceil<std::chrono::microseconds>(timeout + std::chrono::seconds(1)).count();
  timer.it_value.tv_sec = static_cast<time_t>(microseconds / 1'000'000);
  timer.it_value.tv_usec = static_cast<suseconds_t>(microseconds % 1'000'000);
  ::setitimer(ITIMER_REAL, &timer, nullptr);
}

// Asked by another thread than the one that is interrupted.
std::atomic<bool> was_interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free);

void interrupt(int) { was_interrupted = true; }

// The first question is also what makes the signals harmless. A read that waits comes back from them.
bool interrupted() {
  static const bool asked = [] {
    struct sigaction action{};
    action.sa_handler = interrupt;
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
    return true;
  }();
  return asked && was_interrupted;
}

// The other end of a pipe or connection is closed, or the terminal is hung up.
bool reader_is_gone() {
  pollfd out{STDOUT_FILENO, 0, 0};
  return ::poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLHUP)) != 0;
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);  // a closed pipe is seen when writing
  daemoneye::base::keep_freed_memory();
  DescriptorBuffer buffer(STDOUT_FILENO);
  std::ostream out(&buffer);
  const char* no_colour = std::getenv("NO_COLOR");  // NOLINT(concurrency-mt-unsafe): there is one thread
  std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  if (no_colour != nullptr && *no_colour != '\0') arguments.insert(arguments.begin(), "--no-color");
  daemoneye::cli::Io io{.in = std::cin, .out = out, .err = std::cerr};
  io.terminal = is_terminal();
  const auto size = terminal_size();
  io.width = size.ws_col;
  io.height = size.ws_row;
  io.in_terminal = ::isatty(STDIN_FILENO) == 1;
  io.limit_time = limit_time;
  io.interrupted = interrupted;
  io.reader_is_gone = reader_is_gone;
  io.forget_interrupt = [] { was_interrupted = false; };
  io.page = [&out](int file) {
    out.flush();
    return daemoneye::apps::show_in_pager(file);
  };
  io.probe_sources = daemoneye::apps::probe_sources;
  const int code = daemoneye::cli::run(arguments, io);
  out.flush();
  // Whoever reads our output has seen enough: nothing to complain about.
  if (buffer.error() == EPIPE) return code;
  if (buffer.error() != 0) {
    std::cerr << "error: cannot write the output: " << std::strerror(buffer.error()) << '\n';  // NOLINT: one thread
    return static_cast<int>(Exit::failed);
  }
  return code;
}
