#include <algorithm>

#include "collector/tracker_test_util.h"

namespace daemoneye::collector {
namespace {

using event::EventKind;
using event::EventSource;
using event::ProcessStatus;
using namespace std::string_literals;

TEST_F(TrackerTest, TellsExecAndExitWithTheWholeProcess) {
  auto tracker = make();
  tracker.on_event(event(sensor::RawKind::fork, raw_process(100, 5)), EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(100, 5), "/bin/ls", "ls\0-l\0"s)),
                   EventSource::ebpf);
  auto exit = event(sensor::RawKind::exit, raw_process(100, 5));
  exit.exit_code = 3;
  tracker.on_event(exit, EventSource::ebpf);
  ASSERT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::exit}));
  EXPECT_EQ(events_[1].process.name, "ls");
  EXPECT_EQ(events_[1].process.arguments->command_line(), "ls -l");
  EXPECT_EQ(events_[1].process.exit_code, 3);
  EXPECT_EQ(events_[1].process.exit_signal, std::nullopt);
  EXPECT_EQ(events_[1].process.status, ProcessStatus::exited);
  EXPECT_EQ(events_[1].process.start_time->ns, boot_time.ns + 5 * 10'000'000);
  EXPECT_EQ(tracker.size(), 0U);
}

TEST_F(TrackerTest, JoinsTheParentAsItWasWhenTheChildWasForked) {
  auto tracker = make();
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/usr/sbin/nginx", "nginx\0-g\0"s)),
                   EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::fork, raw_process(11, 3, 10, 2)), EventSource::ebpf);
  // The parent runs something else by the time the child executes, and the child was given to init.
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/true", "true\0"s)),
                   EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(11, 3, 1, 1), "/bin/sh", "sh\0"s)),
                   EventSource::ebpf);
  const auto& shell = events_.back();
  EXPECT_EQ(shell.parent_name, "nginx");
  EXPECT_EQ(shell.parent_executable_path, "/usr/sbin/nginx");
  EXPECT_EQ(shell.parent_command_line, "nginx -g");
  EXPECT_EQ(shell.process.ppid, 10U);
  EXPECT_EQ(shell.process.parent_key->start_ticks, 2U);
}

TEST_F(TrackerTest, NeverJoinsAParentWhosePidWasReused) {
  auto tracker = make();
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/old", "old\0"s)),
                   EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(11, 9, 10, 8), "/bin/sh", "sh\0"s)),
                   EventSource::ebpf);
  EXPECT_EQ(events_.back().parent_name, std::nullopt);
  EXPECT_EQ(events_.back().process.parent_key->start_ticks, 8U);
}

TEST_F(TrackerTest, TellsASilentParentBeforeItsChildSoThatLineageIsWhole) {
  auto tracker = make();
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/usr/sbin/nginx", "nginx\0"s)),
                   EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::fork, raw_process(11, 3, 10, 2)), EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::fork, raw_process(12, 4, 11, 3)), EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(12, 4, 11, 3), "/bin/sh", "sh\0"s)),
                   EventSource::ebpf);
  ASSERT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::seen, EventKind::exec}));
  EXPECT_EQ(events_[1].process.key.pid, 11U);
  EXPECT_EQ(events_[1].process.name, "nginx");
}

TEST_F(TrackerTest, AForkThatExecutesNothingLeavesNoRowUnlessAskedFor) {
  auto tracker = make();
  tracker.on_event(event(sensor::RawKind::fork, raw_process(100, 5)), EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::exit, raw_process(100, 5)), EventSource::ebpf);
  EXPECT_TRUE(events_.empty());
  auto all = make(with([](auto& o) { o.store_forks = true; }));
  all.on_event(event(sensor::RawKind::fork, raw_process(100, 5)), EventSource::ebpf);
  all.on_event(event(sensor::RawKind::exit, raw_process(100, 5)), EventSource::ebpf);
  EXPECT_EQ(kinds(), (std::vector{EventKind::fork, EventKind::exit}));
}

TEST_F(TrackerTest, AScanFindsWhatEventsMissedAndClosesWhatIsGone) {
  auto tracker = make();
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/gone", "gone\0"s)),
                   EventSource::ebpf);
  tracker.begin_scan(1, now(), true);
  tracker.on_scanned(with_image(raw_process(20, 3), "/bin/missed", "missed\0"s), now());
  tracker.end_scan(now());
  ASSERT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::seen, EventKind::exit}));
  EXPECT_EQ(events_[1].process.name, "missed");
  EXPECT_EQ(events_[2].process.name, "gone");
  EXPECT_EQ(events_[2].process.exit_time, std::nullopt);
  EXPECT_EQ(events_[2].detail, R"({"missed":true})");
}

