#include "sensor/linux/snapshot_test.h"

#include <fcntl.h>
#include <pty.h>
#include <sched.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>

#include "sensor/linux/kernel_test.h"
#include "sensor/linux/procfs_reader.h"

namespace daemoneye::sensor {
namespace {

using BpfSnapshot = SnapshotTest;

TEST_F(BpfSnapshot, AgreesWithProc) {
  const Sleeper sleeper;
  const Stopped stopped({"", "odd\narguments", "\xff"});
  auto procfs = open_procfs_snapshot();
  ASSERT_TRUE(procfs);
  const auto by_proc = scan(**procfs);
  const auto by_bpf = scan(*snapshot_);
  ASSERT_TRUE(by_bpf.contains(sleeper.pid()));
  std::size_t compared = 0;
  for (const auto& [pid, proc] : by_proc) {
    const auto found = by_bpf.find(pid);
    // Others come and go between the two scans.
    if (found == by_bpf.end() || found->second.start_ticks != proc.start_ticks) continue;
    const auto& bpf = found->second;
    if (bpf.comm != proc.comm || bpf.status == event::ProcessStatus::zombie ||
        proc.status == event::ProcessStatus::zombie) {
      continue;
    }
    SCOPED_TRACE(proc.comm + " " + std::to_string(pid));
    EXPECT_EQ(bpf.ppid, proc.ppid);
    EXPECT_EQ(bpf.kernel_thread, proc.kernel_thread);
    EXPECT_EQ(bpf.uid, proc.uid);
    EXPECT_EQ(bpf.euid, proc.euid);
    EXPECT_EQ(bpf.gid, proc.gid);
    EXPECT_EQ(bpf.egid, proc.egid);
    EXPECT_EQ(bpf.loginuid, proc.loginuid);
    EXPECT_EQ(bpf.session_id, proc.session_id);
    EXPECT_EQ(bpf.cgroup, proc.cgroup);
    EXPECT_EQ(bpf.tty, proc.tty);
    EXPECT_EQ(bpf.arguments, proc.arguments);
    if (proc.executable_path) {
      EXPECT_EQ(bpf.executable_path, proc.executable_path);
      EXPECT_EQ(bpf.executable_state, proc.executable_state);
      // Others may have ended since.
      struct stat file{};
      if (::stat(("/proc/" + std::to_string(pid) + "/exe").c_str(), &file) == 0) {
        EXPECT_EQ(bpf.file, identity_of(file));
      }
    }
    if (const auto expected = namespaces_of(pid); expected != Namespaces{}) {
      EXPECT_EQ(bpf.namespaces, expected);
    }
    if (proc.cwd) {
      EXPECT_EQ(bpf.cwd, proc.cwd);
    }
    ++compared;
  }
  EXPECT_GT(compared, 10U);
  const auto& sleeping = by_bpf.at(sleeper.pid());
  EXPECT_EQ(sleeping.status, event::ProcessStatus::sleeping);
  EXPECT_EQ(by_bpf.at(stopped.pid()).status, event::ProcessStatus::stopped);
  EXPECT_EQ(by_bpf.at(stopped.pid()).arguments, joined(Stopped::with({"", "odd\narguments", "\xff"})));
  EXPECT_EQ(sleeping.resident_bytes, by_proc.at(sleeper.pid()).resident_bytes);
  EXPECT_EQ(sleeping.parent_start_ticks, by_bpf.at(static_cast<event::Pid>(::getpid())).start_ticks);
}

TEST_F(BpfSnapshot, SeesAllThatProcLists) {
  auto reader = ProcReader::open("/proc");
  ASSERT_TRUE(reader);
  std::vector<event::Pid> before, after;
  ASSERT_TRUE(reader->list(before));
  const auto found = scan(*snapshot_);
  ASSERT_TRUE(reader->list(after));
  for (const auto pid : before) {
    if (std::ranges::binary_search(after, pid)) {
      EXPECT_TRUE(found.contains(pid)) << pid;
    }
  }
}

TEST_F(BpfSnapshot, AddsUpTheTimeOfAllThreads) {
  // Two threads, one of them already gone, have worked a while.
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  Child child([&]() -> int {
    const auto work = [] {
      timespec used{};
      do ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
      while (used.tv_nsec < 120'000'000);
    };
    std::thread(work).join();
    std::thread([&] {
      work();
      if (::write(ready[1], "x", 1) != 1) ::_exit(1);
      ::pause();
    }).join();
    return 0;
  });
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  const auto found = scan(*snapshot_);
  ASSERT_TRUE(found.contains(child.pid()));
  const auto by_proc = read_process("/proc", child.pid());
  ASSERT_TRUE(by_proc);
  ASSERT_TRUE(found.at(child.pid()).cpu_ticks);
  EXPECT_GE(*found.at(child.pid()).cpu_ticks, 24U);
  EXPECT_LE(*found.at(child.pid()).cpu_ticks, *by_proc->cpu_ticks + 1);
  EXPECT_GE(*found.at(child.pid()).cpu_ticks + 1, *by_proc->cpu_ticks);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(BpfSnapshot, CountsResidentPagesExactly) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  constexpr std::size_t kBytes = 100 * 4096;  // less than what per-CPU counters may hold back
  Child child([&]() -> int {
    auto* memory = static_cast<char*>(
        ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
    if (memory == MAP_FAILED || ::write(ready[1], "x", 1) != 1) return 1;
    return ::pause();
  });
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  const auto found = scan(*snapshot_);
  const auto by_proc = read_process("/proc", child.pid());
  ASSERT_TRUE(by_proc);
  EXPECT_GE(found.at(child.pid()).resident_bytes, kBytes);
  EXPECT_EQ(found.at(child.pid()).resident_bytes, by_proc->resident_bytes);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(BpfSnapshot, TellsKernelThreadsAndZombies) {
  const Child zombie([] { return 0; });
  siginfo_t ended{};
  ASSERT_EQ(::waitid(P_PID, zombie.pid(), &ended, WEXITED | WNOWAIT), 0);
  const auto found = scan(*snapshot_);
  ASSERT_TRUE(found.contains(zombie.pid()));
  EXPECT_EQ(found.at(zombie.pid()).status, event::ProcessStatus::zombie);
  EXPECT_EQ(found.at(zombie.pid()).executable_path, std::nullopt);
  EXPECT_EQ(found.at(zombie.pid()).arguments, std::nullopt);
  if (!found.contains(2) || found.at(2).comm != "kthreadd") GTEST_SKIP() << "not run: no kernel threads visible here";
  EXPECT_TRUE(found.at(2).kernel_thread);
  EXPECT_EQ(found.at(2).executable_state, event::ExecutableState::kernel);
  EXPECT_EQ(found.at(2).executable_path, std::nullopt);
}

TEST_F(BpfSnapshot, KeepsTheTrueLengthOfLongArguments) {
  const std::vector<std::string> more(20, std::string(100'000, 'x'));
  const Stopped stopped(more);
  const auto found = scan(*snapshot_).at(stopped.pid());
  EXPECT_EQ(found.arguments_bytes, joined(Stopped::with(more)).size());
  EXPECT_EQ(found.arguments, joined(Stopped::with(more)).substr(0, kMaxArguments));
  const auto by_proc = read_process("/proc", stopped.pid());
  ASSERT_TRUE(by_proc);
  EXPECT_EQ(by_proc->arguments, found.arguments);
  EXPECT_EQ(by_proc->arguments_bytes, found.arguments_bytes);
}

TEST_F(BpfSnapshot, NamesTheTerminal) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  int terminal = -1, owner = -1;
  char name[64] = {};
  ASSERT_EQ(::openpty(&owner, &terminal, name, nullptr, nullptr), 0);
  Child child([&] {
    ::setsid();
    if (::ioctl(terminal, TIOCSCTTY, 0) != 0 || ::write(ready[1], "x", 1) != 1) return 1;
    return ::pause();
  });
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  const auto found = scan(*snapshot_);
  EXPECT_EQ(found.at(child.pid()).tty, std::string(name).substr(5));  // without "/dev/"
  EXPECT_EQ(found.at(child.pid()).session_id, child.pid());
  EXPECT_EQ(read_process("/proc", child.pid())->tty, std::string(name).substr(5));
  for (const int fd : {ready[0], ready[1], terminal, owner}) ::close(fd);
}

// What procmond does after it has opened its sources.
bool drop_every_privilege() {
  if (::unshare(CLONE_NEWNET) != 0) return false;
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) return false;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  if (::syscall(SYS_capset, &header, none) != 0) return false;
  return ::open("/proc/1/exe", O_RDONLY | O_CLOEXEC) < 0;
}

TEST_F(BpfSnapshot, SeesADeletedExecutableWithoutAnyPrivilege) {
  const TempDir folder;
  const auto copy = folder.path() + "/copy";
  copy_file("/bin/sleep", copy);
  const Sleeper sleeper(copy, {"copy", "1000"});
  ASSERT_EQ(::unlink(copy.c_str()), 0);
  Child child([&] {
    if (!drop_every_privilege()) return 2;
    const auto by_proc = read_process("/proc", sleeper.pid());
    if (!by_proc || by_proc->executable_state != event::ExecutableState::unreadable) return 3;
    const auto found = scan(*snapshot_);
    const auto at = found.find(sleeper.pid());
    if (at == found.end()) return 4;
    if (at->second.executable_path != copy) return 5;
    if (at->second.executable_state != event::ExecutableState::deleted) return 6;
    if (at->second.arguments != joined({"copy", "1000"})) return 7;
    if (at->second.cwd != current_folder()) return 8;
    return 0;
  });
  EXPECT_EQ(WEXITSTATUS(child.wait()), 0);
}

[[gnu::noinline]] void take_away_and_wait(void* page, std::size_t bytes, Signpost& away) {
  if (::mprotect(page, bytes, PROT_NONE) == 0 && away.reached()) ::pause();
  ::_exit(1);
}

// The frames of those who called may lie in the page of the arguments: so far below them, and never back.
[[gnu::noinline]] void go_below(void* page, std::size_t bytes, Signpost& away) {
  volatile char room[64 * 1024];
  room[0] = 0;
  take_away_and_wait(page, bytes, away);
  room[1] = room[0];
}

// Where /proc hides it, and its arguments cannot be read either: the iterator has seen it all the same.
TEST(BpfSnapshotUnprivileged, SeesAHiddenProcessThatTookItsArgumentsAway) {
  const auto away = std::make_unique<Signpost>();  // not on the stack
  const Child hiding([&] {
    std::ifstream file("/proc/self/stat");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    std::istringstream fields(text.substr(text.rfind(')') + 2));
    std::uintptr_t begin = 0;
    std::string field;
    for (int i = 3; i <= 48 && fields >> field; ++i) begin = std::strtoull(field.c_str(), nullptr, 10);
    const auto page = static_cast<std::uintptr_t>(::getpagesize());
    go_below(reinterpret_cast<void*>(begin / page * page), page, *away);
    return 1;
  });
  ASSERT_TRUE(away->wait());
  Child child([&] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("proc", "/proc", "proc", 0, "hidepid=2") != 0) {
      return 99;
    }
    auto snapshot = open_bpf_snapshot();
    if (!snapshot) return 99;
    if (!drop_every_privilege()) return 2;
    if (read_process("/proc", hiding.pid())) return 3;
    for (const auto depth : {Depth::full, Depth::counters}) {
      RawProcess found;
      const auto result = (*snapshot)->scan(depth, [&](const RawProcess& seen) {
        if (seen.pid == hiding.pid()) found = seen;
      });
      if (!result) return 4;
      if (found.pid == 0 || found.start_ticks == 0 || found.file.inode == 0) return 5;
      if (depth == Depth::full && (found.arguments || !found.executable_path)) return 6;
    }
    return 0;
  });
  const auto outcome = WEXITSTATUS(child.wait());
  if (outcome == 99) GTEST_SKIP() << "not run: no mounts or no eBPF here";
  EXPECT_EQ(outcome, 0);
}

TEST(BpfSourceUnprivileged, GoesOnWithoutAnyPrivilege) {
  auto source = open_bpf_source(1 << 20);
  if (!source) {
    std::printf("not run: %s\n", source.error().message.c_str());
    GTEST_SKIP() << source.error().message;
  }
  Child child([&] {
    if (!drop_every_privilege()) return 2;
    auto loop = EventLoop::create();
    if (!loop) return 3;
    bool exec = false, exit = false;
    const Child inner([] { return execute("/bin/true", {"true", "unprivileged"}); });
    const auto started = (*source)->start(
        **loop,
        [&](const RawEvent& seen) {
          if (seen.process.pid != inner.pid()) return;
          exec |= seen.kind == RawKind::exec && seen.process.arguments == joined({"true", "unprivileged"});
          exit |= seen.kind == RawKind::exit;
          if (exit) (*loop)->stop();
        },
        [](const Error&) {});
    if (!started) return 4;
    if (!(*loop)->add_timer(kPatience, std::chrono::nanoseconds(0), [&] { (*loop)->stop(); })) return 5;
    (*loop)->run();
    (*source)->stop();
    return exec && exit && (*source)->counters().lost == 0 ? 0 : 6;
  });
  EXPECT_EQ(WEXITSTATUS(child.wait()), 0);
}

TEST(ProcfsSnapshot, KnowsThisProcess) {
  auto snapshot = open_procfs_snapshot();
  ASSERT_TRUE(snapshot);
  const auto found = scan(**snapshot);
  const auto at = found.find(static_cast<event::Pid>(::getpid()));
  ASSERT_NE(at, found.end());
  EXPECT_EQ(at->second.ppid, static_cast<event::Pid>(::getppid()));
  EXPECT_EQ(at->second.uid, ::getuid());
  EXPECT_EQ(at->second.euid, ::geteuid());
  EXPECT_EQ(at->second.cwd, current_folder());
  struct stat self{};
  ASSERT_EQ(::stat("/proc/self/exe", &self), 0);
  EXPECT_EQ(at->second.file.inode, self.st_ino);
  EXPECT_EQ(at->second.executable_state, event::ExecutableState::ok);
}

TEST(ProcfsSnapshot, TellsDeletedFromMemoryFromAnOddName) {
  const TempDir folder;
  const auto deleted = folder.path() + "/copy", odd = folder.path() + "/really (deleted)";
  copy_file("/bin/sleep", deleted);
  copy_file("/bin/sleep", odd);
  const Sleeper of_deleted(deleted), of_odd(odd);
  ASSERT_EQ(::unlink(deleted.c_str()), 0);
  const auto first = read_process("/proc", of_deleted.pid());
  ASSERT_TRUE(first);
  EXPECT_EQ(first->executable_path, deleted);
  EXPECT_EQ(first->executable_state, event::ExecutableState::deleted);
  const auto second = read_process("/proc", of_odd.pid());
  ASSERT_TRUE(second);
  EXPECT_EQ(second->executable_path, odd);
  EXPECT_EQ(second->executable_state, event::ExecutableState::ok);
}

TEST(ProcfsSnapshot, ReadsANameWithBracketsAndNewlines) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const std::string name = ") R 1 (\n)";
  Child child([&] {
    ::prctl(PR_SET_NAME, name.c_str());
    if (::write(ready[1], "x", 1) != 1) return 1;
    return ::pause();
  });
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  const auto seen = read_process("/proc", child.pid());
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->comm, name);
  EXPECT_EQ(seen->ppid, static_cast<event::Pid>(::getpid()));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(ReadProcess, SaysThatAProcessIsGone) {
  event::Pid pid = 0;
  {
    Child child([] { return 0; });
    child.wait();
    pid = child.pid();
  }
  const auto seen = read_process("/proc", pid);
  ASSERT_FALSE(seen);
  EXPECT_EQ(seen.error().code, Errc::not_found);
  EXPECT_EQ(seen.error().message, "Process " + std::to_string(pid) + " no longer exists");
}

TEST(BootTime, PutsStartTimesWhereTheyBelong) {
  const auto boot = read_boot_time();
  ASSERT_TRUE(boot);
  const auto before = base::wall_now();
  Child child([] { return ::pause(); });
  const auto seen = read_process("/proc", child.pid());
  const auto after = base::wall_now();
  ASSERT_TRUE(seen);
  const auto started = boot->ns + static_cast<std::int64_t>(seen->start_ticks) * 10'000'000;
  EXPECT_GE(started, before.ns - 20'000'000);  // ticks are rounded down
  EXPECT_LE(started, after.ns + 1'000'000);
}

TEST(BootId, IsTheKernels) {
  const auto id = read_boot_id();
  ASSERT_TRUE(id) << id.error().message;
  EXPECT_NE(*id, event::BootId{});
  EXPECT_EQ(*id, *read_boot_id());
}

}  // namespace
}  // namespace daemoneye::sensor
