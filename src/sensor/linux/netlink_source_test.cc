// The process events connector against the running kernel.
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <csignal>
#include <thread>

#include "sensor/linux/kernel_test.h"
#include "sensor/linux/procfs_reader.h"

namespace daemoneye::sensor {
namespace {

constexpr std::size_t kBuffer = 16 * 1024 * 1024;

class NetlinkSource : public KernelTest {
 protected:
  Result<std::unique_ptr<Source>> open() override { return open_netlink_source(buffer_bytes_); }
  std::size_t buffer_bytes_ = kBuffer;
};

// A child that executes and lives until it is killed at the end of the test.
std::function<int()> sleeper(std::vector<std::string> arguments) {
  return [arguments = std::move(arguments)] { return execute("/bin/sleep", arguments); };
}

TEST_F(NetlinkSource, ReadsTheImageOfAProcessThatLives) {
  const std::vector<std::string> arguments = {"sleep", "1000", "0", "0.0"};
  Child child(sleeper(arguments));
  const auto seen = wait_for(RawKind::exec, child.pid());
  ASSERT_TRUE(seen);
  EXPECT_EQ(source_->kind(), event::EventSource::netlink);
  EXPECT_EQ(seen->process.arguments, joined(arguments));
  EXPECT_EQ(seen->process.arguments_bytes, joined(arguments).size());
  EXPECT_EQ(seen->process.comm, "sleep");
  EXPECT_EQ(seen->process.ppid, static_cast<event::Pid>(::getpid()));
  EXPECT_EQ(seen->process.executable_path, "/usr/bin/sleep");
  EXPECT_EQ(seen->process.executable_state, event::ExecutableState::ok);
  EXPECT_EQ(seen->process.filename, std::nullopt);
  EXPECT_EQ(seen->process.cwd, current_folder());
  EXPECT_EQ(seen->process.uid, ::getuid());
  EXPECT_EQ(seen->process.egid, ::getegid());
  EXPECT_EQ(seen->process.session_id, static_cast<std::uint32_t>(::getsid(0)));
  struct stat file{};
  ASSERT_EQ(::stat("/bin/sleep", &file), 0);
  EXPECT_EQ(seen->process.file.inode, file.st_ino);
  EXPECT_EQ(seen->process.file.device, file.st_dev);
  EXPECT_EQ(seen->process.links, file.st_nlink);
}

TEST_F(NetlinkSource, GivesTheStartTicksOfProcInEveryEvent) {
  Child child(sleeper({"sleep", "1000"}));
  ASSERT_TRUE(wait_for(RawKind::exec, child.pid()));
  const auto by_proc = read_process("/proc", child.pid());
  const auto parent = read_process("/proc", static_cast<event::Pid>(::getpid()));
  ASSERT_TRUE(by_proc && parent);
  ::kill(static_cast<pid_t>(child.pid()), SIGTERM);
  ASSERT_TRUE(wait_for(RawKind::exit, child.pid()));
  for (const auto kind : {RawKind::fork, RawKind::exec, RawKind::exit}) {
    const auto seen = events_of(kind, child.pid());
    ASSERT_EQ(seen.size(), 1U);
    EXPECT_EQ(seen[0].process.start_ticks, by_proc->start_ticks);
    if (kind != RawKind::exit) {
      EXPECT_EQ(seen[0].process.parent_start_ticks, parent->start_ticks);
    }
  }
}

TEST_F(NetlinkSource, TellsForkExecAndExitOfProcessesThatAreGoneBeforeItLooks) {
  std::vector<event::Pid> pids;
  for (int i = 0; i < 50; ++i) {
    Child child([&] { return execute("/bin/true", {"true", std::to_string(i)}); });
    pids.push_back(child.pid());
    child.wait();
  }
  for (const auto pid : pids) {
    ASSERT_TRUE(wait_for(RawKind::exit, pid));
    const auto forks = events_of(RawKind::fork, pid), execs = events_of(RawKind::exec, pid),
               exits = events_of(RawKind::exit, pid);
    ASSERT_EQ(forks.size(), 1U);
    ASSERT_EQ(execs.size(), 1U);
    ASSERT_EQ(exits.size(), 1U);
    EXPECT_EQ(execs[0].process.start_ticks, forks[0].process.start_ticks);
    EXPECT_EQ(exits[0].process.start_ticks, forks[0].process.start_ticks);
    EXPECT_EQ(forks[0].process.ppid, static_cast<event::Pid>(::getpid()));
    // Nothing was left to read, and nothing is made up.
    EXPECT_EQ(execs[0].process.arguments, std::nullopt);
    EXPECT_EQ(execs[0].process.comm, "");
  }
  EXPECT_GE(source_->counters().incomplete, 50U);
}

TEST_F(NetlinkSource, KnowsThoseWhoLivedBeforeItWasOpened) {
  Child child(sleeper({"sleep", "1000"}));
  while (!read_process("/proc", child.pid())) {
  }
  const auto by_proc = read_process("/proc", child.pid());
  auto second = open_netlink_source(kBuffer);
  ASSERT_TRUE(second);
  std::optional<RawEvent> exit;
  ASSERT_TRUE((*second)->start(
      *loop_,
      [&](const RawEvent& seen) {
        if (seen.kind != RawKind::exit || seen.process.pid != child.pid()) return;
        exit = seen;
        loop_->stop();
      },
      [](const Error& error) { ADD_FAILURE() << error.message; }));
  ::kill(static_cast<pid_t>(child.pid()), SIGKILL);
  child.wait();
  while (!exit) loop_->run();
  EXPECT_EQ(exit->process.start_ticks, by_proc->start_ticks);
  EXPECT_EQ(exit->exit_signal, SIGKILL);
  (*second)->stop();
}

TEST_F(NetlinkSource, KeepsTheIdentityThroughAChainOfExecs) {
  Child child([] { return execute("/bin/sh", {"sh", "-c", "exec /bin/sh -c 'exec /bin/sleep 1000'"}); });
  ASSERT_TRUE(wait_for([&](const RawEvent& seen) {
    return seen.kind == RawKind::exec && seen.process.pid == child.pid() &&
           seen.process.arguments == joined({"/bin/sleep", "1000"});
  }));
  const auto execs = events_of(RawKind::exec, child.pid());
  ASSERT_EQ(execs.size(), 3U);
  const auto forks = events_of(RawKind::fork, child.pid());
  ASSERT_EQ(forks.size(), 1U);
  for (const auto& exec : execs) EXPECT_EQ(exec.process.start_ticks, forks[0].process.start_ticks);
  // Whichever were missed: none of them has the arguments of another.
  const auto& first = execs[0].process.arguments;
  const auto& second = execs[1].process.arguments;
  EXPECT_TRUE(!first || first == joined({"sh", "-c", "exec /bin/sh -c 'exec /bin/sleep 1000'"})) << *first;
  EXPECT_TRUE(!second || second == joined({"/bin/sh", "-c", "exec /bin/sleep 1000"})) << *second;
}

TEST_F(NetlinkSource, CutsLongArgumentsAndKeepsTheirTrueLength) {
  std::vector<std::string> arguments = {"sh", "-c", "read -r line", "sh"};
  for (char letter = 'a'; letter < 'u'; ++letter) arguments.emplace_back(100'000, letter);
  int input[2];
  ASSERT_EQ(::pipe(input), 0);  // nothing comes: it waits
  Child child([&] {
    ::dup2(input[0], 0);
    return execute("/bin/sh", arguments);
  });
  const auto seen = wait_for(RawKind::exec, child.pid());
  ASSERT_TRUE(seen);
  ASSERT_TRUE(seen->process.arguments);
  EXPECT_EQ(seen->process.arguments_bytes, joined(arguments).size());
  EXPECT_EQ(*seen->process.arguments, joined(arguments).substr(0, kMaxArguments));
  EXPECT_GE(source_->counters().truncated, 1U);
  ::close(input[0]);
  ::close(input[1]);
}

TEST_F(NetlinkSource, GoesOnInAnotherNetworkNamespaceWithoutPrivileges) {
  if (::geteuid() != 0) GTEST_SKIP() << "not run: needs root";
  // In a process of its own: opens, gives everything up, and then watches a child of its own.
  Child watcher([] {
    auto source = open_netlink_source(kBuffer);
    auto loop = EventLoop::create();
    if (!source || !loop) return 1;
    if (::unshare(CLONE_NEWNET) != 0) return 99;
    if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) return 2;
    const pid_t child = ::fork();
    if (child == 0) ::_exit(execute("/bin/sleep", {"sleep", "1000"}));
    bool found = false;
    const auto started = (*source)->start(
        **loop,
        [&](const RawEvent& seen) {
          if (seen.kind != RawKind::exec || seen.process.pid != static_cast<event::Pid>(child)) return;
          found = seen.process.arguments == joined({"sleep", "1000"});
          (*loop)->stop();
        },
        [&](const Error&) { (*loop)->stop(); });
    if (!started) return 3;
    (*loop)->run();
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    (*source)->stop();
    // A second one cannot be opened from here.
    return found && !open_netlink_source(kBuffer) ? 0 : 4;
  });
  const auto status = watcher.wait();
  if (WEXITSTATUS(status) == 99) GTEST_SKIP() << "not run: no network namespace here";
  EXPECT_EQ(status, 0);
}

class SmallNetlinkBuffer : public NetlinkSource {
 protected:
  SmallNetlinkBuffer() { buffer_bytes_ = 4096; }
};

TEST_F(SmallNetlinkBuffer, CountsWhatDidNotFit) {
  constexpr std::uint64_t kChildren = 200;
  // Nobody reads meanwhile: a fork and an exit message each.
  for (std::uint64_t i = 0; i < kChildren; ++i) Child([] { return 0; }).wait();
  source_->poll();
  const auto counters = source_->counters();
  EXPECT_GT(counters.lost, 0U);
  EXPECT_EQ(counters.events, events_.size());
  EXPECT_GE(counters.events + counters.lost, 2 * kChildren);
  // And then it goes on.
  Child child([] { return 0; });
  EXPECT_TRUE(wait_for(RawKind::exit, child.pid()));
}

TEST(OpenNetlinkSource, SaysWhenTheBufferIsSmallerThanAsked) {
  if (::geteuid() != 0) GTEST_SKIP() << "not run: needs root";
  const auto whole = open_netlink_source(kBuffer);
  if (!whole) GTEST_SKIP() << whole.error().message;
  EXPECT_EQ((*whole)->limits().find("the buffer holds"), std::string::npos);
  Child child([] {
    if (::setresuid(65534, 65534, 65534) != 0) return 1;
    const auto source = open_netlink_source(std::size_t{1} << 30);
    if (!source) return source.error().message.empty() ? 2 : 0;  // before Linux 6.6: not without the privilege
    return (*source)->limits().find("the buffer holds") != std::string::npos ? 0 : 3;
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST(OpenNetlinkSource, FailsWhereTheKernelTellsNothing) {
  Child child([] {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) return 99;
    const pid_t inner = ::fork();
    if (inner == 0) ::_exit(open_netlink_source(kBuffer) ? 1 : 0);
    int status = 0;
    ::waitpid(inner, &status, 0);
    return WEXITSTATUS(status);
  });
  const auto status = child.wait();
  if (WEXITSTATUS(status) == 99) GTEST_SKIP() << "not run: no user namespace here";
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace daemoneye::sensor