TEST_F(TrackerTest, WhoIsThereButCannotBeReadHasNotVanished) {
  auto tracker = make();
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/hidden", "hidden\0"s)),
                   EventSource::netlink);
  tracker.begin_scan(1, now(), true);
  tracker.on_unreadable({20, 10});
  tracker.end_scan(now());
  EXPECT_EQ(kinds(), (std::vector{EventKind::exec}));
  tracker.on_event(event(sensor::RawKind::exit, raw_process(10, 2)), EventSource::netlink);
  EXPECT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::exit}));
}

TEST_F(TrackerTest, WhoIsHiddenFromScansHasNotVanished) {
  auto tracker = make();
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/hidden", "hidden\0"s)),
                   EventSource::netlink);
  tracker.begin_scan(1, now(), true);
  tracker.on_scanned(with_image(raw_process(20, 3), "/bin/own", "own\0"s), now());
  tracker.on_others_hidden();
  tracker.end_scan(now());
  EXPECT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::seen}));
  // What it did see, it misses; and the next scan may see all again.
  tracker.begin_scan(2, now(), true);
  tracker.on_others_hidden();
  tracker.end_scan(now());
  EXPECT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::seen, EventKind::exit}));
  EXPECT_EQ(events_[2].process.name, "own");
  tracker.begin_scan(3, now(), true);
  tracker.end_scan(now());
  EXPECT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::seen, EventKind::exit, EventKind::exit}));
}

TEST_F(TrackerTest, AProcessThatEndsWhileItIsScannedIsNotFoundAgain) {
  auto tracker = make();
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/brief", "brief\0"s)),
                   EventSource::ebpf);
  tracker.begin_scan(1, now(), true);
  tracker.on_event(event(sensor::RawKind::exit, raw_process(10, 2)), EventSource::ebpf);
  tracker.on_scanned(with_image(raw_process(10, 2), "/bin/brief", "brief\0"s), now());
  tracker.end_scan(now());
  EXPECT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::exit}));
}

TEST_F(TrackerTest, AZombieWhoseExitWasToldIsNotFoundAgain) {
  auto tracker = make();
  tracker.begin_scan(1, now(), true);
  tracker.end_scan(now());
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/z", "z\0"s)), EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::exit, raw_process(10, 2)), EventSource::ebpf);
  auto zombie = raw_process(10, 2);
  zombie.status = ProcessStatus::zombie;
  tracker.begin_scan(2, now(), true);
  tracker.on_scanned(zombie, now());
  tracker.end_scan(now());
  EXPECT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::exit}));
}

TEST_F(TrackerTest, AScanTellsADeletedExecutableOnce) {
  auto tracker = make();
  auto raw = with_image(raw_process(10, 2), "/tmp/x", "x\0"s);
  tracker.on_event(event(sensor::RawKind::exec, raw), EventSource::ebpf);
  raw.executable_state = event::ExecutableState::deleted;
  for (std::uint64_t scan = 1; scan <= 2; ++scan) {
    tracker.begin_scan(scan, now(), true);
    tracker.on_scanned(raw, now());
    tracker.end_scan(now());
  }
  ASSERT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::change}));
  EXPECT_EQ(events_[1].process.executable_state, event::ExecutableState::deleted);
  EXPECT_EQ(events_[1].detail, R"({"executable_state":{"new":"deleted","old":"ok"}})");
}

TEST_F(TrackerTest, AScanTellsChangedCredentials) {
  auto tracker = make();
  auto raw = with_image(raw_process(10, 2), "/bin/su", "su\0"s);
  tracker.on_event(event(sensor::RawKind::exec, raw), EventSource::ebpf);
  raw.euid = 0;
  tracker.begin_scan(1, now(), true);
  tracker.on_scanned(raw, now());
  tracker.end_scan(now());
  ASSERT_EQ(kinds().back(), EventKind::change);
  EXPECT_EQ(events_.back().detail, R"({"euid":{"new":0,"old":1000}})");
}

