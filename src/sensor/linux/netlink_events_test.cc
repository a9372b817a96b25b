// What becomes of messages, against a /proc tree of our own making.
#include "sensor/linux/netlink_events.h"

#include <sys/stat.h>
#include <time.h>

#include <fstream>

#include "sensor/linux/kernel_test.h"

namespace daemoneye::sensor {
namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr event::Pid kParent = 900;

class FakeEvents : public ::testing::Test {
 protected:
  FakeEvents() {
    timespec monotonic{}, boot{};
    ::clock_gettime(CLOCK_MONOTONIC, &monotonic);
    ::clock_gettime(CLOCK_BOOTTIME, &boot);
    now_ = monotonic.tv_sec * 1000 * kMs + monotonic.tv_nsec;
    boot_ahead_ = boot.tv_sec * 1000 * kMs + boot.tv_nsec - now_;
    now_ -= 10'000 * kMs;  // some seconds ago: all readings come later
    process(kParent, 1, "parent");
    auto reader = ProcReader::open(tree_.path());
    EXPECT_TRUE(reader);
    events_ = std::make_unique<NetlinkEvents>(std::move(*reader), 64);
    EXPECT_TRUE(events_->prime());
  }

  [[nodiscard]] std::uint64_t ticks(std::int64_t stamp) const {
    return static_cast<std::uint64_t>((stamp + boot_ahead_) / (10 * kMs));
  }
  void process(event::Pid pid, std::uint64_t start_ticks, const std::string& argument, const std::string& state = "S",
               int threads = 1) {
    const auto folder = tree_.path() + "/" + std::to_string(pid);
    ::mkdir(folder.c_str(), 0755);
    const auto write = [&](const char* name, const std::string& text) { std::ofstream(folder + "/" + name) << text; };
    write("stat", std::to_string(pid) + " (" + argument + ") " + state + " 900 1 1 0 -1 0 0 0 0 0 1 2 0 0 20 0 " +
                      std::to_string(threads) + " 0 " + std::to_string(start_ticks) + " 0 3");
    write("status", "Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n");
    write("cmdline", argument.empty() ? "" : argument + '\0');
  }
  void remove(event::Pid pid) { std::filesystem::remove_all(tree_.path() + "/" + std::to_string(pid)); }

  ProcMessage message(ProcMessageKind kind, event::Pid pid, std::int64_t stamp, int wait_status = 0) const {
    ProcMessage made;
    made.kind = kind;
    made.pid = made.thread = pid;
    made.parent = kParent;
    made.monotonic_ns = stamp;
    made.wait_status = wait_status;
    return made;
  }
  ProcMessage of_thread(ProcMessage made, event::Pid thread) const {
    made.thread = thread;
    return made;
  }
  // Hands these over in one go; `later` is there when the source looks again.
  std::vector<RawEvent> handle(std::vector<ProcMessage> messages, std::vector<ProcMessage> later = {}) {
    std::vector<RawEvent> seen;
    events_->handle(
        [&](std::vector<ProcMessage>& into) {
          into.insert(into.end(), messages.begin(), messages.end());
          messages = std::exchange(later, {});
          return false;
        },
        SIZE_MAX, [&](const RawEvent& event) { seen.push_back(event); });
    return seen;
  }

