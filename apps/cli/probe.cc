#include "probe.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/unique_fd.h"
#include "common/find_procmond.h"

namespace daemoneye::apps {
namespace {

constexpr std::size_t max_answer = 64 * 1024;

Result<pid_t> start(const std::string& program, int output) {
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  std::array<std::string, 3> words = {program, "--role", "probe"};
  std::array<char*, 4> argv = {words[0].data(), words[1].data(), words[2].data(), nullptr};
  std::array<char*, 1> environment = {nullptr};  // nothing of this user's
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, program.c_str(), &actions, nullptr, argv.data(), environment.data());
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return fail_errno(program, error);
  return pid;
}

// Until the end of its output, or the deadline.
Result<std::string> read_all(int fd, Deadline deadline) {
  std::string answer;
  std::array<char, 4096> buffer{};
  while (answer.size() < max_answer) {
    pollfd waited{fd, POLLIN, 0};
    const int ready = ::poll(&waited, 1, deadline.poll_timeout_ms());
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return fail(Errc::timeout, "procmond tried for too long");
    const auto got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("what procmond says", errno);
    if (got == 0) return answer;
    answer.append(buffer.data(), static_cast<std::size_t>(got));
  }
  return fail(Errc::limit_exceeded, "procmond says too much");
}

}  // namespace

Result<std::string> probe_sources(Deadline deadline) {
  DE_TRY(const auto program, find_procmond());
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno("pipe", errno);
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  DE_TRY(const auto pid, start(program, writing.get()));
  writing.reset();
  auto answer = read_all(reading.get(), deadline);
  if (!answer) ::kill(pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (answer && !(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
    return fail(Errc::unavailable, program + " does not run here (a library may be missing: ldd " + program + ')');
  }
  return answer;
}

}  // namespace daemoneye::apps
