// The tracker where there is no room: for its events, or for what it keeps.
#include <malloc.h>

#include <algorithm>

#include "collector/budget.h"
#include "collector/tracker_test_util.h"

namespace daemoneye::collector {
namespace {

using event::EventKind;
using event::EventSource;
using namespace std::string_literals;

TEST_F(TrackerTest, WhatWasRefusedIsToldByTheNextScan) {
  auto tracker = make();
  refuse_ = true;
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/a", "a\0"s)), EventSource::ebpf);
  refuse_ = false;
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(11, 3), "/bin/b", "b\0"s)), EventSource::ebpf);
  refuse_ = true;
  tracker.on_event(event(sensor::RawKind::exit, raw_process(11, 3)), EventSource::ebpf);
  refuse_ = false;
  tracker.begin_scan(1, now(), true);
  tracker.on_scanned(with_image(raw_process(10, 2), "/bin/a", "a\0"s), now());
  tracker.end_scan(now());
  ASSERT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::seen, EventKind::exit}));
  EXPECT_EQ(events_[1].process.name, "a");
  EXPECT_EQ(events_[2].process.name, "b");
}

TEST_F(TrackerTest, AFullTableStillTellsEventsAndCountsWhatItCannotRemember) {
  auto tracker = make(with([](auto& o) { o.max_processes = 1; }));
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/a", "a\0"s)), EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(11, 3), "/bin/b", "b\0"s)), EventSource::ebpf);
  tracker.on_event(event(sensor::RawKind::exit, raw_process(11, 3)), EventSource::ebpf);
  EXPECT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::exec, EventKind::exit}));
  EXPECT_EQ(tracker.counters().untracked, 1U);
  EXPECT_EQ(tracker.size(), 1U);
}

TEST_F(TrackerTest, ARefusedEndKeepsHowAndWhenItWas) {
  auto tracker = make();
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/a", "a\0"s)), EventSource::ebpf);
  auto exit = event(sensor::RawKind::exit, raw_process(10, 2));
  exit.exit_code = 3;
  refuse_ = true;
  tracker.on_event(exit, EventSource::ebpf);
  // The pid is used again before there is room.
  tracker.on_event(event(sensor::RawKind::fork, raw_process(10, 9)), EventSource::ebpf);
  refuse_ = false;
  tracker.begin_scan(1, now(), true);
  tracker.end_scan(now());
  const auto end = std::ranges::find(events_, EventKind::exit, &event::ProcessEvent::kind);
  ASSERT_NE(end, events_.end());
  EXPECT_EQ(end->process.key.start_ticks, 2U);
  EXPECT_EQ(end->process.exit_code, 3);
  EXPECT_EQ(end->process.exit_time, exit.time);
}

TEST_F(TrackerTest, AnEndThatIsOwedIsNeverLostAndSaysSinceWhen) {
  auto tracker = make();
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/a", "a\0"s)), EventSource::ebpf);
  const auto exit = event(sensor::RawKind::exit, raw_process(10, 2));
  refuse_ = true;
  tracker.on_event(exit, EventSource::ebpf);
  for (std::uint64_t scan = 1; scan <= 3; ++scan) {
    tracker.begin_scan(scan, now(), true);
    tracker.end_scan(now());
    tracker.tell_owed();
  }
  EXPECT_EQ(lost_, 0);
  EXPECT_EQ(tracker.counters().refused, 0U);
  EXPECT_EQ(tracker.owed_since(), exit.time);
  refuse_ = false;
  tracker.tell_owed();
  EXPECT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::exit}));
  EXPECT_EQ(tracker.owed_since(), std::nullopt);
}

TEST_F(TrackerTest, AStartThatIsRefusedIsLostOnceHoweverOftenItIsOffered) {
  auto tracker = make();
  refuse_ = true;
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/a", "a\0"s)), EventSource::ebpf);
  for (std::uint64_t scan = 1; scan <= 3; ++scan) {
    tracker.begin_scan(scan, now(), true);
    tracker.on_scanned(with_image(raw_process(10, 2), "/bin/a", "a\0"s), now());
    tracker.on_scanned(with_image(raw_process(11, 3), "/bin/b", "b\0"s), now());
    tracker.end_scan(now());
  }
  EXPECT_EQ(lost_, 2);
}