  TempDir tree_;
  std::int64_t now_ = 0, boot_ahead_ = 0;
  std::unique_ptr<NetlinkEvents> events_;
};

using enum ProcMessageKind;

TEST_F(FakeEvents, GivesForkExecAndExitOneIdentity) {
  process(7, ticks(now_), "seven");
  const auto seen = handle({message(fork, 7, now_), message(exec, 7, now_ + kMs)});
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(seen[0].process.start_ticks, ticks(now_));
  EXPECT_EQ(seen[0].process.ppid, kParent);
  EXPECT_EQ(seen[0].process.parent_start_ticks, 1U);
  EXPECT_EQ(seen[1].process.start_ticks, ticks(now_));
  EXPECT_EQ(seen[1].process.arguments, std::string("seven\0", 6));
  EXPECT_EQ(seen[1].process.uid, 1U);
  remove(7);
  const auto end = handle({message(exit, 7, now_ + 2 * kMs, 3 << 8)});
  ASSERT_EQ(end.size(), 1U);
  EXPECT_EQ(end[0].process.start_ticks, ticks(now_));
  EXPECT_EQ(end[0].exit_code, 3);
  EXPECT_EQ(events_->size(), 1U);  // the parent
  EXPECT_TRUE(handle({message(exit, 7, now_ + 3 * kMs)}).empty());
}

TEST_F(FakeEvents, StampsGrowAndAreTheSameForWhatIsToldTwice) {
  process(7, ticks(now_), "seven");
  const auto first = handle({message(fork, 7, now_), message(exec, 7, now_ + kMs)});
  const auto again = handle({message(exec, 7, now_ + kMs)});
  const auto next = handle({message(exec, 7, now_ + kMs + 1)});
  ASSERT_EQ(first.size(), 2U);
  ASSERT_EQ(again.size(), 1U);
  ASSERT_EQ(next.size(), 1U);
  EXPECT_NEAR(static_cast<double>(first[0].boot_ns), static_cast<double>(now_ + boot_ahead_), 1e9);
  EXPECT_EQ(first[1].boot_ns - first[0].boot_ns, static_cast<std::uint64_t>(kMs));
  EXPECT_EQ(again[0].boot_ns, first[1].boot_ns);
  EXPECT_EQ(next[0].boot_ns, first[1].boot_ns + 1);
}

TEST_F(FakeEvents, TellsWhatIsGoneWithoutMakingAnythingUp) {
  const auto seen = handle({message(fork, 7, now_), message(exec, 7, now_ + kMs), message(exit, 7, now_ + 2 * kMs, 9)});
  ASSERT_EQ(seen.size(), 3U);
  for (const auto& event : seen) EXPECT_EQ(event.process.start_ticks, ticks(now_));
  EXPECT_EQ(seen[1].process.arguments, std::nullopt);
  EXPECT_EQ(seen[1].process.uid, std::nullopt);
  EXPECT_EQ(seen[1].process.comm, "");
  EXPECT_EQ(seen[1].process.ppid, kParent);
  EXPECT_EQ(seen[2].exit_signal, 9);
  EXPECT_EQ(events_->counters().incomplete, 1U);
  EXPECT_EQ(events_->counters().lost, 0U);
}

TEST_F(FakeEvents, TheNextOwnerOfAPidIsNotTakenForTheOneBefore) {
  process(7, ticks(now_ + 5000 * kMs), "next");  // by the time that we look
  const auto seen = handle({message(fork, 7, now_), message(exec, 7, now_ + kMs)});
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(seen[0].process.start_ticks, ticks(now_));
  EXPECT_EQ(seen[1].process.start_ticks, ticks(now_));
  EXPECT_EQ(seen[1].process.arguments, std::nullopt);
  const auto next = handle(
      {message(exit, 7, now_ + 2 * kMs), message(fork, 7, now_ + 5000 * kMs), message(exec, 7, now_ + 5001 * kMs)});
  ASSERT_EQ(next.size(), 3U);
  EXPECT_EQ(next[0].process.start_ticks, ticks(now_));
  EXPECT_EQ(next[1].process.start_ticks, ticks(now_ + 5000 * kMs));
  EXPECT_EQ(next[2].process.arguments, std::string("next\0", 5));
}

TEST_F(FakeEvents, AProcessWhoseForkWasLostIsKnownFromItsExec) {
  process(7, ticks(now_), "first");
  handle({message(fork, 7, now_)});
  // Its end and the fork of another with the same pid were lost.
  process(7, ticks(now_ + 1000 * kMs), "second");
  events_->on_loss();
  const auto seen = handle({message(exec, 7, now_ + 1001 * kMs)});
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].process.start_ticks, ticks(now_ + 1000 * kMs));
  EXPECT_EQ(seen[0].process.arguments, std::string("second\0", 7));
  const auto end = handle({message(exit, 7, now_ + 1002 * kMs)});
  ASSERT_EQ(end.size(), 1U);
  EXPECT_EQ(end[0].process.start_ticks, ticks(now_ + 1000 * kMs));
}

