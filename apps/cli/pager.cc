#include "pager.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace daemoneye::apps {
namespace {

constexpr int could_not_start = 127;  // as the shell says it

[[noreturn]] void become_pager(int file) {
  ::dup2(file, STDIN_FILENO);
  ::signal(SIGPIPE, SIG_DFL);
  // NOLINTBEGIN(concurrency-mt-unsafe): a child of its own
  const char* pager = std::getenv("PAGER");
  // Colours as they are, long lines cut, gone when all fits; and nobody starts a shell out of it as another user.
  ::setenv("LESS", "FRSX", 0);
  ::setenv("LESSSECURE", "1", 1);
  // NOLINTEND(concurrency-mt-unsafe)
  if (pager != nullptr && *pager != '\0') ::execl("/bin/sh", "sh", "-c", pager, static_cast<char*>(nullptr));
  ::execlp("less", "less", static_cast<char*>(nullptr));
  ::_exit(could_not_start);
}

}  // namespace

bool show_in_pager(int file) {
  const char* pager = std::getenv("PAGER");  // NOLINT(concurrency-mt-unsafe): nobody changes it
  if (pager != nullptr && std::strcmp(pager, "cat") == 0) return false;
  // Ctrl-C is the pager's while it runs.
  struct sigaction ignore{}, before{};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGINT, &ignore, &before);
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGINT, SIG_DFL);
    become_pager(file);
  }
  int status = 0;
  bool ended = child > 0;
  while (ended && ::waitpid(child, &status, 0) < 0) ended = errno == EINTR;
  ::sigaction(SIGINT, &before, nullptr);
  return ended && !(WIFEXITED(status) && WEXITSTATUS(status) == could_not_start);
}

}  // namespace daemoneye::apps
