// The reader against /proc trees of our own making: what the kernel seldom shows.
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "sensor/linux/kernel_test.h"
#include "sensor/linux/procfs_reader.h"

namespace daemoneye::sensor {
namespace {

class FakeProc : public ::testing::Test {
 protected:
  void process(event::Pid pid, const std::string& stat_rest = " S 1 1 1 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 500 0 3") {
    const auto folder = tree_.path() + "/" + std::to_string(pid);
    ASSERT_EQ(::mkdir(folder.c_str(), 0755), 0);
    write(pid, "stat", std::to_string(pid) + " (name)" + stat_rest + "\n");
    write(pid, "status", "Name:\tname\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n");
    write(pid, "cgroup", "0::/some.slice\n");
    write(pid, "loginuid", "4294967295");
    write(pid, "cmdline", std::string("a\0b\0", 4));
    ASSERT_EQ(::symlink("/bin/true", (folder + "/exe").c_str()), 0);
    ASSERT_EQ(::symlink("/tmp", (folder + "/cwd").c_str()), 0);
  }
  void write(event::Pid pid, const std::string& name, const std::string& text) {
    std::ofstream(tree_.path() + "/" + std::to_string(pid) + "/" + name, std::ios::binary) << text;
  }
  void remove(event::Pid pid, const std::string& name) {
    ASSERT_EQ(::unlink((tree_.path() + "/" + std::to_string(pid) + "/" + name).c_str()), 0);
  }
  SnapshotResult scan() {
    found_.clear();
    auto snapshot = open_procfs_snapshot(tree_.path());
    EXPECT_TRUE(snapshot);
    const auto result = (*snapshot)->scan(Depth::full, [&](const RawProcess& seen) { found_.push_back(seen); });
    EXPECT_TRUE(result);
    return *result;
  }