TEST_F(FakeEvents, AnExecThatWasOvertakenHasNotTheOthersArguments) {
  process(7, ticks(now_), "second");
  // Both wait already: only the last can be what /proc shows.
  auto seen = handle({message(fork, 7, now_), message(exec, 7, now_ + kMs), message(exec, 7, now_ + 2 * kMs)});
  ASSERT_EQ(seen.size(), 3U);
  EXPECT_EQ(seen[1].process.arguments, std::nullopt);
  EXPECT_EQ(seen[2].process.arguments, std::string("second\0", 7));
  // The other one comes while we read.
  seen = handle({message(exec, 7, now_ + 3 * kMs)}, {message(exec, 7, now_ + 4 * kMs)});
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(seen[0].process.arguments, std::nullopt);
  EXPECT_EQ(seen[0].process.start_ticks, ticks(now_));
  EXPECT_EQ(seen[1].process.arguments, std::string("second\0", 7));
}

TEST_F(FakeEvents, HandlesNoMoreAtOnceThanItMay) {
  std::vector<ProcMessage> messages;
  for (event::Pid pid = 0; pid < 10; ++pid) messages.push_back(message(fork, 1000 + pid, now_ + pid));
  std::vector<event::Pid> seen;
  const auto receive = [&](std::vector<ProcMessage>& into) {
    for (auto& one : std::exchange(messages, {})) into.push_back(one);
    return false;
  };
  const auto emit = [&](const RawEvent& event) { seen.push_back(event.process.pid); };
  EXPECT_EQ(events_->handle(receive, 4, emit), 4U);
  EXPECT_EQ(seen.size(), 4U);
  EXPECT_TRUE(events_->waiting());
  messages = {message(fork, 1010, now_ + 10)};
  EXPECT_EQ(events_->handle(receive, 20, emit), 11U - 4U);
  EXPECT_FALSE(events_->waiting());
  ASSERT_EQ(seen.size(), 11U);
  for (event::Pid pid = 0; pid < 11; ++pid) EXPECT_EQ(seen[pid], 1000 + pid) << "in the order of the kernel";
}

TEST_F(FakeEvents, AnExecThatWasOvertakenByOneThatStillWaitsHasNotItsArguments) {
  process(7, ticks(now_), "second");
  std::vector<ProcMessage> messages = {message(fork, 7, now_), message(exec, 7, now_ + kMs),
                                       message(exec, 7, now_ + 2 * kMs)};
  std::vector<RawEvent> seen;
  const auto receive = [&](std::vector<ProcMessage>& into) {
    for (auto& one : std::exchange(messages, {})) into.push_back(one);
    return false;
  };
  const auto emit = [&](const RawEvent& event) { seen.push_back(event); };
  while (events_->handle(receive, 2, emit) != 0) {
  }
  ASSERT_EQ(seen.size(), 3U);
  EXPECT_EQ(seen[1].process.arguments, std::nullopt);
  EXPECT_EQ(seen[2].process.arguments, std::string("second\0", 7));
}

// More comes without end than can be handled: memory stays bounded, and nothing is claimed that is not known.
TEST_F(FakeEvents, WhatIsNotKnownToBeTheLastImageIsNotTold) {
  process(7, ticks(now_), "seven");
  std::size_t received = 0;
  std::vector<ProcMessage> first = {message(exec, 7, now_)};
  std::vector<RawEvent> seen;
  events_->handle(
      [&](std::vector<ProcMessage>& into) {
        if (!first.empty()) {
          into = std::exchange(first, {});
          return false;
        }
        received += 1000;
        for (int i = 0; i < 1000; ++i) into.push_back(message(other, 1, now_));
        return received < 1'000'000;
      },
      1, [&](const RawEvent& event) { seen.push_back(event); });
  EXPECT_LE(received, 70'000U);
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].process.start_ticks, ticks(now_));
  EXPECT_EQ(seen[0].process.arguments, std::nullopt);
}

