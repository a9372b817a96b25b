// What the two confined processes may ask of the kernel. Everything else is refused, what the kernel will learn in
// future included. What is missing and why is in docs/adr/0008-confinement.md; a new need is a line here, with its
// check.
#include "sandbox/system_calls.h"

#include <asm/ioctls.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WITH_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WITH_SANITIZER
#endif
#endif

namespace daemoneye::sandbox {
namespace {

// Arguments that the kernel takes as int are compared as such: the upper half of the register is anybody's.
constexpr std::uint64_t as_int = 0xffff'ffff;
constexpr std::uint64_t as_is = ~std::uint64_t{0};

using List = std::vector<AllowedCall>;

void allow(List& list, std::initializer_list<int> numbers) {
  for (const int number : numbers) list.push_back({number});
}

// One argument out of a closed list of values.
void allow_values(List& list, int number, unsigned index, std::initializer_list<std::uint64_t> values) {
  for (const auto value : values) list.push_back({number, {{index, as_int, value & as_int}}});
}

// What every C++ program does: memory, time, locks between threads, the end. No memory becomes executable.
enum class Mapping { any, memory };  // memory: no files
void allow_running(List& list, Mapping mapping) {
  AllowedCall map{SYS_mmap, {{2, PROT_EXEC, 0}}};
  if (mapping == Mapping::memory) map.checks.push_back({3, MAP_ANONYMOUS, MAP_ANONYMOUS});
  list.push_back(std::move(map));
  allow(list, {SYS_brk,
               SYS_munmap,
               SYS_mremap,
               SYS_madvise,
               SYS_futex,
               SYS_clock_gettime,
               SYS_clock_nanosleep,
               SYS_nanosleep,
               SYS_gettimeofday,
               SYS_getrandom,
               SYS_getpid,
               SYS_getppid,
               SYS_gettid,
               SYS_getuid,
               SYS_geteuid,
               SYS_getgid,
               SYS_getegid,
               SYS_getrusage,
               SYS_sysinfo,
               SYS_uname,
               SYS_sched_yield,
               SYS_sched_getaffinity,
               SYS_set_robust_list,
               SYS_rseq,
               SYS_rt_sigreturn,
               SYS_rt_sigaction,
               SYS_rt_sigprocmask,
               SYS_sigaltstack,
               SYS_restart_syscall,
               SYS_exit,
               SYS_exit_group});
#ifdef SYS_time
  allow(list, {SYS_time});
#endif
  list.push_back({SYS_mprotect, {{2, PROT_EXEC, 0}}});
  // abort() and raise(): to oneself.
  const auto self = static_cast<std::uint64_t>(::getpid());
  allow_values(list, SYS_tgkill, 0, {self});
  allow_values(list, SYS_kill, 0, {self});
  // Limits are read, of oneself, and never set.
  list.push_back({SYS_prlimit64, {{0, as_int, 0}, {2, as_is, 0}}});
  allow_values(list, SYS_prctl, 0, {PR_GET_NO_NEW_PRIVS, PR_GET_DUMPABLE, PR_GET_SECCOMP, PR_GET_PDEATHSIG});
#ifdef WITH_SANITIZER
  // The sanitizers' own: they name their threads and memory, and look at what is mapped before they report.
  allow(list, {SYS_readlink, SYS_mincore, SYS_pipe2, SYS_set_tid_address});
  allow_values(list, SYS_prctl, 0, {PR_SET_NAME, PR_GET_NAME, PR_SET_VMA});
#endif
}

// Descriptors that are there already.
void allow_descriptors(List& list) {
  allow(list, {SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_close, SYS_fstat, SYS_newfstatat, SYS_statx, SYS_fstatfs,
               SYS_readlinkat, SYS_ppoll, SYS_recvfrom, SYS_sendto, SYS_fadvise64});
#ifdef SYS_poll
  allow(list, {SYS_poll});
#endif
  // Not F_SETOWN and F_SETSIG, which send signals to others, nor leases.
  allow_values(list, SYS_fcntl, 1, {F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC});
}

List collector() {
  List list;
  allow_running(list, Mapping::any);
  allow_descriptors(list);
  // Descriptors come from the supervisor; the ledger is locked.
  allow(list, {SYS_recvmsg, SYS_recvmmsg, SYS_sendmsg});
  allow_values(list, SYS_fcntl, 1, {F_SETLK, F_SETLKW, F_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_OFD_GETLK});
  // The loop. Sockets are only of the local kind, and nothing is listened on.
  allow(list, {SYS_epoll_ctl, SYS_epoll_pwait, SYS_timerfd_create, SYS_timerfd_settime, SYS_timerfd_gettime,
               SYS_eventfd2, SYS_signalfd4, SYS_epoll_create1, SYS_connect, SYS_shutdown, SYS_getsockopt,
               SYS_getsockname, SYS_getpeername});
#ifdef SYS_epoll_wait
  allow(list, {SYS_epoll_wait});
#endif
  allow_values(list, SYS_socket, 0, {AF_UNIX});
  allow_values(list, SYS_setsockopt, 1, {SOL_SOCKET});
  // /proc, the user database, the ledger and the file beside it. Where, says Landlock.
  allow(list, {SYS_openat,    SYS_getdents64, SYS_lseek,    SYS_pread64,   SYS_pwrite64,   SYS_fsync,    SYS_fdatasync,
               SYS_ftruncate, SYS_fallocate,  SYS_flock,    SYS_faccessat, SYS_faccessat2, SYS_unlinkat, SYS_renameat2,
               SYS_fchmod,    SYS_fchown,     SYS_fchownat, SYS_umask,     SYS_getcwd,     SYS_statfs});
#ifdef SYS_open  // the old calls that newer processors never had
  allow(list, {SYS_open, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_unlink, SYS_rename});
#endif
#ifdef SYS_renameat
  allow(list, {SYS_renameat});
#endif
  // TCGETS: whether standard output is a terminal.
  allow_values(list, SYS_ioctl, 1, {TCGETS});
  // Scans start the task iterator that was loaded before; counters ask what a program missed. Nothing is loaded.
  allow_values(list, SYS_bpf, 0, {BPF_ITER_CREATE, BPF_OBJ_GET_INFO_BY_FD, BPF_MAP_LOOKUP_ELEM});
  // The hashing helper's end is noticed.
  allow(list, {SYS_wait4, SYS_waitid});
  return list;
}

// Opens for reading and reads from the beginning. Without lseek, pread and mmap of files /proc/PID/mem, which the
// helper's capabilities would open, gives nothing: no process has memory at its address 0. Without messages that carry
// descriptors it cannot have somebody else read there; without locks a file that it may read holds up nobody.
List hasher() {
  List list;
  allow_running(list, Mapping::memory);
  allow_descriptors(list);
  constexpr std::uint64_t writing = O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY);
  list.push_back({SYS_openat, {{2, writing, O_RDONLY}}});
  return list;
}

}  // namespace

std::vector<AllowedCall> allowed_calls(SystemCalls list) {
  switch (list) {
    case SystemCalls::any: break;
    case SystemCalls::collector: return collector();
    case SystemCalls::hasher: return hasher();
  }
  return {};
}

}  // namespace daemoneye::sandbox