TEST_F(TrackerTest, CpuUsageIsOfTheTimeBetweenTwoLooks) {
  auto tracker = make();
  auto raw = with_image(raw_process(10, 0), "/bin/busy", "busy\0"s);
  raw.cpu_ticks = 0;
  raw.resident_bytes = 4096;
  const Moment first{Timestamp{boot_time.ns + 10'000'000'000}, 10'000'000'000};
  tracker.begin_scan(1, first, false);
  tracker.on_scanned(raw, first);
  tracker.end_scan(first);
  raw.cpu_ticks = 50;  // half a second
  // An hour back by the wall clock, a second on by the other.
  const Moment second{Timestamp{first.wall.ns - 3'600'000'000'000}, first.boot_ns + 1'000'000'000};
  tracker.begin_scan(2, second, false);
  tracker.on_scanned(raw, second);
  const auto updates = tracker.end_scan(second);
  ASSERT_EQ(updates.size(), 1U);
  EXPECT_DOUBLE_EQ(*updates[0].cpu_usage, 50.0);
  EXPECT_EQ(updates[0].memory_usage, 4096U);
}

TEST_F(TrackerTest, ReusedPidClosesTheFormerProcessOnce) {
  auto tracker = make();
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/a", "a\0"s)), EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::fork, raw_process(10, 9)), EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::exit, raw_process(10, 9)), EventSource::ebpf);
  ASSERT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::exit}));
  EXPECT_EQ(events_[1].process.key.start_ticks, 2U);
}

TEST_F(TrackerTest, AStartThatNetlinkToldOneTickLateIsTheSameProcess) {
  auto tracker = make();
  const auto scan = [&](std::uint64_t id, std::uint64_t ticks) {
    tracker.begin_scan(id, now(), true);
    tracker.on_scanned(with_image(raw_process(10, ticks), "/bin/a", "a\0"s), now());
    return tracker.end_scan(now());
  };
  tracker.on_event(event(sensor::RawKind::fork, raw_process(10, 6)), EventSource::netlink);
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 6), "/bin/a", "a\0"s)),
                   EventSource::netlink);
  const auto updates = scan(1, 5);
  ASSERT_EQ(updates.size(), 1U);
  EXPECT_EQ(updates[0].key.start_ticks, 6U) << "as it was told";
  auto child = with_image(raw_process(11, 9, 10, 5), "/bin/b", "b\0"s);
  tracker.begin_scan(2, now(), true);
  tracker.on_scanned(with_image(raw_process(10, 5), "/bin/a", "a\0"s), now());
  tracker.on_scanned(child, now());
  tracker.end_scan(now());
  EXPECT_EQ(events_.back().process.parent_key->start_ticks, 6U);
  EXPECT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::seen}));
  // Two ticks are another process, and of a source that knows the start one tick is as well.
  tracker.begin_scan(3, now(), true);
  tracker.on_scanned(with_image(raw_process(10, 4), "/bin/a", "a\0"s), now());
  tracker.end_scan(now());
  EXPECT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::seen, EventKind::exit, EventKind::exit}));
  events_.clear();
  tracker.on_event(event(sensor::RawKind::fork, raw_process(20, 6)), EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(20, 6), "/bin/a", "a\0"s)), EventSource::ebpf);
  tracker.begin_scan(4, now(), true);
  tracker.on_scanned(with_image(raw_process(20, 5), "/bin/a", "a\0"s), now());
  EXPECT_TRUE(tracker.end_scan(now()).empty());
}

TEST_F(TrackerTest, AParentThatIsKnownLaterIsNamedFromThenOn) {
  auto tracker = make();
  const auto child = with_image(raw_process(20, 5, 10, 2), "/bin/a", "a\0"s);
  tracker.on_event(event(sensor::RawKind::exec, child), EventSource::ebpf);
  EXPECT_EQ(events_.back().parent_name, std::nullopt);
  tracker.begin_scan(1, now(), true);
  tracker.on_scanned(with_image(raw_process(10, 2), "/bin/shell", "shell\0-l\0"s), now());
  tracker.on_scanned(child, now());
  tracker.end_scan(now());
  // The parent ends: what was learned of it stays.
  tracker.on_event(event(sensor::RawKind::exit, raw_process(10, 2)), EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(20, 5, 10, 2), "/bin/b", "b\0"s)),
                   EventSource::ebpf);
  EXPECT_EQ(events_.back().process.name, "b");
  EXPECT_EQ(events_.back().parent_name, "shell");
  EXPECT_EQ(events_.back().parent_executable_path, "/bin/shell");
  EXPECT_EQ(events_.back().parent_command_line, "shell -l");
}

