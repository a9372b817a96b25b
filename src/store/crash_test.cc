// What happens to the file when the writer is killed, when the disk is full, and to readers in other processes.
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <random>
#include <set>
#include <thread>

#include "base/file.h"
#include "store/testing/temp_store.h"

namespace daemoneye::store {
namespace {

using namespace std::chrono_literals;
using namespace store::testing;
using event::EventKind;

constexpr std::size_t events_a_batch = 20;

event::Batch numbered_batch(std::uint64_t sequence, std::uint8_t epoch) {
  std::vector<event::ProcessEvent> events;
  for (std::size_t i = 0; i < events_a_batch; ++i) {
    const auto pid = static_cast<event::Pid>(sequence * events_a_batch + i);
    events.push_back(make_event(i % 2 == 0 ? EventKind::exec : EventKind::exit, pid, static_cast<std::int64_t>(pid)));
  }
  return make_batch(sequence, std::move(events), epoch);
}

// Writes batches without end and tells each acknowledged sequence on `report`, until it is killed.
[[noreturn]] void write_until_killed(const TempFolder& folder, std::uint8_t epoch, int report) {
  auto options = folder.options();
  options.block_events = 150;
  auto writer = Writer::open(options);
  if (!writer) _exit(3);
  for (std::uint64_t sequence = 1;; ++sequence) {
    const auto batch = numbered_batch(sequence, epoch);
    auto canonical = *event::encode_batch(batch);
    const auto digest = event::batch_digest(canonical);
    (*writer)->commit_batch(batch.id, std::move(canonical), digest, {}, [report](const Result<Commit>& result) {
      if (!result) _exit(4);
      if (write(report, &result->id.sequence, sizeof(std::uint64_t)) != sizeof(std::uint64_t)) _exit(5);
    });
  }
}

TEST(Crash, AKilledWriterLosesNothingItAcknowledgedAndKeepsNothingTwice) {
  const TempFolder folder;
  std::mt19937_64 random(1);
  std::uint64_t acknowledged_in_all = 0;
  constexpr std::uint8_t rounds = 24;
  for (std::uint8_t round = 1; round <= rounds; ++round) {
    int pipes[2];
    ASSERT_EQ(pipe(pipes), 0);
    const pid_t child = fork();
    if (child == 0) {
      close(pipes[0]);
      write_until_killed(folder, round, pipes[1]);
    }
    close(pipes[1]);
    // Killed after a random number of acknowledgements, that is: anywhere in its work.
    const auto kill_after = 1 + random() % 120;
    std::uint64_t acknowledged = 0, sequence = 0;
    while (acknowledged < kill_after && read(pipes[0], &sequence, sizeof sequence) == sizeof sequence) {
      acknowledged = sequence;
    }
    kill(child, SIGKILL);
    while (read(pipes[0], &sequence, sizeof sequence) == sizeof sequence) acknowledged = sequence;
    close(pipes[0]);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "exit status " << WEXITSTATUS(status);
    acknowledged_in_all += acknowledged;

    auto reader = Reader::open(folder.file());
    ASSERT_TRUE(reader) << reader.error().message;
    std::set<event::BatchId> seen;
    event::EventId next = 1;
    const auto read = (*reader)->batches([&](const Reader::BatchRow& row) {
      EXPECT_TRUE(seen.insert(row.id).second) << "batch " << row.id.sequence << " is there twice";
      EXPECT_EQ(row.first_event, next);
      next = row.last_event + 1;
      if (row.id.epoch[0] == round) {
        const auto bytes = (*reader)->reconstruct_batch(row);
        EXPECT_TRUE(bytes && event::batch_digest(*bytes) == row.digest);
      }
      return true;
    });
    ASSERT_TRUE(read) << read.error().message;
    for (std::uint64_t i = 1; i <= acknowledged; ++i) {
      ASSERT_TRUE(seen.contains(make_batch(i, {}, round).id)) << "round " << int{round} << " lost batch " << i;
    }
    ASSERT_EQ(ids(**reader).size(), seen.size() * events_a_batch);
  }
  EXPECT_GE(acknowledged_in_all, rounds);
  std::cout << "acknowledged batches over " << int{rounds} << " kills: " << acknowledged_in_all << ", lost 0\n";
}

TEST(Crash, AnotherProcessReadsWholeBatchesWhileOneWrites) {
  const TempFolder folder;
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(pipes[0]);
    write_until_killed(folder, 1, pipes[1]);
  }
  close(pipes[1]);
  std::uint64_t sequence = 0;
  ASSERT_EQ(read(pipes[0], &sequence, sizeof sequence), static_cast<ssize_t>(sizeof sequence));
  auto reader = Reader::open(folder.file());
  ASSERT_TRUE(reader) << reader.error().message;
  std::size_t before = 0;
  for (int look = 0; look < 20; ++look) {
    for (int i = 0; i < 5; ++i)
      ASSERT_EQ(read(pipes[0], &sequence, sizeof sequence), static_cast<ssize_t>(sizeof sequence));
    const auto found = ids(**reader);
    EXPECT_EQ(found.size() % events_a_batch, 0U);
    EXPECT_GE(found.size(), sequence * events_a_batch);
    EXPECT_GE(found.size(), before);
    EXPECT_EQ(found.back(), static_cast<event::EventId>(found.size()));
    before = found.size();
    EXPECT_TRUE((*reader)->stats()->agent_running);
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(pipes[0]);
  EXPECT_FALSE((*reader)->stats()->agent_running);
}

TEST(Crash, AUserOfTheGroupReadsTheStoreRunningAndStopped) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  const TempFolder folder;
  ASSERT_EQ(chmod(folder.path().c_str(), 0755), 0);
  auto options = folder.options();
  options.reader_group = "daemon";  // a group every Debian has
  const auto* group = getgrnam("daemon");
  ASSERT_NE(group, nullptr);
  const gid_t gid = group->gr_gid;
  const auto read_as_member = [&] {
    const pid_t child = fork();
    if (child == 0) {
      if (setgroups(1, &gid) != 0 || setgid(65534) != 0 || setuid(65534) != 0) _exit(10);
      auto reader = Reader::open(folder.file());
      if (!reader) _exit(11);
      _exit(ids(**reader).size() == 1 ? 0 : 12);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  {
    auto writer = Writer::open(options);
    ASSERT_TRUE(writer) << writer.error().message;
    ASSERT_TRUE(commit(**writer, make_batch(1, {make_event(EventKind::exec, 1, 10)})));
    EXPECT_EQ(read_as_member(), 0) << "while the writer runs";
  }
  EXPECT_EQ(read_as_member(), 0) << "after a clean stop";
}

class FullDisk : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root to mount a small tmpfs";
    mount_ = folder_.path() + "/state";
    std::filesystem::create_directory(mount_);
    if (mount("tmpfs", mount_.c_str(), "tmpfs", 0, "size=2m") != 0)
      GTEST_SKIP() << "mounting a tmpfs is not allowed here";
    mounted_ = true;
  }
  void TearDown() override {
    if (mounted_) umount2(mount_.c_str(), MNT_DETACH);
  }
  TempFolder folder_;
  std::string mount_;
  bool mounted_ = false;
};

TEST_F(FullDisk, PausesSaysSoAndGoesOnByItselfWithoutLoss) {
  auto options = folder_.options();
  auto opened = Writer::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  auto& writer = **opened;
  ASSERT_TRUE(commit(writer, make_batch(1, {make_event(EventKind::exec, 1, 10)})));
  const std::string filler = mount_ + "/filler";
  {
    std::ofstream out(filler, std::ios::binary);
    const std::string block(4096, 'x');
    while (out.write(block.data(), 4096) && out.flush()) {
    }
  }
  constexpr std::uint64_t batches = 30;
  std::atomic<std::uint64_t> committed = 0, failed = 0;
  for (std::uint64_t sequence = 2; sequence <= batches; ++sequence) {
    auto batch = make_batch(sequence, {});
    for (event::Pid pid = 0; pid < 200; ++pid) {
      batch.events.push_back(make_event(EventKind::exec, pid, 10, "name" + std::to_string(sequence * 1000 + pid)));
    }
    auto canonical = *event::encode_batch(batch);
    const auto digest = event::batch_digest(canonical);
    writer.commit_batch(batch.id, std::move(canonical), digest, {}, [&](const auto& result) {
      if (result)
        ++committed;
      else
        ++failed;
    });
  }
  const auto deadline = Deadline::after(20s);
  while (!writer.state().paused && !deadline.expired()) std::this_thread::yield();
  ASSERT_TRUE(writer.state().paused);
  EXPECT_NE(writer.state().reason.find("disk full"), std::string::npos) << writer.state().reason;
  EXPECT_EQ(failed, 0U);
  std::filesystem::remove(filler);
  EXPECT_TRUE(writer.drain(Deadline::after(30s)));
  EXPECT_FALSE(writer.state().paused);
  EXPECT_EQ(committed, batches - 1);
  EXPECT_EQ(failed, 0U);
  auto reader = Reader::open(folder_.file());
  ASSERT_TRUE(reader);
  EXPECT_EQ(ids(**reader).size(), 1 + (batches - 1) * 200);
}

TEST_F(FullDisk, ClosingGivesBackWhatCouldNotBeWritten) {
  auto opened = Writer::open(folder_.options());
  ASSERT_TRUE(opened) << opened.error().message;
  std::ofstream(mount_ + "/filler", std::ios::binary) << std::string(4 * 1024 * 1024, 'x');
  std::string large;
  std::mt19937_64 random(3);
  for (int i = 0; i < 30'000; ++i) large += static_cast<char>(random());
  auto batch = make_batch(1, {make_event(EventKind::exec, 1, 10)});
  batch.events[0].process.cwd = large;
  std::promise<Result<Commit>> done;
  const auto canonical = *event::encode_batch(batch);
  (*opened)->commit_batch(batch.id, canonical, event::batch_digest(canonical), {},
                          [&](auto result) { done.set_value(std::move(result)); });
  const auto deadline = Deadline::after(20s);
  while (!(*opened)->state().paused && !deadline.expired()) std::this_thread::yield();
  (*opened)->close(Deadline::after(50ms));
  const auto result = done.get_future().get();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::unavailable);
}

}  // namespace
}  // namespace daemoneye::store
