// Rules over `processes` that ask for what scans tell without an event.
#include "detect/live_changes.h"

#include <algorithm>
#include <set>

#include "db/statement_cache.h"
#include "detect/detect_test_util.h"

namespace daemoneye::detect::testing {
namespace {

using Status = event::ProcessStatus;
using Found = std::vector<std::string>;

constexpr const char* big = "SELECT p.pid, p.process_key FROM processes p WHERE p.memory_usage > 1000";

event::LiveUpdate scanned(event::Pid pid, std::uint64_t memory, Status status = Status::running, double cpu = 1) {
  return {make_exec(pid, "x").process.key, cpu, memory, status};
}

class CounterRules : public ::testing::Test {
 protected:
  void start() {
    rig_.start();
    looks_ = 1;  // at what is there
    ASSERT_TRUE(looked());
  }
  void scan(std::vector<event::LiveUpdate> updates) {
    rig_.commit({}, std::move(updates));
    ++looks_;
    ASSERT_TRUE(looked());
    ASSERT_TRUE(rig_.settled());
  }
  bool looked() {
    return eventually([&] { return rig_.engine->state().scans_evaluated >= looks_; });
  }
  // "rule pid" of each alert raised since the last call, sorted.
  Found alerts() {
    Found found;
    for (const auto& alert : rig_.alerts()) {
      if (seen_.insert(alert.alert_id).second) found.push_back(alert.rule_id + " " + std::to_string(*alert.pid));
    }
    std::ranges::sort(found);
    return found;
  }

