// Trying is the only proof: what must not work any more is tried once, at the end.
#include <fcntl.h>
#include <sys/capability.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/unique_fd.h"
#include "sandbox/mechanisms.h"

namespace daemoneye::sandbox {
namespace {

class Attempts {
 public:
  // `outcome` as of a system call. A descriptor that was given is closed.
  void must_fail(const std::string& what, long outcome) {
    const int error = errno;
    if (outcome >= 0) {
      if (outcome > STDERR_FILENO) ::close(static_cast<int>(outcome));
      worked_ += (worked_.empty() ? "" : ", ") + what;
      return;
    }
    failed_.push_back(what + ": " + std::strerror(error));
  }
  Result<std::vector<std::string>> outcome() && {
    if (!worked_.empty()) return fail(Errc::internal, "what must be forbidden still works: " + worked_);
    return std::move(failed_);
  }

 private:
  std::vector<std::string> failed_;
  std::string worked_;
};

}  // namespace

Result<std::vector<std::string>> try_the_forbidden(const Plan& plan, const InForce& in_force) {
  const ExpectRefusals expect;
  Attempts attempts;
  if (in_force.user && plan.drop_capabilities && plan.keep_capabilities.empty()) {
    attempts.must_fail("open /etc/shadow", ::open("/etc/shadow", O_RDONLY | O_CLOEXEC));
  }
  if (in_force.user || in_force.landlock)
    attempts.must_fail("write /etc/passwd", ::open("/etc/passwd", O_WRONLY | O_CLOEXEC));
  if (in_force.landlock) attempts.must_fail("list /", ::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (in_force.system_calls) {
    attempts.must_fail("socket AF_INET", ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    attempts.must_fail("socket AF_NETLINK", ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0));
    // Harmless where they would work: no such program, no namespace named, no process traced.
    attempts.must_fail("unshare", ::syscall(SYS_unshare, 0));
    attempts.must_fail("ptrace", ::syscall(SYS_ptrace, -1, 0, 0, 0));
    const bool refused = ::syscall(SYS_execve, "", nullptr, nullptr) < 0 && errno == EPERM;
    if (!refused) errno = 0;
    attempts.must_fail("execve", refused ? -1 : 0);
  }
  return std::move(attempts).outcome();
}

}  // namespace daemoneye::sandbox
