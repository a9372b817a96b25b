#include <dirent.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <memory>
#include <string_view>

#include "base/time.h"
#include "sandbox/mechanisms.h"

namespace daemoneye::sandbox {
namespace {

#if defined(__SANITIZE_THREAD__)
constexpr int own_threads = 2;  // ThreadSanitizer keeps one of its own
#else
constexpr int own_threads = 1;
#endif
// One that was joined is listed for a moment more, until the kernel has taken it apart.
constexpr std::chrono::milliseconds joined_patience{1000};

Result<int> count_threads() {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/proc/self/task"), &::closedir);
  if (!folder) return fail_errno("opening /proc/self/task", errno);
  int threads = 0;
  for (const dirent* entry = ::readdir(folder.get()); entry != nullptr; entry = ::readdir(folder.get())) {
    if (entry->d_name[0] != '.') ++threads;
  }
  return threads;
}

}  // namespace

Result<void> set_not_dumpable() {
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return fail_errno("prctl(PR_SET_DUMPABLE)", errno);
  return {};
}

Result<DeathSignal> read_death_signal() {
  DeathSignal result;
  result.parent = ::getppid();
  if (::prctl(PR_GET_PDEATHSIG, &result.signal, 0, 0, 0) != 0) return fail_errno("prctl(PR_GET_PDEATHSIG)", errno);
  return result;
}

Result<void> restore_death_signal(const DeathSignal& wanted) {
  if (wanted.signal == 0) return {};
  if (::prctl(PR_SET_PDEATHSIG, wanted.signal, 0, 0, 0) != 0) return fail_errno("prctl(PR_SET_PDEATHSIG)", errno);
  if (::getppid() != wanted.parent && ::raise(wanted.signal) != 0) return fail_errno("raise", errno);
  return {};
}

Result<void> require_single_thread() {
  const auto deadline = Deadline::after(joined_patience);
  while (true) {
    DE_TRY(const int threads, count_threads());
    if (threads <= own_threads) return {};
    if (deadline.expired()) {
      return fail(Errc::internal, "privileges must be dropped before threads are started; there are " +
                                      std::to_string(threads) + " threads");
    }
    ::usleep(1000);
  }
}

}  // namespace daemoneye::sandbox