  Rig rig_;
  std::uint64_t looks_ = 0;
  std::set<std::string> seen_;
};

TEST_F(CounterRules, SeeAnInstanceAgainWhenAScanTellsOtherCounters) {
  rig_.write_rule("big", big);
  rig_.write_rule("zombie", "SELECT p.pid FROM processes p WHERE p.status = 'zombie'");
  rig_.write_rule("busy", "SELECT p.pid FROM processes p WHERE p.name = 'y' AND p.cpu_usage > 50");
  rig_.write_rule("selected", "SELECT p.pid, p.memory_usage FROM processes p WHERE p.name = 'x'");
  rig_.write_rule("of_events", "SELECT e.pid FROM process_events e WHERE e.memory_usage > 1000");
  start();
  rig_.commit({make_exec(1, "x"), make_exec(2, "y")});
  ASSERT_TRUE(rig_.settled());
  EXPECT_EQ(alerts(), (Found{"selected 1"}));

  scan({scanned(1, 2000), scanned(2, 10, Status::running, 90)});
  EXPECT_EQ(alerts(), (Found{"big 1", "busy 2"}));
  const auto raised = rig_.alerts();
  const auto alert = std::ranges::find(raised, "big", &store::Alert::rule_id);
  EXPECT_EQ(alert->evidence, std::vector<event::EventId>{1});
  EXPECT_EQ(alert->name, "x");

  scan({scanned(1, 2000), scanned(2, 10, Status::running, 90)});
  EXPECT_EQ(alerts(), Found{});
  scan({scanned(1, 3000), scanned(2, 10, Status::zombie, 90)});  // what is zombie has the load it had
  EXPECT_EQ(alerts(), (Found{"big 1", "zombie 2"}));
}

TEST_F(CounterRules, GoOnWhereTheyWereAfterARestart) {
  rig_.write_rule("big", big);
  start();
  rig_.commit({make_exec(1, "x"), make_exec(2, "y")});
  scan({scanned(1, 2000), scanned(2, 2000)});
  EXPECT_EQ(alerts(), (Found{"big 1", "big 2"}));
  rig_.stop();

  start();
  EXPECT_EQ(alerts(), Found{});
  scan({scanned(1, 2000), scanned(2, 2500)});
  EXPECT_EQ(alerts(), (Found{"big 2"}));
  rig_.stop();

  // Told, and not evaluated: the end came in between.
  rig_.commit({}, {scanned(1, 9000), scanned(2, 2500)});
  start();
  ASSERT_TRUE(rig_.settled());
  const auto after = alerts();
  EXPECT_TRUE(std::ranges::find(after, "big 1") != after.end());
}

TEST_F(CounterRules, ARuleThatComesLaterSeesWhatChangesFromThenOn) {
  rig_.start();
  rig_.commit({make_exec(1, "x"), make_exec(2, "y")}, {scanned(1, 2000), scanned(2, 2000)});
  ASSERT_TRUE(rig_.settled());
  rig_.write_rule("big", big);
  looks_ = 1;
  ASSERT_TRUE(looked());
  scan({scanned(1, 2000), scanned(2, 2001)});
  EXPECT_EQ(alerts(), (Found{"big 2"}));
}

TEST_F(CounterRules, AScanOfManyIsEvaluatedInParts) {
  rig_.options.chunk_events = 3;
  rig_.write_rule("big", big);
  start();
  std::vector<event::ProcessEvent> events;
  std::vector<event::LiveUpdate> updates;
  Found expected;
  for (event::Pid pid = 10; pid < 30; ++pid) {
    events.push_back(make_exec(pid, "x"));
    updates.push_back(scanned(pid, pid % 3 == 0 ? 5 : 5000));
    if (pid % 3 != 0) expected.push_back("big " + std::to_string(pid));
  }
  rig_.commit(std::move(events));
  scan(updates);
  EXPECT_EQ(alerts(), expected);
  scan(updates);
  EXPECT_EQ(alerts(), Found{});
}

TEST_F(CounterRules, WhatWasLostWhenAProcessStartedIsNotLostOfTheScan) {
  rig_.write_rule("big", big);
  rig_.write_rule("each", "SELECT e.pid FROM process_events e WHERE e.name = 'x'");
  start();
  rig_.commit(
      {make_exec(1, "x"), event::make_gap_event({"events_lost", {test_epoch_ns}, {test_epoch_ns + 5'000'000}, 3},
                                                event::EventSource::ebpf, {test_epoch_ns + 5'000'000})});
  ASSERT_TRUE(rig_.settled());
  scan({scanned(1, 2000)});
  for (const auto& alert : rig_.alerts()) {
    const auto told = event::to_json(alert.completeness);
    EXPECT_EQ(told.find("events_lost") != std::string::npos, alert.rule_id == "each") << alert.rule_id << told;
  }
  EXPECT_EQ(alerts(), (Found{"big 1", "each 1"}));
}

TEST_F(CounterRules, ADamagedRowIsSaidAndTheOthersAreSeen) {
  rig_.write_rule("big", big);
  start();
  rig_.commit({make_exec(1, "x"), make_exec(2, "y")});
  std::promise<void> done;
  rig_.writer->change(
      [](db::StatementCache& statements) {
        return statements.database().execute("UPDATE live SET event=x'ff' WHERE pid=1");
      },
      [&](const Result<void>& result) {
        EXPECT_TRUE(result) << result.error().message;
        done.set_value();
      });
  done.get_future().wait();
  scan({scanned(1, 2000), scanned(2, 2000)});
  EXPECT_EQ(alerts(), (Found{"big 2"}));
  EXPECT_NE(rig_.rule_state("big").missing.find("corrupt_block"), std::string::npos);
}

TEST(CountersOf, AreThoseOfTheConditions) {
  const auto of = [](const char* text) { return int{counters_of(*sql::compile(text))}; };
  EXPECT_EQ(of("SELECT p.cpu_usage FROM processes p WHERE p.name = 'x'"), 0);
  EXPECT_EQ(of("SELECT p.pid FROM processes p WHERE p.cpu_usage > 1 AND p.status = 'zombie'"),
            cpu_counter | status_counter);
  EXPECT_EQ(of("SELECT e.pid FROM process_events e JOIN processes p USING (process_key) WHERE p.memory_usage > 1"), 0);
}

}  // namespace
}  // namespace daemoneye::detect::testing