// Where pids have wrapped a parent has a higher one than its child.
TEST_F(TrackerTest, AScanNamesParentsWhateverItsOrder) {
  auto tracker = make();
  tracker.begin_scan(1, now(), true);
  tracker.on_scanned(with_image(raw_process(10, 9, 20, 5), "/bin/child", "child\0"s), now());
  tracker.on_scanned(with_image(raw_process(20, 5, 30, 3), "/bin/parent", "parent\0"s), now());
  tracker.on_scanned(with_image(raw_process(30, 3, 0, 0), "/bin/first", "first\0"s), now());
  tracker.end_scan(now());
  ASSERT_EQ(events_.size(), 3U);
  for (const auto& [number, name, parent] :
       {std::tuple(0, "first", ""), std::tuple(1, "parent", "first"), std::tuple(2, "child", "parent")}) {
    const auto& event = events_[static_cast<std::size_t>(number)];
    EXPECT_EQ(event.process.name, name);
    EXPECT_EQ(event.parent_name.value_or(""), parent);
  }
}

TEST_F(TrackerTest, WhatAScanFoundAndEndsBeforeTheScanDoesIsToldWhole) {
  auto tracker = make();
  tracker.begin_scan(1, now(), true);
  tracker.on_scanned(with_image(raw_process(10, 2), "/bin/a", "a\0"s), now());
  tracker.on_event(event(sensor::RawKind::exit, raw_process(10, 2)), EventSource::ebpf);
  tracker.on_scanned(with_image(raw_process(11, 3), "/bin/b", "b\0"s), now());
  tracker.abandon_scan(now());
  EXPECT_EQ(kinds(), (std::vector{EventKind::seen, EventKind::exit, EventKind::seen}));
}

TEST_F(TrackerTest, ExcludedEventsAreCountedAndNotTold) {
  Tracker::Options options;
  options.exclude.push_back(*predicate::Predicate::parse("name = 'noise'"));
  auto tracker = make(std::move(options));
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/noise", "noise\0"s)),
                   EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::exit, raw_process(10, 2)), EventSource::ebpf);
  EXPECT_TRUE(events_.empty());
  EXPECT_EQ(tracker.counters().excluded, 2U);
}

TEST_F(TrackerTest, MasksSecretsOfTheProcessAndInItsChildrensParentColumns) {
  auto tracker = make();
  tracker.on_event(
      event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/tool", "tool\0--password\0hunter2\0"s)),
      EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::fork, raw_process(11, 3, 10, 2)), EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(11, 3, 10, 2), "/bin/sh", "sh\0"s)),
                   EventSource::ebpf);
  EXPECT_EQ(events_[0].process.arguments->command_line(), "tool --password ***");
  EXPECT_EQ(events_[1].parent_command_line, "tool --password ***");
}

TEST_F(TrackerTest, TruncatedArgumentsKeepTheirTrueLengthInDetail) {
  auto tracker = make();
  auto raw = with_image(raw_process(10, 2), "/bin/long", "long\0aaa\0"s);
  raw.arguments_bytes = 2'000'000;
  tracker.on_event(event(sensor::RawKind::exec, raw), EventSource::ebpf);
  EXPECT_EQ(events_[0].detail.find(R"({"arguments_bytes":2000000,"arguments_truncated":true)"), 0U)
      << events_[0].detail;
}

TEST_F(TrackerTest, DetailHoldsWhatTheColumnsDoNotAndOnlyThat) {
  auto tracker = make();
  auto plain = with_image(raw_process(10, 2), "/bin/ls", "ls\0"s);
  plain.file = {.device = 2049, .inode = 77, .size = 1, .mtime_ns = 1, .ctime_ns = 1};
  plain.links = 1;
  plain.gid = plain.egid = 1000;
  tracker.on_event(event(sensor::RawKind::exec, plain), EventSource::ebpf);
  EXPECT_EQ(events_.back().detail, R"({"device":"8:1","inode":77})");
  auto odd = plain;
  odd.filename = "./l\"s";
  odd.links = 0;
  odd.egid = 0;
  tracker.on_event(event(sensor::RawKind::exec, odd), EventSource::ebpf);
  EXPECT_EQ(events_.back().detail, R"({"device":"8:1","filename":"./l\"s","inode":77,"links":0,"egid":0})");
  tracker.on_event(event(sensor::RawKind::exit, raw_process(10, 2)), EventSource::ebpf);
  EXPECT_EQ(events_.back().detail, "");
}

