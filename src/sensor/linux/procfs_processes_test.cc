// /proc as it is read of real processes that are hard to read: hidden ones, odd ones, and those that change meanwhile.
#include <fcntl.h>
#include <linux/sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <set>

#include "sensor/linux/snapshot_test.h"

namespace daemoneye::sensor {
namespace {

constexpr int kNotHere = 99;

RawProcess read_by_proc(event::Pid pid) {
  auto process = read_process("/proc", pid);
  EXPECT_TRUE(process) << process.error().message;
  return process ? *process : RawProcess{};
}

// Runs `body` with a /proc of its own, mounted with these options; in a pid namespace of its own when asked for.
int with_own_proc(const std::string& options, bool own_pids, const std::function<int(const std::string&)>& body) {
  const TempDir folder;
  ::chmod(folder.path().c_str(), 0755);
  Child child([&] {
    if (::unshare(CLONE_NEWNS | (own_pids ? CLONE_NEWPID : 0)) != 0) return kNotHere;
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return kNotHere;
    // A pid namespace begins with the next child.
    Child inner([&] {
      if (::mount("proc", folder.path().c_str(), "proc", 0, options.c_str()) != 0) return kNotHere;
      return body(folder.path());
    });
    return WEXITSTATUS(inner.wait());
  });
  return WEXITSTATUS(child.wait());
}

bool become_nobody() { return ::setresgid(65534, 65534, 65534) == 0 && ::setresuid(65534, 65534, 65534) == 0; }

TEST(ProcfsSnapshot, SeesItsOwnProcessesWhereOthersAreHidden) {
  if (::geteuid() != 0) GTEST_SKIP() << "not run: needs root";
  const auto outcome = with_own_proc("hidepid=2", false, [](const std::string& proc) {
    if (!become_nobody()) return 1;
    ::prctl(PR_SET_DUMPABLE, 1);  // otherwise it is hidden from itself
    auto snapshot = open_procfs_snapshot(proc);
    if (!snapshot) return 2;
    std::set<event::Pid> found;
    const auto result = (*snapshot)->scan(Depth::full, [&](const RawProcess& seen) { found.insert(seen.pid); });
    if (!result || result->errors != 0) return 3;
    if (!found.contains(static_cast<event::Pid>(::getpid()))) return 4;
    if (found.contains(static_cast<event::Pid>(::getppid()))) return 5;
    if ((*snapshot)->limits().find("hidepid") == std::string::npos || !result->others_hidden) return 7;
    return read_process(proc, static_cast<event::Pid>(::getppid())) ? 6 : 0;
  });
  if (outcome == kNotHere) GTEST_SKIP() << "not run: no mounts here";
  EXPECT_EQ(outcome, 0);
}

TEST(ProcfsSnapshot, CountsThoseItMaySeeButNotReadAsErrors) {
  if (::geteuid() != 0) GTEST_SKIP() << "not run: needs root";
  const auto outcome = with_own_proc("hidepid=1", false, [](const std::string& proc) {
    if (!become_nobody()) return 1;
    ::prctl(PR_SET_DUMPABLE, 1);
    auto snapshot = open_procfs_snapshot(proc);
    if (!snapshot) return 2;
    const auto result = (*snapshot)->scan(Depth::full, [](const RawProcess&) {});
    if (!result) return 3;
    const auto parent = static_cast<event::Pid>(::getppid());
    if (std::ranges::find(result->unreadable, parent) == result->unreadable.end()) return 5;
    return result->processes >= 1 && result->errors >= 1 ? 0 : 4;
  });
  if (outcome == kNotHere) GTEST_SKIP() << "not run: no mounts here";
  EXPECT_EQ(outcome, 0);
}

TEST(ProcfsSnapshot, ReadsTheProcOfAPidNamespace) {
  if (::geteuid() != 0) GTEST_SKIP() << "not run: needs root";
  const auto outcome = with_own_proc("", true, [](const std::string& proc) {
    if (::getpid() != 1) return 1;
    const pid_t other = ::fork();
    if (other == 0) ::_exit(::pause());
    auto snapshot = open_procfs_snapshot(proc);
    if (!snapshot) return 2;
    std::map<event::Pid, RawProcess> found;
    const auto result = (*snapshot)->scan(Depth::full, [&](const RawProcess& seen) { found[seen.pid] = seen; });
    ::kill(other, SIGKILL);
    if (!result || result->errors != 0 || found.size() != 2) return 3;
    if (!found.contains(1) || !found.contains(static_cast<event::Pid>(other))) return 4;
    // The parent of the first one is outside: none that could be named.
    return found[1].ppid == 0 && found[static_cast<event::Pid>(other)].ppid == 1 ? 0 : 5;
  });
  if (outcome == kNotHere) GTEST_SKIP() << "not run: no pid namespace here";
  EXPECT_EQ(outcome, 0);
}

TEST(ProcfsSnapshot, KeepsArgumentsByteForByte) {
  const std::vector<std::string> arguments = {"sh", "-c",           "kill -STOP $$", "",  "two words",
                                              "",   "line\nline\t", "\xff\xfe",      ")", "\x1b[31m"};
  const Sleeper odd("/bin/sh", arguments, event::ProcessStatus::stopped);
  const auto seen = read_by_proc(odd.pid());
  EXPECT_EQ(seen.arguments, joined(arguments));
  EXPECT_EQ(seen.arguments_bytes, joined(arguments).size());
}

TEST(ProcfsSnapshot, MeasuresTwoMegabytesOfArguments) {
  std::vector<std::string> arguments = {"sh", "-c", "kill -STOP $$"};
  for (int i = 0; i < 20; ++i) arguments.emplace_back(100'000, 'x');
  const Sleeper odd("/bin/sh", arguments, event::ProcessStatus::stopped);
  const auto seen = read_by_proc(odd.pid());
  EXPECT_EQ(seen.arguments_bytes, joined(arguments).size());
  EXPECT_EQ(seen.arguments, joined(arguments).substr(0, kMaxArguments));
}

TEST(ProcfsSnapshot, MeasuresArgumentsAlsoOfProcessesThatMayNotBeTraced) {
  if (::geteuid() != 0) GTEST_SKIP() << "not run: needs root";
  std::vector<std::string> arguments = {"sh", "-c", "kill -STOP $$", std::string(60'001, 'x')};
  const Sleeper odd("/bin/sh", arguments, event::ProcessStatus::stopped);
  Child reader([&] {
    if (!become_nobody()) return 1;
    const auto seen = read_process("/proc", odd.pid());
    if (!seen || seen->executable_path) return 2;
    return seen->arguments_bytes == joined(arguments).size() ? 0 : 3;
  });
  EXPECT_EQ(reader.wait(), 0);
}

TEST(ProcfsSnapshot, TellsAnEmptyArgumentListFromNone) {
  int input[2];
  ASSERT_EQ(::pipe2(input, O_CLOEXEC), 0);
  const auto before = read_by_proc(static_cast<event::Pid>(::getpid())).comm;
  Child cat([&] {
    ::dup2(input[0], 0);  // nothing comes: it waits
    return execute("/bin/cat", {});
  });
  RawProcess seen;
  do {
    seen = read_by_proc(cat.pid());
  } while (seen.comm != "cat" || seen.status != event::ProcessStatus::sleeping);
  ASSERT_TRUE(seen.arguments);
  // Since 5.18 the kernel adds one empty argument.
  EXPECT_TRUE(seen.arguments->empty() || *seen.arguments == std::string(1, '\0'));
  ::close(input[0]);
  ::close(input[1]);
}

TEST(ProcfsSnapshot, TellsKernelThreadsAndZombies) {
  const Child zombie([] { return 0; });
  siginfo_t ended{};
  ASSERT_EQ(::waitid(P_PID, zombie.pid(), &ended, WEXITED | WNOWAIT), 0);
  const auto seen = read_by_proc(zombie.pid());
  EXPECT_EQ(seen.status, event::ProcessStatus::zombie);
  EXPECT_EQ(seen.arguments, std::nullopt);
  EXPECT_EQ(seen.executable_path, std::nullopt);
  EXPECT_EQ(seen.executable_state, std::nullopt);
  EXPECT_EQ(seen.uid, ::getuid());
  const auto thread = read_process("/proc", 2);
  if (!thread || thread->comm != "kthreadd") GTEST_SKIP() << "not run: no kernel threads visible here";
  EXPECT_TRUE(thread->kernel_thread);
  EXPECT_EQ(thread->executable_state, event::ExecutableState::kernel);
  EXPECT_EQ(thread->arguments, std::nullopt);
}

TEST(ProcfsSnapshot, TellsTheExecutableAsStatDoes) {
  const Sleeper sleeper;
  const auto seen = read_by_proc(sleeper.pid());
  EXPECT_EQ(seen.file, identity_of("/bin/sleep"));
  struct stat file{};
  ASSERT_EQ(::stat("/bin/sleep", &file), 0);
  EXPECT_EQ(seen.links, file.st_nlink);
  EXPECT_EQ(seen.egid, ::getegid());
}

TEST(ProcfsSnapshot, CountersAreThoseOfAFullLook) {
  const Sleeper sleeper;
  auto snapshot = open_procfs_snapshot();
  ASSERT_TRUE(snapshot);
  const auto full = scan(**snapshot).at(sleeper.pid());
  const auto counters = scan(**snapshot, Depth::counters).at(sleeper.pid());
  EXPECT_TRUE(counters.counters_only);
  EXPECT_FALSE(full.counters_only);
  EXPECT_EQ(counters.start_ticks, full.start_ticks);
  EXPECT_EQ(counters.ppid, full.ppid);
  EXPECT_EQ(counters.comm, full.comm);
  EXPECT_EQ(counters.uid, full.uid);
  EXPECT_EQ(counters.euid, full.euid);
  EXPECT_EQ(counters.gid, full.gid);
  EXPECT_EQ(counters.egid, full.egid);
  EXPECT_EQ(counters.session_id, full.session_id);
  EXPECT_EQ(counters.status, full.status);
  EXPECT_EQ(counters.cpu_ticks, full.cpu_ticks);
  EXPECT_EQ(counters.resident_bytes, full.resident_bytes);
  EXPECT_EQ(counters.file, full.file);
  EXPECT_EQ(counters.links, full.links);
  EXPECT_EQ(counters.arguments, std::nullopt);
  EXPECT_EQ(counters.executable_path, std::nullopt);
}

// The reason why one reading of stat is enough.
TEST(ProcReader, AHandleDoesNotLeadToTheNextOwnerOfThePid) {
  auto reader = ProcReader::open("/proc");
  ASSERT_TRUE(reader);
  UniqueFd handle;
  event::Pid pid = 0;
  {
    Child first([] { return ::pause(); });
    pid = first.pid();
    handle = reader->open_process(pid);
    ASSERT_TRUE(handle);
    ASSERT_TRUE(reader->stat(handle.get()));
  }
  RawProcess process;
  EXPECT_FALSE(reader->stat(handle.get()));
  EXPECT_FALSE(reader->take_arguments(handle.get(), process));

  const pid_t wanted = static_cast<pid_t>(pid);
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = reinterpret_cast<std::uintptr_t>(&wanted);
  arguments.set_tid_size = 1;
  const auto second = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
  if (second == 0) ::_exit(::pause());
  if (second < 0) GTEST_SKIP() << "not run: the pid cannot be chosen here";
  ASSERT_EQ(second, wanted);
  EXPECT_TRUE(reader->stat(pid));  // it lives
  EXPECT_FALSE(reader->stat(handle.get()));
  EXPECT_FALSE(reader->take_arguments(handle.get(), process));
  reader->take_rest(handle.get(), process);
  EXPECT_EQ(process.uid, std::nullopt);
  EXPECT_EQ(process.executable_path, std::nullopt);
  ::kill(second, SIGKILL);
  ::waitpid(second, nullptr, 0);
}

TEST(ProcfsSnapshot, ScansWhileProcessesComeAndGo) {
  Child spawner([] {
    for (;;) {
      const pid_t child = ::fork();
      if (child == 0) ::_exit(0);
      ::waitpid(child, nullptr, 0);
    }
    return 0;
  });
  auto snapshot = open_procfs_snapshot();
  ASSERT_TRUE(snapshot);
  for (int i = 0; i < 30; ++i) {
    const auto found = scan(**snapshot);  // no errors, nobody twice
    EXPECT_TRUE(found.contains(spawner.pid()));
  }
}

TEST(ProcfsSnapshot, ReadsAProcessThatExecutesOverAndOver) {
  const TempDir folder;
  const auto script = folder.path() + "/again";
  std::ofstream(script) << "exec /bin/sh " << script << "\n";
  Child again([&] { return execute("/bin/sh", {"/bin/sh", script}); });
  const auto expected = joined({"/bin/sh", script});
  int seen_whole = 0;
  while (seen_whole < 50) {
    const auto seen = read_by_proc(again.pid());
    if (seen.comm != "sh" || !seen.arguments || seen.arguments->empty()) continue;  // in the middle of it
    EXPECT_EQ(seen.arguments, expected);
    if (seen.executable_path) {
      EXPECT_EQ(seen.executable_path, "/usr/bin/dash");
    }
    ++seen_whole;
  }
}

TEST(ProcfsSnapshot, ScansAllOf32768Processes) {
  constexpr event::Pid kProcesses = 32768;
  const TempDir tree("/dev/shm/daemoneye-sensor-XXXXXX");
  for (event::Pid pid = 1; pid <= kProcesses; ++pid) {
    const auto name = std::to_string(pid);
    const auto folder = tree.path() + "/" + name;
    ASSERT_EQ(::mkdir(folder.c_str(), 0755), 0);
    const auto text = name + " (n) S 1 1 1 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 " + name + " 0 3";
    const UniqueFd file(::open((folder + "/stat").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    ASSERT_EQ(::write(file.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  auto snapshot = open_procfs_snapshot(tree.path());
  ASSERT_TRUE(snapshot);
  const auto found = scan(**snapshot);
  EXPECT_EQ(found.size(), kProcesses);
  for (const auto& [pid, process] : found) ASSERT_EQ(process.start_ticks, pid);
}

}  // namespace
}  // namespace daemoneye::sensor
