#include "detect/schedule.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <random>
#include <set>

#include "db/statement_cache.h"
#include "detect/detect_test_util.h"
#include "store/alert_changes.h"

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
  explicit Behind(std::chrono::nanoseconds ago = 40s) {
    write_rule("each", each_event, "evaluate: {every: 1s, window: 1s}\n");
    const auto now = base::wall_now().ns;
    std::vector<event::ProcessEvent> events;
    for (event::Pid pid = 1; pid <= 60; ++pid) {
      events.push_back(make_exec(pid, "x"));
      events.back().time.ns = now - pid * 500'000'000LL;
    }
    commit(std::move(events));
    mark = {"each", Timestamp{now - ago.count()}, {}};
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
  // But from the future, where a clock that has been put back since had set it.
  rig.write({{"each", Timestamp{base::wall_now().ns + 3'600'000'000'000}, {}}});
  rig.write({{"each", rig.mark.evaluated_to, Timestamp{17}}});
  EXPECT_EQ(read_marks(**reader)->front().evaluated_to, rig.mark.evaluated_to);
  EXPECT_EQ(read_marks(**reader)->front().off_since, Timestamp{17});
}

TEST(Schedule, SaysWhatIsTooLongAgoToBeCaughtUp) {
  Behind rig(1h);
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

TEST(Schedule, AnotherVersionGoesOnWhereTheOneBeforeWas) {
  Behind rig;
  rig.options.schedule_pause = 20ms;
  rig.start();
  ASSERT_TRUE(eventually([&] { return rig.alerts().size() >= 5; }));
  rig.write_rule("each", each_event, "evaluate: {every: 1s, window: 1s}\nauthor: somebody else\n");
  ASSERT_TRUE(eventually([&] { return rig.alerts().size() == 60; }));
  for (const auto& alert : rig.alerts()) EXPECT_EQ(alert.count, 1U) << *alert.pid;
}

TEST(Schedule, ARuleThatIsSwitchedOffAndOnDoesNotRunAgainWhatItHasRun) {
  Behind rig;
  rig.start();
  ASSERT_TRUE(eventually([&] { return rig.alerts().size() == 60; }));
  rig.write_rule("each", each_event, "evaluate: {every: 1s, window: 1s}\nstatus: disabled\n");
  ASSERT_TRUE(eventually([&] { return rig.engine->state().inactive == 1; }));
  rig.write_rule("each", each_event, "evaluate: {every: 1s, window: 1s}\n");
  ASSERT_TRUE(eventually([&] { return rig.engine->state().active == 1; }));
  const auto before = rig.rule_state("each").evaluations;
  ASSERT_TRUE(eventually([&] { return rig.rule_state("each").evaluations >= before + 2; }));
  EXPECT_EQ(rig.alerts().size(), 60U);
  for (const auto& alert : rig.alerts()) EXPECT_EQ(alert.count, 1U) << *alert.pid;
}

TEST(Schedule, SaysWhatItCouldNotSeeAlsoWhenItFindsNothing) {
  Rig rig;
  const auto now = base::wall_now();
  rig.write_rule("none", "SELECT e.pid, e.name FROM process_events e WHERE e.name = 'nobody'",
                 "evaluate: {every: 1s, window: 1h}\n");
  rig.commit({event::make_gap_event({"events_lost", {now.ns - 5'000'000'000}, {now.ns - 4'000'000'000}, 7},
                                    event::EventSource::ebpf, now)});
  rig.start();
  ASSERT_TRUE(eventually([&] { return rig.rule_state("none").incomplete > 0; }));
  const auto state = rig.rule_state("none");
  EXPECT_NE(state.missing.find("events_lost (7) from "), std::string::npos) << state.missing;
  EXPECT_EQ(state.state, "healthy");
  EXPECT_TRUE(rig.alerts().empty());
  ASSERT_TRUE(eventually([&] {
    rig.commit({make_exec(1, "x")});  // written when there is something to do, at the latest with the next mark
    auto reader = store::Reader::open(rig.options.store_path);
    auto select = (*reader)->database().prepare("SELECT reason FROM detection_rules WHERE rule_id = 'none'");
    return select && select->step().value_or(false) &&
           select->text(0).find("its last evaluation lacked events_lost") != std::string_view::npos;
  }));
}

TEST(Schedule, ARunHasALimitOfRows) {
  Rig rig;
  std::vector<event::ProcessEvent> events;
  for (event::Pid pid = 1; pid <= 1100; ++pid) {
    events.push_back(make_exec(pid, "x"));
    events.back().time.ns = base::wall_now().ns;
  }
  rig.commit(std::move(events));
  rig.write_rule("each", each_event, "evaluate: {every: 1s, window: 1h}\n");
  rig.start();
  ASSERT_TRUE(eventually([&] { return !rig.alerts().empty(); }));
  EXPECT_EQ(rig.alerts().size(), Evaluator::max_scheduled_rows);
  EXPECT_NE(event::to_json(rig.alerts().front().completeness).find("limit_reached"), std::string::npos);
}

// A rule finds a row in each run whose window still holds it.
TEST(Schedule, WhatWasThereWhenItsAlertWasClosedIsOnlyCounted) {
  Rig rig;
  rig.write_rule("each", each_event, "evaluate: {every: 60s, window: 10m}\ndedup: {by: [pid]}\n");
  const auto set = std::make_shared<const RuleSet>(load_rules(rig.options.rule_paths));
  auto connection = sql::Connection::open(rig.options.store_path, "");
  ASSERT_TRUE(connection) << connection.error().message;
  RuleBoard board;
  board.replace(*set, {}, true);
  RuleLimits limits(0, {});
  const LiveLimits live(rig.options);
  Evaluator evaluator(*std::move(connection), rig.options, live, board, limits);
  evaluator.use(set);
  const auto happened = [&](event::Pid pid, Timestamp time) {
    auto event = make_exec(pid, "x");
    event.time = time;
    rig.commit({event});
  };
  const auto run = [&](Timestamp now) {
    std::vector<std::string> results;  // "pid new" or "pid counted"
    auto raises = evaluator.scheduled("each", {now, false, {}}, {});
    EXPECT_TRUE(raises) << raises.error().message;
    std::vector<std::string> pids;
    for (const auto& raise : *raises) pids.push_back(std::to_string(*raise.alert.pid));
    std::promise<void> done;
    rig.writer->raise(*std::move(raises), std::nullopt, [&](const Result<std::vector<store::RaiseResult>>& made) {
      for (std::size_t i = 0; made && i < made->size(); ++i) {
        results.push_back(pids[i] + ((*made)[i].merged ? " counted" : " new"));
      }
      done.set_value();
    });
    done.get_future().wait();
    std::ranges::sort(results);
    return results;
  };
  using Results = std::vector<std::string>;
  const auto now = base::wall_now();
  const auto in = [&](std::chrono::seconds later) {
    return Timestamp{now.ns + std::chrono::nanoseconds(later).count()};
  };
  happened(1, in(-60s));
  EXPECT_EQ(run(now), Results{"1 new"});
  const auto id = rig.alerts().front().alert_id;
  std::promise<void> closed;
  rig.writer->change(
      [&](db::StatementCache& statements) -> Result<void> {
        DE_TRY([[maybe_unused]] const auto before,
               store::change_status(statements, {id, "closed", "", "uid:0", in(1s)}));
        return {};
      },
      [&](const Result<void>& done) {
        EXPECT_TRUE(done) << done.error().message;
        closed.set_value();
      });
  closed.get_future().wait();
  happened(2, in(10s));
  EXPECT_EQ(run(in(60s)), (Results{"1 counted", "2 new"}));
  EXPECT_EQ(rig.alerts().size(), 2U);
  for (const auto& alert : rig.alerts()) {
    if (alert.alert_id == id) {
      EXPECT_EQ(alert.status, "closed");
      EXPECT_EQ(alert.count, 2U);
    }
  }
  // The same process again, after the closing.
  auto again = make_exec(1, "x");
  again.time = in(70s);
  rig.commit({again});
  EXPECT_EQ(run(in(120s)), (Results{"1 counted", "1 new", "2 counted"}));
}

// What a schedule asks for, without a store: runs as they come, answered as the test says.
class Runs {
  struct Runner : ScheduledRunner {
    explicit Runner(Runs& of_) : of(of_) {}
    void use(std::shared_ptr<const RuleSet>) override {}
    Result<std::vector<store::Writer::Raise>> scheduled(const std::string& rule, const ScheduledRun& run,
                                                        std::stop_token) override {
      {
        const std::lock_guard lock(of.mutex_);
        of.made_.push_back(run);
      }
      if (of.answer) DE_CHECK(of.answer(rule, run));
      of.board.ran(rule, 1ms, 0, 0);
      return std::vector<store::Writer::Raise>();
    }
    Runs& of;
  };
  std::mutex mutex_;
  std::vector<ScheduledRun> made_;

 public:
  using Answer = std::function<Result<void>(const std::string& rule, const ScheduledRun& run)>;
  Runs() { options.least_grace = options.most_grace = options.catch_up_pause = 0ns; }

  RuleSet rules(const std::string& more = "", const std::string& evaluate = "{every: 1s, window: 1s}") {
    RuleSet set;
    for (const auto& id : ids) {
      auto rule = compile_rule("id: " + id + "\ntitle: t\nseverity: low\nevaluate: " + evaluate + "\n" + more +
                                   "sql: SELECT e.pid FROM process_events e\n",
                               id + ".yaml");
      if (!rule) ADD_FAILURE() << to_string(rule.error().front());
      set.rules.push_back(*std::move(rule));
    }
    return set;
  }
  void use(RuleSet set) {
    board.replace(set, {}, false);
    schedule->use(std::make_shared<const RuleSet>(std::move(set)));
  }
  // A rule that has run until `ago`.
  void start(std::chrono::nanoseconds ago, std::size_t workers = 1, std::optional<Timestamp> off_since = {}) {
    std::vector<std::unique_ptr<ScheduledRunner>> runners;
    for (std::size_t i = 0; i < workers; ++i) runners.push_back(std::make_unique<Runner>(*this));
    std::vector<RunMark> marks;
    for (const auto& id : ids) marks.push_back({id, Timestamp{begun.ns - ago.count()}, off_since});
    schedule = std::make_unique<Schedule>(
        std::move(runners), std::move(marks), board,
        [](std::vector<store::Writer::Raise>, const std::vector<RunMark>&) {}, options);
    use(rules());
    schedule->start();
  }
  std::vector<ScheduledRun> made() {
    const std::lock_guard lock(mutex_);
    return made_;
  }
  std::vector<std::int64_t> moments() {
    std::vector<std::int64_t> all;
    for (const auto& run : made()) all.push_back(run.now.ns);
    return all;
  }
  [[nodiscard]] std::string state() const {
    Engine::State all;
    board.describe(all);
    return all.rules.at(0).state + " " + all.rules.at(0).reason;
  }
  // Each second from the first to the last, once.
  void expect_each_once() {
    const auto all = moments();
    for (std::size_t i = 1; i < all.size(); ++i) EXPECT_EQ(all[i] - all[i - 1], 1'000'000'000) << i;
  }

  const Timestamp begun = base::wall_now();
  std::vector<std::string> ids = {"r"};
  Schedule::Options options;
  Answer answer;
  RuleBoard board;
  std::unique_ptr<Schedule> schedule;  // the last: its threads use all that is above
};

TEST(Schedule, WaitsForWhatTheCollectorsHaveNotTold) {
  std::atomic<std::int64_t> covered;
  std::atomic<int> looked{0};
  Runs runs;
  const std::int64_t told = runs.begun.ns - 5'000'000'000;
  covered = told;
  runs.options.patience = 1h;
  runs.options.covered = [&] {
    ++looked;
    return Timestamp{covered};
  };
  runs.start(10s);
  ASSERT_TRUE(eventually([&] { return runs.made().size() >= 5; }));
  const int before = looked;
  ASSERT_TRUE(eventually([&] { return looked >= before + 3; }));
  for (const auto moment : runs.moments()) EXPECT_LE(moment, told);
  covered = INT64_MAX;
  ASSERT_TRUE(eventually([&] { return runs.made().size() >= 10; }));
  for (const auto& run : runs.made()) EXPECT_FALSE(run.covered);
  runs.expect_each_once();
}

TEST(Schedule, WaitsForTheCollectorsNoLongerThanItsPatienceAndSaysSo) {
  Runs runs;
  const Timestamp told{runs.begun.ns - 5'000'000'000};
  runs.options.patience = 50ms;
  runs.options.covered = [told] { return told; };
  runs.start(10s);
  ASSERT_TRUE(eventually([&] { return runs.made().size() >= 9; }));
  for (const auto& run : runs.made()) EXPECT_EQ(run.covered.has_value(), run.now > told);
  runs.expect_each_once();
}

TEST(Schedule, WaitsForLateEvents) {
  Runs runs;
  runs.options.least_grace = runs.options.most_grace = 5s;
  runs.start(10s);
  ASSERT_TRUE(eventually([&] { return runs.made().size() >= 6; }));
  const auto now = base::wall_now();
  for (const auto moment : runs.moments()) EXPECT_LE(moment, now.ns - 5'000'000'000);
}

TEST(Schedule, ARunThatTheStoreDidNotAllowIsMadeAgain) {
  std::atomic<int> failures{2};
  std::string seen;
  Runs runs;
  runs.options.store_retry = 1ms;
  runs.answer = [&](const std::string&, const ScheduledRun&) -> Result<void> {
    if (failures > 0) {
      --failures;
      return fail(Errc::io, "disk is gone");
    }
    if (seen.empty()) seen = runs.state();
    return {};
  };
  runs.start(5s);
  ASSERT_TRUE(eventually([&] { return runs.made().size() >= 6; }));
  const auto moments = runs.moments();
  EXPECT_EQ(moments[0], moments[1]);
  EXPECT_EQ(moments[1], moments[2]);
  EXPECT_EQ(moments[3] - moments[2], 1'000'000'000);
  EXPECT_EQ(seen, "unhealthy the store cannot be read, its run is made again: disk is gone");
  ASSERT_TRUE(eventually([&] { return runs.state() == "healthy "; })) << runs.state();
}

TEST(Schedule, WhatWasNotRunBeforeAChangeIsRunAfterIt) {
  Runs runs;
  runs.options.catch_up_pause = 5ms;
  runs.start(20s);
  for (const auto* const change : {"author: a\n", "author: b\n", "status: disabled\n"}) {
    const auto before = runs.made().size();
    ASSERT_TRUE(eventually([&] { return runs.made().size() >= before + 3; }));
    runs.use(runs.rules(change));
  }
  runs.use(runs.rules());
  ASSERT_TRUE(eventually([&] { return runs.made().size() >= 21; }));
  runs.expect_each_once();
}

TEST(Schedule, OwesNothingOfTheTimeInWhichARuleWasOff) {
  Runs runs;
  const std::int64_t second = 1'000'000'000;
  runs.start(100s, 1, Timestamp{runs.begun.ns - 95 * second});
  ASSERT_TRUE(eventually([&] {
    const auto all = runs.moments();
    return !all.empty() && all.back() > runs.begun.ns;
  }));
  // The seconds that it was still on for, the last one whole, and then those after it was on again.
  const auto all = runs.moments();
  const auto after = std::ranges::find_if(all, [&](std::int64_t moment) { return moment > runs.begun.ns; });
  EXPECT_EQ(after - all.begin(), 6);
  EXPECT_LE(*(after - 1), runs.begun.ns - 94 * second);
}

TEST(Schedule, RunsTwoRulesAtOnce) {
  std::mutex mutex;
  std::set<std::string> under_way;
  std::condition_variable both;
  std::atomic<bool> met{false};
  Runs runs;
  runs.ids = {"a", "b"};
  runs.answer = [&](const std::string& rule, const ScheduledRun&) -> Result<void> {
    std::unique_lock lock(mutex);
    under_way.insert(rule);
    both.notify_all();
    if (both.wait_for(lock, 20s, [&] { return met || under_way.size() == 2; })) met = true;
    under_way.erase(rule);
    return {};
  };
  runs.start(2s, 2);
  EXPECT_TRUE(eventually([&] { return met.load(); }));
  met = true;
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

TEST(Schedule, AWindowThatReachesBeforeTheRecordIsSaidOfItsAlertAndNoFault) {
  Rig rig;
  rig.write_rule("each", each_event, "evaluate: {every: 1s, window: 1h}\n");
  rig.writer->set_collector("procmond", true, Timestamp{base::wall_now().ns + 10'000'000'000});
  auto event = make_exec(1, "x");
  event.time = base::wall_now();
  rig.commit({event});
  rig.start();
  ASSERT_TRUE(eventually([&] { return !rig.alerts().empty(); }));
  EXPECT_NE(find_time(rig, 1).find("before_record"), std::string::npos) << find_time(rig, 1);
  EXPECT_EQ(rig.rule_state("each").incomplete, 0U);
}

}  // namespace
}  // namespace daemoneye::detect::testing
