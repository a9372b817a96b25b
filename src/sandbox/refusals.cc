// The kernel does not carry out a system call that the filter refuses and sends SIGSYS instead: the handler makes the
// call give EPERM and counts it, or ends the process with the call's name on standard error.
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <new>

#include "sandbox/mechanisms.h"

namespace daemoneye::sandbox {
namespace {

constexpr int from_filter =
    1;  // SYS_SECCOMP of the kernel's siginfo.h, which does not go together with the C library's
constexpr std::size_t counted_numbers = 512;  // the kernel's last is below 500; those beyond share one place

using Counts = std::array<std::atomic<std::uint64_t>, counted_numbers + 1>;
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

// Of the helper's list: shared with the processes that are forked after it was made, which may write there what they
// like. Procmond's own are in no memory that others have.
Counts& shared_counts() {
  static Counts* const instance = [] {
    void* memory = ::mmap(nullptr, sizeof(Counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? new Counts{} : new (memory) Counts{};
  }();
  return *instance;
}

constinit Counts own_counts{};

Counts& counts_of(SystemCalls list) { return list == SystemCalls::hasher ? shared_counts() : own_counts; }

struct Watch {
  Counts* counts = nullptr;
  std::vector<std::string> names;
  std::atomic<bool> ends{false}, expected{false};
};

// Never destroyed: a refused call may come until the very end.
Watch& watch() {
  static auto* const instance = new Watch;
  return *instance;
}

void say(const char* text) {
  // Nothing can be done when standard error is gone; the signal still tells.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, std::strlen(text));
}

std::size_t place_of(int number) {
  return number >= 0 && static_cast<std::size_t>(number) < counted_numbers ? static_cast<std::size_t>(number)
                                                                           : counted_numbers;
}

void give_back(void* context, long value) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  registers.gregs[REG_RAX] = value;
#elif defined(__aarch64__)
  registers.regs[0] = static_cast<unsigned long long>(value);
#else
#error "where does this processor return a system call's value?"
#endif
}

// Only what is allowed in a signal handler: no memory is taken, `names` does not change any more.
void on_refusal(int /*signal*/, siginfo_t* info, void* context) {
  if (info->si_code != from_filter) {
    // From a process and not from the filter: no call of ours was refused, and no register waits for an answer.
    (void)std::signal(SIGSYS, SIG_DFL);
    (void)::raise(SIGSYS);
    return;
  }
  const int kept = errno;
  auto& state = watch();
  const auto place = place_of(info->si_syscall);
  if (!state.expected.load(std::memory_order_relaxed)) {
    (*state.counts)[place].fetch_add(1, std::memory_order_relaxed);
    if (state.ends.load(std::memory_order_relaxed)) {
      say("sandbox: ended by a system call that is not in the list: ");
      say(place < state.names.size() ? state.names[place].c_str() : "unknown");
      say("\n");
      (void)std::signal(SIGSYS, SIG_DFL);
      (void)::raise(SIGSYS);
    }
  }
  give_back(context, -EPERM);
  errno = kept;
}

}  // namespace

void share_refusal_counts() { (void)shared_counts(); }

Result<void> watch_refusals(SystemCalls list, std::vector<std::string> names, OnViolation on_violation) {
  auto& state = watch();
  state.counts = &counts_of(list);
  state.names = std::move(names);
  state.ends = on_violation == OnViolation::end;
  struct sigaction action{};
  action.sa_sigaction = &on_refusal;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  if (::sigaction(SIGSYS, &action, nullptr) != 0) return fail_errno("sigaction(SIGSYS)", errno);
  // A blocked SIGSYS would end the process.
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGSYS);
  if (const int error = ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr); error != 0) {
    return fail_errno("unblocking SIGSYS", error);
  }
  return {};
}

ExpectRefusals::ExpectRefusals() { watch().expected = true; }
ExpectRefusals::~ExpectRefusals() { watch().expected = false; }

std::map<std::string, std::uint64_t> refused_system_calls(SystemCalls list) {
  const auto& names = watch().names;
  const auto& counts = counts_of(list);
  std::map<std::string, std::uint64_t> refused;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const auto count = counts[i].load(std::memory_order_relaxed);
    if (count == 0) continue;
    const bool named = i < names.size() && !names[i].empty();
    refused[named ? names[i] : i < counted_numbers ? std::to_string(i) : "unknown"] += count;
  }
  return refused;
}

}  // namespace daemoneye::sandbox
