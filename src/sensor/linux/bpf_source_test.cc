#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <thread>

#include "sensor/linux/kernel_test.h"
#include "sensor/linux/procfs_reader.h"

namespace daemoneye::sensor {
namespace {

using BpfSource = KernelTest;

TEST_F(BpfSource, SeesAShortLivedProcessWithItsExactArguments) {
  const std::vector<std::string> arguments = {"true", "",         "two words", "line\nline", "\xff\xfe invalid",
                                              "",     "--x=\t'\""};
  Child child([&] { return execute("/bin/true", arguments); });
  const auto seen = wait_for(RawKind::exec, child.pid());
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->process.arguments, joined(arguments));
  EXPECT_EQ(seen->process.arguments_bytes, joined(arguments).size());
  EXPECT_EQ(seen->process.ppid, static_cast<event::Pid>(::getpid()));
  EXPECT_EQ(seen->process.filename, "/bin/true");
  EXPECT_EQ(seen->process.executable_path, "/usr/bin/true");
  EXPECT_EQ(seen->process.executable_state, event::ExecutableState::ok);
  EXPECT_EQ(seen->process.comm, "true");
  EXPECT_EQ(seen->process.uid, ::getuid());
  EXPECT_EQ(seen->process.egid, ::getegid());
  EXPECT_EQ(seen->process.session_id, static_cast<std::uint32_t>(::getsid(0)));
  EXPECT_EQ(seen->process.cwd, current_folder());
  EXPECT_EQ(seen->process.file, identity_of("/bin/true"));
  EXPECT_EQ(seen->process.links, 1U);
}

TEST_F(BpfSource, TellsTheFileAsStatDoes) {
  const TempDir on_disk, in_memory("/dev/shm/daemoneye-sensor-XXXXXX");
  for (const auto& folder : {on_disk.path(), in_memory.path()}) {
    SCOPED_TRACE(folder);
    const auto file = folder + "/file", other = folder + "/other";
    copy_file("/bin/true", file);
    ASSERT_EQ(::link(file.c_str(), other.c_str()), 0);
    const timespec times[2] = {{.tv_sec = 1'000'000'000, .tv_nsec = 1}, {.tv_sec = -7, .tv_nsec = 999'999'999}};
    ASSERT_EQ(::utimensat(AT_FDCWD, file.c_str(), times, 0), 0);
    const auto before = identity_of(file);  // from here on, newer kernels mark the ctime as seen
    ASSERT_EQ(before.mtime_ns, -6'000'000'001);
    Child first([&] { return execute(file, {"file"}); });
    auto seen = wait_for(RawKind::exec, first.pid());
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->process.file, before);
    EXPECT_EQ(seen->process.links, 2U);
    first.wait();

    {
      const UniqueFd more(::open(file.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
      ASSERT_EQ(::write(more.get(), "tail", 4), 4);
    }
    ASSERT_EQ(::unlink(other.c_str()), 0);
    Child second([&] { return execute(file, {"file"}); });
    seen = wait_for(RawKind::exec, second.pid());
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->process.file, identity_of(file));
    EXPECT_NE(seen->process.file, before);
    EXPECT_EQ(seen->process.links, 1U);
  }
}

TEST_F(BpfSource, TellsTheNamespaces) {
  Child ordinary([] { return execute("/bin/sleep", {"sleep", "1000"}); });
  auto seen = wait_for(RawKind::exec, ordinary.pid());
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->process.namespaces, namespaces_of(ordinary.pid()));

  // All of them its own, and its own first process of the pid namespace.
  int report[2];
  ASSERT_EQ(::pipe(report), 0);
  Child child([&] {
    if (::unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWIPC |
                  CLONE_NEWCGROUP) != 0) {
      return 99;
    }
    const pid_t inner = ::fork();
    if (inner == 0) ::_exit(execute("/bin/sleep", {"sleep", "1000"}));
    if (::write(report[1], &inner, sizeof inner) != sizeof inner) return 97;
    ::waitpid(inner, nullptr, 0);
    return 0;
  });
  ::close(report[1]);
  pid_t inner = 0;
  const auto got = ::read(report[0], &inner, sizeof inner);
  ::close(report[0]);
  if (got == 0) GTEST_SKIP() << "not run: no namespaces of its own here";
  seen = wait_for(RawKind::exec, static_cast<event::Pid>(inner));
  ASSERT_TRUE(seen && seen->process.namespaces);
  const auto expected = namespaces_of(static_cast<event::Pid>(inner)), host = namespaces_of(ordinary.pid());
  EXPECT_EQ(seen->process.namespaces, expected);
  EXPECT_NE(expected.mnt, host.mnt);
  EXPECT_NE(expected.pid, host.pid);
  EXPECT_NE(expected.net, host.net);
  EXPECT_NE(expected.user, host.user);
  EXPECT_NE(expected.uts, host.uts);
  EXPECT_NE(expected.ipc, host.ipc);
  EXPECT_NE(expected.cgroup, host.cgroup);
  ::kill(inner, SIGKILL);
}

TEST_F(BpfSource, SeesEveryOneOfManyShortLivedProcesses) {
  // Most of them come without a wake-up; nothing calls poll() here.
  for (int i = 0; i < 200; ++i) {
    Child child([&] { return execute("/bin/true", {"true", std::to_string(i)}); });
    child.wait();
    const auto seen = wait_for([&](const RawEvent& event) {
      return event.kind == RawKind::exec && event.process.pid == child.pid() &&
             event.process.ppid == static_cast<event::Pid>(::getpid());
    });
    ASSERT_TRUE(seen) << i << ", lost: " << source_->counters().lost;
    EXPECT_EQ(seen->process.arguments, joined({"true", std::to_string(i)}));
    ASSERT_TRUE(wait_for([&](const RawEvent& event) {
      return event.kind == RawKind::exit && event.process.pid == child.pid() &&
             event.process.start_ticks == seen->process.start_ticks;
    })) << i;
  }
  EXPECT_EQ(source_->counters().lost, 0U);
}

TEST_F(BpfSource, TellsAnEmptyArgumentListFromNone) {
  Child child([] { return execute("/bin/true", {}); });
  const auto seen = wait_for(RawKind::exec, child.pid());
  ASSERT_TRUE(seen);
  ASSERT_TRUE(seen->process.arguments);
  // Since 5.18 the kernel adds one empty argument.
  EXPECT_TRUE(seen->process.arguments->empty() || *seen->process.arguments == std::string(1, '\0'));
}

TEST_F(BpfSource, CutsLongArgumentsAndKeepsTheirTrueLength) {
  std::vector<std::string> arguments = {"true"};
  for (char letter = 'a'; letter < 'u'; ++letter) arguments.emplace_back(100'000, letter);
  Child child([&] { return execute("/bin/true", arguments); });
  const auto seen = wait_for(RawKind::exec, child.pid());
  ASSERT_TRUE(seen);
  ASSERT_TRUE(seen->process.arguments);
  EXPECT_EQ(seen->process.arguments_bytes, joined(arguments).size());
  EXPECT_EQ(*seen->process.arguments, joined(arguments).substr(0, kMaxArguments));
  EXPECT_GE(source_->counters().truncated, 1U);
}

TEST_F(BpfSource, KeepsArgumentsThatJustFit) {
  const std::vector<std::string> arguments = {"true", std::string(kMaxArguments - 6, 'x')};
  Child child([&] { return execute("/bin/true", arguments); });
  const auto seen = wait_for(RawKind::exec, child.pid());
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->process.arguments, joined(arguments));
  EXPECT_EQ(seen->process.arguments_bytes, kMaxArguments);
}

TEST_F(BpfSource, KeepsTheIdentityThroughAChainOfExecs) {
  Child child([] { return execute("/bin/sh", {"sh", "-c", "exec /bin/sh -c 'exec /bin/true last'"}); });
  ASSERT_TRUE(wait_for(RawKind::exit, child.pid()));
  const auto execs = events_of(RawKind::exec, child.pid());
  ASSERT_EQ(execs.size(), 3U);
  EXPECT_EQ(execs[2].process.arguments, joined({"/bin/true", "last"}));
  const auto forks = events_of(RawKind::fork, child.pid());
  ASSERT_EQ(forks.size(), 1U);
  for (const auto& exec : execs) EXPECT_EQ(exec.process.start_ticks, forks[0].process.start_ticks);
  EXPECT_EQ(events_of(RawKind::exit, child.pid())[0].process.start_ticks, forks[0].process.start_ticks);
}

TEST_F(BpfSource, KnowsAScriptByItsOwnPath) {
  const TempDir folder;
  const auto script = folder.path() + "/script";
  {
    const UniqueFd file(::open(script.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0755));
    ASSERT_EQ(::write(file.get(), "#!/bin/sh\nexit 3\n", 17), 17);
  }
  Child child([&] { return execute(script, {"script", "x"}); });
  const auto seen = wait_for(RawKind::exec, child.pid());
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->process.filename, script);
  EXPECT_EQ(seen->process.executable_path, "/usr/bin/dash");
  EXPECT_EQ(seen->process.arguments, joined({"/bin/sh", script, "x"}));
}

TEST_F(BpfSource, SeesExecutionFromMemory) {
  const int memory = static_cast<int>(::syscall(SYS_memfd_create, "payload", 0));
  ASSERT_GE(memory, 0);
  const UniqueFd owner(memory);
  ASSERT_EQ(
      std::system(("cat /bin/true > /proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(memory)).c_str()),
      0);
  Child child([&] {
    char name[] = "looks-harmless";
    char* arguments[] = {name, nullptr};
    char* environment[] = {nullptr};
    ::fexecve(memory, arguments, environment);
    return 127;
  });
  const auto seen = wait_for(RawKind::exec, child.pid());
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->process.executable_path, "/memfd:payload");
  EXPECT_EQ(seen->process.executable_state, event::ExecutableState::memfd);
  EXPECT_EQ(seen->process.arguments, joined({"looks-harmless"}));
}

TEST_F(BpfSource, SeesExecutionFromSharedMemory) {
  const TempDir folder("/dev/shm/daemoneye-sensor-XXXXXX");
  const auto copy = folder.path() + "/copy";
  copy_file("/bin/true", copy);
  Child child([&] { return execute(copy, {"copy"}); });
  const auto seen = wait_for(RawKind::exec, child.pid());
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->process.executable_path, copy);
  EXPECT_EQ(seen->process.executable_state, event::ExecutableState::ok);
}

TEST_F(BpfSource, NamesFilesBehindMountsAndDeepFolders) {
  const TempDir folder;
  std::string deep = folder.path() + "/mount";
  // In a mount namespace of its own, two file systems deep and beyond 64 components.
  for (int i = 0; i < 100; ++i) deep += "/d";
  const std::string file = deep + "/copy";
  Child child([&] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 99;
    const auto outer = folder.path() + "/mount";
    if (::mkdir(outer.c_str(), 0755) != 0 || ::mount("t", outer.c_str(), "tmpfs", 0, nullptr) != 0) return 99;
    const auto inner = outer + "/d/d";
    if (std::system(("mkdir -p " + inner).c_str()) != 0) return 99;
    if (::mount("t", inner.c_str(), "tmpfs", 0, nullptr) != 0) return 99;
    if (std::system(("mkdir -p " + deep + " && cp /bin/true " + file).c_str()) != 0) return 99;
    if (::chdir(deep.c_str()) != 0) return 99;
    return execute(file, {"copy"});
  });
  const auto exit = wait_for(RawKind::exit, child.pid());
  ASSERT_TRUE(exit);
  if (exit->exit_code == 99) GTEST_SKIP() << "not run: no mount namespace here";
  const auto execs = events_of(RawKind::exec, child.pid());
  ASSERT_EQ(execs.size(), 1U);
  EXPECT_EQ(execs[0].process.executable_path, file);
  EXPECT_EQ(execs[0].process.cwd, deep);
}