TEST_F(FakeEvents, NoArgumentsMeansUnknownNotEmpty) {
  process(7, ticks(now_), "");  // as of one that is just being given another image
  const auto seen = handle({message(fork, 7, now_), message(exec, 7, now_ + kMs)});
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(seen[1].process.arguments, std::nullopt);
  EXPECT_EQ(events_->counters().incomplete, 1U);
}

TEST_F(FakeEvents, AProcessEndsWithItsLastThread) {
  process(7, ticks(now_), "threads", "Z", 2);
  EXPECT_EQ(handle({message(fork, 7, now_), of_thread(message(fork, 7, now_ + kMs), 8)}).size(), 1U);
  EXPECT_TRUE(handle({message(exit, 7, now_ + 2 * kMs)}).empty());
  process(7, ticks(now_), "threads", "Z", 1);
  const auto seen = handle({of_thread(message(exit, 7, now_ + 3 * kMs, 9 << 8), 8)});
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].exit_code, 9);
}

TEST_F(FakeEvents, AThreadThatIsLateDoesNotHideHowTheProcessEnded) {
  process(7, ticks(now_), "threads", "Z", 2);
  handle({message(fork, 7, now_), of_thread(message(fork, 7, now_ + kMs), 8)});
  EXPECT_TRUE(handle({message(exit, 7, now_ + 2 * kMs, 5 << 8)}).empty());
  remove(7);
  const auto seen = handle({of_thread(message(exit, 7, now_ + 3 * kMs, 0), 8)});
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].exit_code, 5);
}

TEST_F(FakeEvents, TheThreadThatExecutesTakesTheProcessOver) {
  process(7, ticks(now_), "taken over", "R", 1);
  handle({message(fork, 7, now_), of_thread(message(fork, 7, now_ + kMs), 8)});
  // The first thread's end is told before the exec, or after it with an older stamp.
  EXPECT_TRUE(handle({message(exit, 7, now_ + 2 * kMs)}).empty());
  EXPECT_EQ(handle({message(exec, 7, now_ + 4 * kMs), message(exit, 7, now_ + 3 * kMs)}).size(), 1U);
  remove(7);
  EXPECT_EQ(handle({message(exit, 7, now_ + 5 * kMs)}).size(), 1U);
}

TEST_F(FakeEvents, WhatWasGoneBeforeItWasOpenedIsNotALoss) {
  EXPECT_TRUE(handle({message(exec, 7, now_), message(exit, 7, now_ + kMs)}).empty());
  EXPECT_EQ(events_->counters().lost, 0U);
  // Later it is: who executed something and ended cannot be said.
  const auto later = now_ + 20'000 * kMs;
  EXPECT_TRUE(handle({message(exec, 7, later), message(exit, 7, later + kMs)}).empty());
  EXPECT_EQ(events_->counters().lost, 2U);
}

TEST_F(FakeEvents, RemembersNoMoreThanItMay) {
  for (event::Pid pid = 1000; pid < 1200; ++pid) handle({message(fork, pid, now_)});
  EXPECT_LE(events_->size(), 64U);
  // Those who live are kept.
  process(7, ticks(now_), "seven");
  handle({message(fork, 7, now_), message(exec, 7, now_ + kMs)});
  for (event::Pid pid = 1200; pid < 1300; ++pid) handle({message(fork, pid, now_)});
  EXPECT_LE(events_->size(), 64U);
  remove(7);
  EXPECT_EQ(handle({message(exit, 7, now_ + kMs)}).size(), 1U);
}

}  // namespace
}  // namespace daemoneye::sensor