TEST_F(TrackerTest, AProcessWhoseStartWasRefusedIsToldWithItsEndWhenThereIsRoomThen) {
  auto tracker = make();
  refuse_ = true;
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/a", "a\0"s)), EventSource::ebpf);
  refuse_ = false;
  auto exit = event(sensor::RawKind::exit, raw_process(10, 2));
  exit.exit_code = 5;
  tracker.on_event(exit, EventSource::ebpf);
  ASSERT_EQ(kinds(), (std::vector{EventKind::seen, EventKind::exit}));
  EXPECT_EQ(events_[0].process.executable_path, "/bin/a");
  EXPECT_EQ(events_[1].process.exit_code, 5);
}

TEST_F(TrackerTest, WhatWasRefusedIsToldByAScanOfCountersToo) {
  auto tracker = make();
  refuse_ = true;
  tracker.on_event(event(sensor::RawKind::exec, with_image(raw_process(10, 2), "/bin/a", "a\0"s)), EventSource::ebpf);
  refuse_ = false;
  auto counted = raw_process(10, 2);
  counted.counters_only = true;
  tracker.begin_scan(1, now(), true, sensor::Depth::counters);
  tracker.on_scanned(counted, now());
  tracker.end_scan(now());
  EXPECT_FALSE(tracker.wants_full_scan());
  ASSERT_EQ(kinds(), (std::vector{EventKind::seen}));
  EXPECT_EQ(events_[0].process.executable_path, "/bin/a");
}

TEST_F(TrackerTest, LongArgumentsDoNotTakeMoreThanTheBudget) {
  const auto budget = Budget::of(32);
  std::uint64_t whole = 0, cut = 0;
  std::string told;
  Tracker::Options options;
  options.max_processes = budget.processes;
  options.max_bytes = budget.table_bytes;
  auto tracker =
      Tracker(std::move(options), event::BootId{7}, boot_time, [&](const event::ProcessEvent& event, Tracker::Refused) {
        const auto arguments = event.process.arguments.value_or(event::Arguments{}).nul_terminated();
        ++(arguments.size() > 16'000 ? whole : cut);
        if (arguments.size() <= 16'000) told = event.detail;
        return true;
      });
  const auto before = ::mallinfo2().uordblks;
  constexpr event::Pid processes = 5000;
  std::size_t most = 0;
  for (event::Pid pid = 2; pid < 2 + processes; ++pid) {
    const auto raw = with_image(raw_process(pid, pid), "/bin/sleep", "sleep\0"s + std::string(16'000, 'x') + '\0');
    tracker.on_event(event(sensor::RawKind::exec, raw), EventSource::ebpf);
    most = std::max(most, tracker.bytes());
  }
  EXPECT_EQ(whole, processes);
  EXPECT_EQ(tracker.size(), processes) << "all are remembered";
  EXPECT_LE(most, budget.table_bytes);
  EXPECT_GT(tracker.counters().shortened, processes / 2);
  const auto after = ::mallinfo2().uordblks;
  if (after != before) {  // a sanitizer's allocator does not count
    EXPECT_LE(after - before, budget.table_bytes + budget.table_bytes / 8);
  }
  tracker.on_event(event(sensor::RawKind::exit, raw_process(2, 2)), EventSource::ebpf);
  EXPECT_EQ(cut, 1U);
  EXPECT_EQ(told, R"({"arguments_bytes":16007,"arguments_truncated":true})");
}

TEST_F(TrackerTest, FitsItsShareOfTheBudget) {
  constexpr event::Pid processes = 10'000;
  auto tracker =
      Tracker({}, event::BootId{7}, boot_time, [](const event::ProcessEvent&, Tracker::Refused) { return true; });
  const auto before = ::mallinfo2().uordblks;
  tracker.begin_scan(1, now(), true);
  for (event::Pid pid = 2; pid < 2 + processes; ++pid) {
    auto raw = with_image(raw_process(pid, pid), "/usr/lib/postgresql/15/bin/postgres",
                          "postgres: 15/main: worker "s + std::to_string(pid) + " waiting for a connection\0"s);
    raw.cwd = "/var/lib/postgresql/15/main";
    raw.cgroup = "/system.slice/system-postgresql.slice/postgresql@15-main.service";
    raw.session_id = pid % 100;
    raw.links = 1;
    tracker.on_scanned(raw, now());
  }
  tracker.end_scan(now());
  const auto after = ::mallinfo2().uordblks;
  if (after == before) GTEST_SKIP() << "this allocator does not count";  // a sanitizer's
  RecordProperty("bytes_a_process", static_cast<int>((after - before) / processes));
  EXPECT_LE((after - before) / processes, 768U);
  EXPECT_LE(tracker.bytes() / processes, 768U) << "and so by its own account";
}

}  // namespace
}  // namespace daemoneye::collector
