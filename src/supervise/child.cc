#include "supervise/child.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <vector>

namespace daemoneye::supervise {
namespace {

constexpr int cannot_execute = 127;

// Between fork and exec, in the child: system calls only.
[[noreturn]] void give_up(const char* what) {
  const int error = errno;
  const char* text = ::strerrordesc_np(error);
  const std::array<const char*, 5> parts{"supervise: ", what, ": ", text != nullptr ? text : "unknown error", "\n"};
  for (const char* part : parts) {
    // Nothing can be done when even standard error is gone; the exit code still tells.
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, part, std::strlen(part));
  }
  ::_exit(cannot_execute);
}

void reset_signals() {
  struct sigaction standard{};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) {
    // SIGKILL, SIGSTOP and the C library's own refuse, and keep their default.
    (void)::sigaction(signal, &standard, nullptr);
  }
  sigset_t none;
  sigemptyset(&none);
  if (::sigprocmask(SIG_SETMASK, &none, nullptr) != 0) give_up("sigprocmask");
}

[[noreturn]] void become(char* const* argv, int control, pid_t supervisor) {
  if (::setsid() < 0) give_up("setsid");
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) give_up("prctl(PR_SET_PDEATHSIG)");
  // The supervisor may have ended before the signal was asked for.
  if (::getppid() != supervisor) ::_exit(cannot_execute);
  reset_signals();
  if (control == control_fd) {
    if (::fcntl(control, F_SETFD, 0) != 0) give_up("fcntl");
  } else if (::dup2(control, control_fd) < 0) {
    give_up("dup2");
  }
  // Also what others left open without the flag, a job server's pipe for instance.
  if (::close_range(control_fd + 1, UINT_MAX, CLOSE_RANGE_CLOEXEC) != 0) give_up("close_range");
  ::execv(argv[0], argv);
  give_up(argv[0]);
}

std::uint64_t seed() {
  return static_cast<std::uint64_t>(base::wall_now().ns) ^ (static_cast<std::uint64_t>(::getpid()) << 32);
}

}  // namespace

// The floor keeps jitter from making a crash loop out of a program that ends at once.
Child::Child(const ChildSpec& spec_in, const Options& options)
    : spec(spec_in), backoff(options.backoff_first, options.backoff_max, seed(), options.backoff_first) {}

Result<void> spawn(Child& child) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) return fail_errno("socketpair", errno);
  UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  std::vector<char*> argv;
  argv.reserve(child.spec.argv.size() + 1);
  for (const auto& argument : child.spec.argv) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);

  const pid_t supervisor = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno("fork", errno);
  if (pid == 0) become(argv.data(), theirs.get(), supervisor);
  child.pid = pid;
  child.control = std::move(ours);
  child.started = base::SteadyClock::now();
  return {};
}

}  // namespace daemoneye::supervise