  TempDir tree_;
  std::vector<RawProcess> found_;
};

TEST_F(FakeProc, GivesEveryField) {
  process(7);
  EXPECT_EQ(scan().processes, 1U);
  ASSERT_EQ(found_.size(), 1U);
  const auto& seen = found_[0];
  EXPECT_EQ(seen.pid, 7U);
  EXPECT_EQ(seen.start_ticks, 500U);
  EXPECT_EQ(seen.uid, 1U);
  EXPECT_EQ(seen.euid, 2U);
  EXPECT_EQ(seen.loginuid, std::nullopt);  // unset is absent, not 4294967295
  EXPECT_EQ(seen.cgroup, "/some.slice");
  EXPECT_EQ(seen.arguments, std::string("a\0b\0", 4));
  EXPECT_EQ(seen.executable_path, "/bin/true");
  EXPECT_EQ(seen.cwd, "/tmp");
  EXPECT_EQ(seen.cpu_ticks, 3U);
  EXPECT_EQ(seen.tty, std::nullopt);
}

TEST_F(FakeProc, CountsWhatVanishedWhileItWasRead) {
  process(7);
  process(8);
  remove(8, "stat");
  const auto result = scan();
  EXPECT_EQ(result.processes, 1U);
  EXPECT_EQ(result.vanished, 1U);
  EXPECT_EQ(result.errors, 0U);
}

TEST_F(FakeProc, MissingPartsAreAbsentNotInvented) {
  process(7);
  for (const auto* name : {"status", "cgroup", "loginuid", "cmdline", "exe", "cwd"}) remove(7, name);
  EXPECT_EQ(scan().processes, 1U);
  const auto& seen = found_.at(0);
  EXPECT_EQ(seen.uid, std::nullopt);
  EXPECT_EQ(seen.cgroup, std::nullopt);
  EXPECT_EQ(seen.arguments, std::nullopt);
  EXPECT_EQ(seen.executable_path, std::nullopt);
  EXPECT_EQ(seen.executable_state, std::nullopt);
  EXPECT_EQ(seen.cwd, std::nullopt);
}

TEST_F(FakeProc, ABrokenStatIsAnErrorAndTheOthersGoOn) {
  process(7, " S 1 1");
  process(8);
  const auto result = scan();
  EXPECT_EQ(result.processes, 1U);
  EXPECT_EQ(result.errors, 1U);
  EXPECT_EQ(found_.at(0).pid, 8U);
}

TEST_F(FakeProc, APartThatCannotBeReadLeavesTheRest) {
  process(7);
  for (const auto* name : {"cgroup", "cmdline", "status"}) {
    remove(7, name);
    ASSERT_EQ(::mkdir((tree_.path() + "/7/" + name).c_str(), 0755), 0);  // reading gives EISDIR
  }
  const auto result = scan();
  EXPECT_EQ(result.processes, 1U);
  EXPECT_EQ(result.forbidden, 1U);
  EXPECT_EQ(result.errors, 0U);
  ASSERT_EQ(found_.size(), 1U);
  EXPECT_EQ(found_[0].start_ticks, 500U);
  EXPECT_EQ(found_[0].executable_path, "/bin/true");
  EXPECT_EQ(found_[0].cgroup, std::nullopt);
}

TEST_F(FakeProc, MemoryThatWasNotReadIsNotNone) {
  process(7);
  scan();
  EXPECT_EQ(found_.at(0).resident_bytes, 0U) << "of one that has none the kernel does not tell it";
  std::string groups;
  for (int i = 0; i < 4000; ++i) groups += std::to_string(100'000 + i) + ' ';
  write(7, "status", "Name:\tname\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t" + groups + "\nVmRSS:\t 12 kB\n");
  scan();
  EXPECT_EQ(found_.at(0).uid, 1U);
  EXPECT_EQ(found_.at(0).resident_bytes, std::nullopt);
}

TEST_F(FakeProc, AStatOfAnotherPidIsRefused) {
  process(7);
  write(7, "stat", "9 (name) S 1 1 1 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 500 0 3\n");
  const auto result = scan();
  EXPECT_EQ(result.errors, 1U);
  EXPECT_EQ(result.unreadable, std::vector<event::Pid>{7});
  EXPECT_TRUE(found_.empty());
}

TEST_F(FakeProc, OverlongArgumentsAreCut) {
  process(
      7, " S 1 1 1 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 500 0 3 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1000 2001000");
  write(7, "cmdline", std::string(2'000'000, 'x'));
  scan();
  EXPECT_EQ(found_.at(0).arguments->size(), kMaxArguments);
  EXPECT_EQ(found_.at(0).arguments_bytes, 2'000'000U);
}

TEST_F(FakeProc, AnEmptyArgumentListIsKnownToBeEmpty) {
  process(7);
  write(7, "cmdline", "");
  scan();
  EXPECT_EQ(found_.at(0).arguments, "");
}

TEST_F(FakeProc, ZombiesHaveNoImage) {
  process(7, " Z 1 1 1 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 500 0 0");
  write(7, "cmdline", "");
  scan();
  EXPECT_EQ(found_.at(0).status, event::ProcessStatus::zombie);
  EXPECT_EQ(found_.at(0).arguments, std::nullopt);
  EXPECT_EQ(found_.at(0).executable_path, std::nullopt);
}

TEST_F(FakeProc, NamesThatAreNoPidsArePassedOver) {
  process(7);
  for (const auto* name : {"/self", "/7x", "/sys", "/-1", "/99999999999"}) {
    ASSERT_EQ(::mkdir((tree_.path() + name).c_str(), 0755), 0);
  }
  const auto result = scan();
  EXPECT_EQ(result.processes, 1U);
  EXPECT_EQ(result.errors + result.vanished, 0U);
}

TEST_F(FakeProc, ForbiddenPartsLeaveTheRest) {
  if (::geteuid() != 0) GTEST_SKIP() << "not run: needs a process of another user";
  // Of root's process, as nobody sees it.
  Child child([] {
    if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) return 1;
    auto snapshot = open_procfs_snapshot();
    if (!snapshot) return 2;
    const auto parent = static_cast<event::Pid>(::getppid());
    bool found = false;
    const auto result = (*snapshot)->scan(Depth::full, [&](const RawProcess& seen) {
      found |= seen.pid == parent && !seen.executable_path && !seen.cwd && seen.arguments && seen.uid == 0U &&
               seen.executable_state == event::ExecutableState::unreadable;
    });
    if (!result || !found) return 3;
    return result->forbidden > 0 && result->errors == 0 ? 0 : 4;
  });
  EXPECT_EQ(WEXITSTATUS(child.wait()), 0);
}

TEST(OpenProcfsSnapshot, SaysWhatIsNotThere) {
  const auto snapshot = open_procfs_snapshot("/nonexistent");
  ASSERT_FALSE(snapshot);
  EXPECT_EQ(snapshot.error().code, Errc::not_found);
}

}  // namespace
}  // namespace daemoneye::sensor