TEST_F(BpfSource, GivesTheStartTicksOfProc) {
  Child child([] { return execute("/bin/sleep", {"sleep", "1000"}); });
  const auto seen = wait_for(RawKind::exec, child.pid());
  ASSERT_TRUE(seen);
  const auto by_proc = read_process("/proc", child.pid());
  ASSERT_TRUE(by_proc) << by_proc.error().message;
  EXPECT_EQ(seen->process.start_ticks, by_proc->start_ticks);
  const auto parent = read_process("/proc", static_cast<event::Pid>(::getpid()));
  ASSERT_TRUE(parent);
  EXPECT_EQ(seen->process.parent_start_ticks, parent->start_ticks);
  EXPECT_EQ(seen->process.cgroup, by_proc->cgroup);
  EXPECT_EQ(seen->process.loginuid, by_proc->loginuid);
}

class SmallRing : public KernelTest {
 protected:
  SmallRing() { options_.ring_bytes = 4096; }
};

TEST_F(SmallRing, CountsWhatDidNotFit) {
  // Nobody reads meanwhile: a fork and an exit record each.
  for (int i = 0; i < 100; ++i) Child([] { return 0; }).wait();
  source_->poll();
  const auto counters = source_->counters();
  EXPECT_GT(counters.lost, 0U);
  EXPECT_EQ(counters.events, events_.size());
  EXPECT_GE(counters.events + counters.lost, 200U);
  // And then it goes on, were it only now and then, should somebody else fill so small a ring.
  const auto deadline = Deadline::after(kPatience);
  bool seen = false;
  while (!seen && !deadline.expired()) {
    events_.clear();
    Child child([] { return 0; });
    child.wait();
    source_->poll();
    seen = !events_of(RawKind::exit, child.pid()).empty();
  }
  EXPECT_TRUE(seen);
}

TEST(OpenBpfSource, RefusesARingThatIsNoPowerOfTwo) {
  const auto source = open_bpf_source(5000);
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().code, Errc::invalid_input);
}

TEST(OpenBpfSource, SaysWhatIsMissing) {
  // Without the privilege, in a process of its own.
  Child child([] {
    if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) return 1;
    const auto source = open_bpf_source(4096);
    if (source) return 2;
    return source.error().message.find("CAP_BPF") != std::string::npos || source.error().code == Errc::unavailable ? 0
                                                                                                                   : 3;
  });
  EXPECT_EQ(child.wait(), 0);
}

}  // namespace
}  // namespace daemoneye::sensor
