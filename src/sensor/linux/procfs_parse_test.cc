#include "sensor/linux/procfs_parse.h"

#include <gtest/gtest.h>

namespace daemoneye::sensor {
namespace {

constexpr std::string_view kRest =
    " S 10 20 30 34817 -1 4194304 100 0 0 0 7 8 0 0 20 0 1 0 158675 3133440 408 18446744073709551615 1 2 3 0 0 0 0 0 0 "
    "0 0 0 17 0 0 0 0 0 0 4 5 6 1000 1600 1601 1700 0\n";

TEST(ParseStat, ReadsTheFieldsOfProc5) {
  const auto text = "7525 (cat)" + std::string(kRest);
  const auto stat = parse_stat(text);
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->pid, 7525U);
  EXPECT_EQ(stat->comm, "cat");
  EXPECT_EQ(stat->state, 'S');
  EXPECT_EQ(stat->ppid, 10U);
  EXPECT_EQ(stat->session, 30U);
  EXPECT_EQ(tty_name(stat->tty_number), "pts/1");
  EXPECT_FALSE(stat->kernel_thread);
  EXPECT_EQ(stat->cpu_ticks, 15U);
  EXPECT_EQ(stat->start_ticks, 158675U);
  EXPECT_EQ(stat->threads, 1U);
}

TEST(ParseStat, EndsTheNameAtTheLastBracket) {
  for (const std::string name : {"a b", ")", "x) R 1 (", "line\nline", "", "(((", "\xff"}) {
    const auto text = "1 (" + name + ")" + std::string(kRest);
    const auto stat = parse_stat(text);
    ASSERT_TRUE(stat) << name;
    EXPECT_EQ(stat->comm, name);
    EXPECT_EQ(stat->start_ticks, 158675U);
  }
}

TEST(ParseStat, KnowsKernelThreads) {
  const auto stat = parse_stat("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0");
  ASSERT_TRUE(stat);
  EXPECT_TRUE(stat->kernel_thread);
  EXPECT_EQ(stat->start_ticks, 3U);
}

TEST(ParseStat, RefusesWhatIsNotWhole) {
  for (const std::string_view text : {"", "1", "1 (", "1 (x", "x (y) S 1", "1 (x) S 1 2 3", ") 1 (x S",
                                      "1 (x) SS 1 2 3", "1 (x) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 x 0 0",
                                      "1 (x) S 0 0 0 0 -1 99999999999999999999999 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0"}) {
    EXPECT_FALSE(parse_stat(text)) << text;
  }
}

TEST(ParseStatus, TakesIdsAndMemory) {
  const auto status = parse_status(
      "Name:\tx\\nUid:\t9\nState:\tS (sleeping)\nUid:\t1000\t0\t1\t2\nGid:\t7\t8\t9\t10\nVmRSS:\t    1744 kB\n");
  EXPECT_EQ(status.uid, 1000U);
  EXPECT_EQ(status.euid, 0U);
  EXPECT_EQ(status.gid, 7U);
  EXPECT_EQ(status.egid, 8U);
  EXPECT_EQ(status.resident_bytes, 1744U * 1024);
}

TEST(ParseStatus, LeavesOutWhatIsNotThere) {
  const auto status = parse_status("Name:\tx\nUid:\t1000\nGid:\t-1\t\n");
  EXPECT_EQ(status.uid, 1000U);
  EXPECT_EQ(status.euid, std::nullopt);
  EXPECT_EQ(status.gid, std::nullopt);
  EXPECT_EQ(status.resident_bytes, std::nullopt);
}

TEST(ChooseCgroup, PrefersTheUnifiedHierarchyUnlessItIsAtItsRoot) {
  EXPECT_EQ(choose_cgroup("1:name=systemd:/a\n0::/system.slice/x.service\n"), "/system.slice/x.service");
  EXPECT_EQ(choose_cgroup("4:memory:/m\n1:name=systemd:/s\n0::/\n"), "/s");
  EXPECT_EQ(choose_cgroup("8:pids:/p\n4:memory:/m\n1:name=systemd:/\n0::/\n"), "/m");
  EXPECT_EQ(choose_cgroup("8:net_cls,pids:/p\n4:memory:/\n"), "/p");
  EXPECT_EQ(choose_cgroup("4:memory:/\n0::/\n"), "/");
  EXPECT_EQ(choose_cgroup("0::/with:colon\n"), "/with:colon");
  EXPECT_EQ(choose_cgroup(""), std::nullopt);
  EXPECT_EQ(choose_cgroup("nonsense\n::\n3:cpu\n"), std::nullopt);
}

TEST(TtyName, KnowsTheKernelsNumbers) {
  EXPECT_EQ(tty_name(0), std::nullopt);
  EXPECT_EQ(tty_name((136 << 8) | 0), "pts/0");
  EXPECT_EQ(tty_name((137 << 8) | 3), "pts/259");
  EXPECT_EQ(tty_name((4 << 8) | 1), "tty1");
  EXPECT_EQ(tty_name((4 << 8) | 64), "ttyS0");
  EXPECT_EQ(tty_name((5 << 8) | 1), "console");
  EXPECT_EQ(tty_name(7 << 8), std::nullopt);
}

}  // namespace
}  // namespace daemoneye::sensor
