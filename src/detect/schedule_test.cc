#include "detect/schedule.h"

#include <random>
#include <set>

#include "detect/detect_test_util.h"

namespace daemoneye::detect::testing {
namespace {

using namespace std::chrono_literals;

std::string find_time(Rig& rig, event::Pid pid) {
  for (const auto& alert : rig.alerts()) {
    if (alert.pid == pid) return event::to_json(alert.completeness);
  }
  return "no alert";
}

TEST(Moments, AreTheSameInEveryStartAndDoNotFallTogether) {
  std::set<std::int64_t> phases;
  for (int i = 0; i < 50; ++i) {
    LoadedRule rule;
    rule.rule.id = "rule-" + std::to_string(i);
    rule.rule.evaluate = Rule::Evaluate{60s, 10min};
    const auto moments = Moments::of(rule);
    EXPECT_EQ(moments.phase, Moments::of(rule).phase);
    EXPECT_GE(moments.phase, 0s);
    EXPECT_LT(moments.phase, 60s);
    phases.insert(moments.phase.count() / 1'000'000'000);
    const auto next = moments.after(Timestamp{test_epoch_ns});
    EXPECT_GT(next.ns, test_epoch_ns);
    EXPECT_LE(next.ns, test_epoch_ns + std::chrono::nanoseconds(60s).count());
    EXPECT_EQ(moments.after(next).ns - next.ns, std::chrono::nanoseconds(60s).count());
  }
  EXPECT_GT(phases.size(), 20U);
}

TEST(Moments, CatchingUpLeavesNoTimeOutButWhatItSays) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 500; ++round) {
    Moments moments{std::chrono::seconds(1 + random() % 100), {}, std::chrono::seconds(random() % 100)};
    moments.window = moments.every * static_cast<std::int64_t>(1 + random() % 20) + std::chrono::seconds(random() % 7);
    const Timestamp done{test_epoch_ns};
    const Timestamp newest{test_epoch_ns + moments.every.count() * static_cast<std::int64_t>(random() % 3000)};
    // A rule's run at `done` had looked at all before it.
    std::int64_t looked_at = done.ns, left_out = 0, gap = 0;
    int runs = 0;
    Timestamp at = done;
    for (;;) {
      const auto next = moments.next(at, newest);
      if (next.next > newest) break;
      ASSERT_GT(next.next, at);
      ASSERT_GE(next.behind, 1);
      left_out += next.left_out;
      gap += std::max<std::int64_t>(0, next.next.ns - moments.window.count() - looked_at);
      looked_at = next.next.ns;
      at = next.next;
      ++runs;
    }
    ASSERT_GT(moments.after(at), newest);
    ASSERT_LE(runs, 5 * Moments::max_caught_up);
    // `done` need not be a moment itself: the first window may begin up to `every` behind it.
    if (left_out == 0) {
      ASSERT_EQ(gap, 0);
    }
    ASSERT_LE(gap, (left_out + 1) * moments.every.count());
  }
}

constexpr const char* each_event = "SELECT e.event_id, e.pid, e.name FROM process_events e WHERE e.kind = 'exec'";

// Events of the last half minute, and a rule that ran until before them, whose windows do not overlap.
struct Behind : Rig {
  Behind() {
    write_rule("each", each_event, "evaluate: {every: 1s, window: 1s}\n");
    const auto now = base::wall_now().ns;
    std::vector<event::ProcessEvent> events;
    for (event::Pid pid = 1; pid <= 60; ++pid) {
      events.push_back(make_exec(pid, "x"));
      events.back().time.ns = now - pid * 500'000'000LL;
    }
    commit(std::move(events));
    const auto set = load_rules(options.rule_paths);
    mark = {"each", set.rules.at(0).rule.version, Timestamp{now - 40'000'000'000}};
    write({mark});
  }
  void write(std::vector<RunMark> marks) {
    write_runs(*writer, {}, std::move(marks), [](const Result<std::vector<store::RaiseResult>>&) {});
    ASSERT_TRUE(writer->drain(Deadline::after(20s)));
  }
  RunMark mark;
};

TEST(Schedule, CatchesUpOldestFirstEachEventOnceAcrossRestarts) {
  Behind rig;
  rig.start();
  // In the middle of it.
  ASSERT_TRUE(eventually([&] { return rig.alerts().size() >= 5; }));
  rig.stop();
  const auto before = rig.alerts();
  for (const auto& alert : before) EXPECT_GT(alert.pid, 60 - static_cast<std::int64_t>(before.size()));
  rig.start();
  ASSERT_TRUE(eventually([&] { return rig.alerts().size() == 60; }));
  for (const auto& alert : rig.alerts()) EXPECT_EQ(alert.count, 1U) << *alert.pid;
  EXPECT_NE(find_time(rig, 60).find("late"), std::string::npos) << find_time(rig, 60);
  EXPECT_EQ(rig.rule_state("each").left_out, 0U);
}

TEST(Schedule, KeepsUpToWhereARuleHasRun) {
  Behind rig;
  rig.start();
  ASSERT_TRUE(eventually([&] { return rig.alerts().size() == 60; }));
  rig.stop();
  ASSERT_TRUE(rig.writer->drain(Deadline::after(20s)));
  auto reader = store::Reader::open(rig.options.store_path);
  ASSERT_TRUE(reader);
  const auto marks = read_marks(**reader);
  ASSERT_TRUE(marks) << marks.error().message;
  ASSERT_EQ(marks->size(), 1U);
  EXPECT_EQ(marks->front().rule_id, "each");
  EXPECT_GT(marks->front().evaluated_to, rig.mark.evaluated_to);
  // What was written later does not go back.
  rig.write({rig.mark});
  EXPECT_EQ(read_marks(**reader)->front().evaluated_to, marks->front().evaluated_to);
  // Another version of the rule begins anew.
  auto other = rig.mark;
  other.version = "0123456789ab";
  rig.write({other});
  EXPECT_EQ(read_marks(**reader)->front().evaluated_to, other.evaluated_to);
}

TEST(Schedule, SaysWhatIsTooLongAgoToBeCaughtUp) {
  Behind rig;
  rig.mark.evaluated_to.ns -= std::chrono::nanoseconds(1h).count();
  // Earlier than what is kept: as another version first.
  auto other = rig.mark;
  other.version = "0123456789ab";
  rig.write({other, rig.mark});
  rig.start();
  Engine::RuleState state;
  ASSERT_TRUE(eventually([&] {
    state = rig.rule_state("each");
    return state.left_out > 3000;
  }));
  EXPECT_EQ(state.state, "unhealthy");
  EXPECT_NE(state.reason.find("not looked at"), std::string::npos);
  ASSERT_TRUE(eventually([&] { return rig.alerts().size() == 60; }));
}

// Takes the intervals that it runs less often in: 1 s, 2 s, 4 s.
TEST(Schedule, ARuleOverItsLimitsRunsLessOftenAndIsSuspendedThen) {
  Rig rig;
  rig.options.rule_memory = 512 * 1024;
  rig.write_rule("greedy",
                 "SELECT a.pid, group_concat(b.command_line || c.command_line) AS all_of_it FROM process_events a, "
                 "process_events b, process_events c GROUP BY a.pid",
                 "evaluate: {every: 1s, window: 30d}\n");
  std::vector<event::ProcessEvent> events;
  for (event::Pid pid = 1; pid <= 200; ++pid) {
    events.push_back(make_exec(pid, "x"));
    events.back().time.ns = base::wall_now().ns;
  }
  rig.commit(std::move(events));
  rig.start();
  ASSERT_TRUE(eventually([&] { return rig.rule_state("greedy").state == "suspended"; }, 60s));
  const auto state = rig.rule_state("greedy");
  EXPECT_NE(state.reason.find("memory limit"), std::string::npos) << state.reason;
  EXPECT_EQ(state.timeouts, 0U);
  rig.engine->reload();
  EXPECT_TRUE(eventually([&] { return rig.rule_state("greedy").state == "healthy"; }));
}

}  // namespace
}  // namespace daemoneye::detect::testing
