// What every source of real-time events tells alike, whichever way the kernel gives it.
#include <sched.h>
#include <sys/syscall.h>

#include <csignal>
#include <thread>

#include "sensor/linux/kernel_test.h"
#include "sensor/linux/procfs_reader.h"

namespace daemoneye::sensor {
namespace {

class RealtimeSource : public KernelTest, public ::testing::WithParamInterface<event::EventSource> {
 protected:
  Result<std::unique_ptr<Source>> open() override {
    return GetParam() == event::EventSource::ebpf ? KernelTest::open() : open_netlink_source(16 << 20);
  }
};

TEST_P(RealtimeSource, ReportsExitCodeAndSignal) {
  Child failing([] { return 42; });
  auto seen = wait_for(RawKind::exit, failing.pid());
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->exit_code, 42);
  EXPECT_EQ(seen->exit_signal, 0);

  Child killed([] { return ::pause(); });
  ::kill(static_cast<pid_t>(killed.pid()), SIGTERM);
  seen = wait_for(RawKind::exit, killed.pid());
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->exit_code, 0);
  EXPECT_EQ(seen->exit_signal, SIGTERM);
}

TEST_P(RealtimeSource, StampsEventsWithTheWallClock) {
  const auto before = base::wall_now();
  Child child([] { return 0; });
  child.wait();
  const auto after = base::wall_now();
  const auto fork = wait_for(RawKind::fork, child.pid());
  const auto exit = wait_for(RawKind::exit, child.pid());
  ASSERT_TRUE(fork && exit);
  EXPECT_LT(fork->time, exit->time);
  // The clocks are read one after the other, so allow for a millisecond.
  EXPECT_GE(fork->time.ns, before.ns - 1'000'000);
  EXPECT_LE(exit->time.ns, after.ns + 1'000'000);
}

TEST_P(RealtimeSource, IgnoresThreads) {
  Child child([] {
    std::jthread([] {}).join();
    std::jthread([] {}).join();
    return 5;
  });
  const auto exit = wait_for(RawKind::exit, child.pid());
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->exit_code, 5);
  EXPECT_EQ(events_of(RawKind::exit, child.pid()).size(), 1U);
  EXPECT_EQ(events_of(RawKind::fork, child.pid()).size(), 1U);
  for (const auto& seen : events_) {
    if (seen.kind == RawKind::fork) {
      EXPECT_NE(seen.process.ppid, child.pid());
    }
  }
}

TEST_P(RealtimeSource, AProcessEndsWithItsLastThread) {
  int gate[2];
  ASSERT_EQ(::pipe(gate), 0);
  Child child([&]() -> int {
    // The first thread leaves; the other one ends the process when it is told, with a code of its own.
    std::thread([&] {
      char byte = 0;
      while (::read(gate[0], &byte, 1) != 1) {
      }
      ::_exit(9);
    }).detach();
    ::syscall(SYS_exit, 0);
    return 1;
  });
  // A zombie with a thread that lives: it has not ended.
  for (;;) {
    const auto process = read_process("/proc", child.pid());
    if (process && process->status == event::ProcessStatus::zombie) break;
  }
  Child marker([] { return 0; });
  ASSERT_TRUE(wait_for(RawKind::exit, marker.pid()));
  EXPECT_TRUE(events_of(RawKind::exit, child.pid()).empty());
  ASSERT_EQ(::write(gate[1], "x", 1), 1);
  const auto exit = wait_for(RawKind::exit, child.pid());
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->exit_code, 9);
  EXPECT_EQ(WEXITSTATUS(child.wait()), 9);
  EXPECT_EQ(events_of(RawKind::exit, child.pid()).size(), 1U);
  ::close(gate[0]);
  ::close(gate[1]);
}

TEST_P(RealtimeSource, AThreadThatExecutesIsTheProcess) {
  Child child([] {
    std::thread([] { ::_exit(execute("/bin/sleep", {"sleep", "1000"})); }).join();
    return 1;
  });
  const auto seen = wait_for(RawKind::exec, child.pid());
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->process.arguments, joined({"sleep", "1000"}));
  const auto forks = events_of(RawKind::fork, child.pid());
  ASSERT_EQ(forks.size(), 1U);
  EXPECT_EQ(seen->process.start_ticks, forks[0].process.start_ticks);
  EXPECT_TRUE(events_of(RawKind::exit, child.pid()).empty());
  ::kill(static_cast<pid_t>(child.pid()), SIGKILL);
  ASSERT_TRUE(wait_for(RawKind::exit, child.pid()));
  EXPECT_EQ(events_of(RawKind::exit, child.pid()).size(), 1U);
}

TEST_P(RealtimeSource, NumbersProcessesOfOtherPidNamespacesAsTheHostDoes) {
  int report[2];
  ASSERT_EQ(::pipe(report), 0);
  Child child([&] {
    if (::unshare(CLONE_NEWPID) != 0) return 99;
    const pid_t inner = ::fork();  // pid 1 in there
    if (inner == 0) ::_exit(::getpid() == 1 ? execute("/bin/sleep", {"sleep", "1000"}) : 98);
    if (::write(report[1], &inner, sizeof inner) != sizeof inner) return 97;
    ::waitpid(inner, nullptr, 0);
    return 0;
  });
  pid_t inner = 0;
  ::close(report[1]);
  if (::read(report[0], &inner, sizeof inner) != static_cast<ssize_t>(sizeof inner)) {
    GTEST_SKIP() << "not run: no pid namespace here";
  }
  const auto seen = wait_for(RawKind::exec, static_cast<event::Pid>(inner));
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->process.arguments, joined({"sleep", "1000"}));
  EXPECT_EQ(seen->process.ppid, child.pid());
  ::kill(inner, SIGKILL);
  ::close(report[0]);
}

INSTANTIATE_TEST_SUITE_P(, RealtimeSource, ::testing::Values(event::EventSource::ebpf, event::EventSource::netlink),
                         [](const auto& tested) { return std::string(to_string(tested.param)); });

}  // namespace
}  // namespace daemoneye::sensor