TEST_F(TrackerTest, DetailNamesTheNamespacesThatAreNotOurs) {
  const sensor::Namespaces own{.mnt = 1, .pid = 2, .net = 3, .user = 4, .uts = 5, .ipc = 6, .cgroup = 7};
  auto tracker = make(with([&](Tracker::Options& options) { options.own_namespaces = own; }));
  auto init = with_image(raw_process(1, 1, 0, 0), "/sbin/init", "init\0"s);
  init.namespaces = own;
  auto contained = with_image(raw_process(10, 2), "/bin/app", "app\0"s);
  contained.namespaces = init.namespaces;
  contained.namespaces->pid = 200;
  contained.namespaces->net = 0;  // could not be read
  tracker.begin_scan(1, now(), true);
  tracker.on_scanned(init, now());
  tracker.on_scanned(contained, now());
  tracker.end_scan(now());
  EXPECT_EQ(events_[0].detail.find("namespaces"), std::string::npos);
  EXPECT_NE(events_[1].detail.find(R"("namespaces":{"pid":200}})"), std::string::npos) << events_[1].detail;
}

TEST_F(TrackerTest, AScanOfCountersAsksForAFullOneWhenItMeetsSomethingNew) {
  auto tracker = make();
  const auto known = with_image(raw_process(10, 2), "/bin/a", "a\0"s);
  tracker.on_event(event(sensor::RawKind::exec, known), EventSource::ebpf);
  const auto counters = [](const sensor::RawProcess& from) {
    sensor::RawProcess raw = raw_process(from.pid, from.start_ticks);
    raw.counters_only = true;
    raw.uid = raw.euid = 1000;
    raw.file.inode = from.file.inode;
    raw.cpu_ticks = 7;
    return raw;
  };
  const auto scan = [&](std::uint64_t id, const std::vector<sensor::RawProcess>& found, sensor::Depth depth) {
    tracker.begin_scan(id, now(), true, depth);
    for (const auto& raw : found) tracker.on_scanned(raw, now());
    return tracker.end_scan(now());
  };
  EXPECT_EQ(scan(1, {counters(known)}, sensor::Depth::counters).size(), 1U);
  EXPECT_FALSE(tracker.wants_full_scan());
  const auto missed = with_image(raw_process(11, 3), "/bin/b", "b\0"s);
  scan(2, {counters(known), counters(missed)}, sensor::Depth::counters);
  EXPECT_TRUE(tracker.wants_full_scan());
  EXPECT_EQ(kinds(), (std::vector{EventKind::exec})) << "nothing is told of what was only counted";
  scan(3, {known, missed}, sensor::Depth::full);
  EXPECT_FALSE(tracker.wants_full_scan());
  EXPECT_EQ(events_.back().process.name, "b");
  const auto executed = with_image(raw_process(10, 2), "/bin/c", "c\0"s);
  scan(4, {counters(executed), counters(missed)}, sensor::Depth::counters);
  EXPECT_TRUE(tracker.wants_full_scan());
  scan(5, {executed, missed}, sensor::Depth::full);
  EXPECT_EQ(events_.back().kind, EventKind::exec);
  EXPECT_EQ(events_.back().process.executable_path, "/bin/c");
  scan(6, {counters(executed)}, sensor::Depth::counters);
  EXPECT_EQ(events_.back().kind, EventKind::exit) << "what a scan of counters does not find is gone all the same";
}

TEST_F(TrackerTest, AnExecThatComesAfterTheEndIsToldWithIt) {
  auto tracker = make();
  tracker.on_event(event(sensor::RawKind::fork, raw_process(10, 2)), EventSource::ebpf);
  auto exec = event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/a", "a\0"s));
  auto exit = event(sensor::RawKind::exit, raw_process(10, 2));
  exit.exit_signal = 9;
  tracker.on_event(exit, EventSource::ebpf);
  tracker.on_event(exec, EventSource::ebpf);
  tracker.on_event(exec, EventSource::ebpf);
  ASSERT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::exit}));
  EXPECT_EQ(events_[1].process.exit_signal, 9);
  EXPECT_EQ(tracker.counters().late, 1U);
}

TEST_F(TrackerTest, CountsWhatEachPredicateLeavesOut) {
  Tracker::Options options;
  options.exclude.push_back(*predicate::Predicate::parse("name = 'noise'"));
  options.exclude.push_back(*predicate::Predicate::parse("uid = 1000"));
  auto tracker = make(std::move(options));
  for (event::Pid pid = 10; pid < 13; ++pid) {
    tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(pid, 2), "/bin/noise", "noise\0"s)),
                     EventSource::ebpf);
  }
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(20, 2), "/bin/other", "other\0"s)),
                   EventSource::ebpf);
  EXPECT_EQ(tracker.counters().excluded_by, (std::vector<std::uint64_t>{3, 1}));
}

// 16 KiB of arguments each, at the smallest budget: told whole, kept short.
// budget.cc shares the table's memory out by this number.
}  // namespace
}  // namespace daemoneye::collector
