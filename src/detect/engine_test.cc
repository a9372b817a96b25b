#include "detect/engine.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "detect/detect_test_util.h"
#include "detect/rule_limits.h"

namespace daemoneye::detect::testing {
namespace {

using namespace std::chrono_literals;
using Matches = std::vector<std::string>;

constexpr const char* every_exec = "SELECT e.pid, e.name, e.process_key FROM process_events e WHERE e.kind = 'exec'";

std::string exec_of(const std::string& name) { return std::string(every_exec) + " AND e.name = '" + name + "'"; }

TEST(Engine, RaisesAnAlertThatTellsWhatHappened) {
  Rig rig;
  rig.write_file("r.yaml",
                 "id: r\ntitle: \"{{name}} ran as {{command_line}}\"\ndescription: why\nseverity: critical\n"
                 "sql: SELECT e.pid, e.process_key, e.name, e.time FROM process_events e WHERE e.name = 'evil'\n");
  std::atomic<int> told{0};
  rig.options.on_raised = [&] { ++told; };
  rig.start();
  auto parent = make_exec(10, "nginx");
  auto child = make_exec(11, "evil", {"evil", "-x"});
  child.process.ppid = 10;
  child.process.parent_key = parent.process.key;
  rig.commit({parent, child});
  ASSERT_TRUE(rig.settled());
  const auto alerts = rig.alerts();
  ASSERT_EQ(alerts.size(), 1U);
  const auto& alert = alerts[0];
  EXPECT_EQ(alert.alert_id.size(), 32U);
  EXPECT_EQ(alert.rule_id, "r");
  EXPECT_EQ(alert.severity, store::Severity::critical);
  EXPECT_EQ(alert.title, "evil ran as evil -x");
  EXPECT_EQ(alert.description, "why");
  EXPECT_EQ(alert.pid, 11);
  EXPECT_EQ(alert.name, "evil");
  EXPECT_EQ(alert.executable_path, "/usr/bin/evil");  // from the event: not selected
  EXPECT_EQ(alert.command_line, "evil -x");
  EXPECT_EQ(alert.process_key, event::to_string(child.process.key));
  EXPECT_EQ(alert.evidence, std::vector<event::EventId>{rig.last_event});
  EXPECT_EQ(alert.host, "testhost");
  EXPECT_EQ(alert.correlation_id.size(), 32U);
  const auto row = nlohmann::json::parse(alert.row_json);
  EXPECT_EQ(row.at("pid"), 11);
  EXPECT_EQ(row.at("time"), base::to_iso(child.time));
  const auto process = nlohmann::json::parse(alert.process_json);
  EXPECT_EQ(process.at("process").at("arguments"), (nlohmann::json{"evil", "-x"}));
  ASSERT_EQ(process.at("ancestors").size(), 1U);
  EXPECT_EQ(process.at("ancestors")[0].at("name"), "nginx");
  EXPECT_TRUE(eventually([&] { return told == 1; }));
  auto reader = store::Reader::open(rig.options.store_path);
  ASSERT_TRUE(reader);
  EXPECT_EQ((*reader)->outbox_depth("sink").value_or(0), 1U);
}

TEST(Engine, ShowsEachEventToEachRuleOnceAcrossRestartsAndCrashes) {
  Rig rig;
  rig.write_rule("a", exec_of("a"));
  rig.write_rule("ab", std::string(every_exec) + " AND e.name IN ('a', 'b')");
  Matches expected;
  event::EventId id = 0;
  std::mt19937_64 random(7);
  event::Pid pid = 100;
  for (int round = 0; round < 12; ++round) {
    rig.start();
    for (int batch = 0; batch < 5; ++batch) {
      std::vector<event::ProcessEvent> events;
      for (std::uint64_t i = 0; i < 1 + random() % 20; ++i) {
        const std::string name(1, static_cast<char>('a' + random() % 3));
        events.push_back(make_exec(++pid, name));
        ++id;
        if (name == "a") expected.push_back("a:" + std::to_string(id));
        if (name != "c") expected.push_back("ab:" + std::to_string(id));
      }
      rig.commit(std::move(events));
    }
    // Now and then in an orderly way; otherwise as a kill does: what is queued is dropped.
    if (round % 3 == 0)
      rig.stop();
    else
      rig.engine.reset();
  }
  rig.start();
  ASSERT_TRUE(rig.settled());
  std::ranges::sort(expected);
  EXPECT_EQ(rig.matches(), expected);
}

TEST(Engine, ReloadsWhileEventsFlowWithoutMissingOrRepeatingOne) {
  Rig rig;
  rig.write_rule("steady", every_exec);
  rig.start();
  event::Pid pid = 100;
  for (int round = 0; round < 20; ++round) {
    rig.write_rule("changing", exec_of("x" + std::to_string(round)));
    rig.engine->reload();
    for (int batch = 0; batch < 5; ++batch) {
      rig.commit({make_exec(++pid, "p"), make_exec(++pid, "q")});
    }
  }
  ASSERT_TRUE(rig.settled());
  Matches expected;
  for (event::EventId id = 1; id <= rig.last_event; ++id) expected.push_back("steady:" + std::to_string(id));
  std::ranges::sort(expected);
  EXPECT_EQ(rig.matches(), expected);
}

TEST(Engine, NoticesNewChangedAndRemovedRuleFiles) {
  Rig rig;
  rig.start();
  EXPECT_EQ(rig.engine->state().active, 0U);
  rig.write_rule("r", exec_of("one"));
  ASSERT_TRUE(eventually([&] { return rig.engine->state().active == 1; }));
  rig.write_rule("r", "SELECT broken");
  ASSERT_TRUE(eventually([&] { return rig.rule_state("r").state == "unhealthy"; }));
  // The last good version runs on.
  rig.commit({make_exec(1, "one")});
  ASSERT_TRUE(rig.settled());
  EXPECT_EQ(rig.matches(), Matches{"r:1"});
  EXPECT_NE(rig.rule_state("r").reason.find("r.yaml:5"), std::string::npos) << rig.rule_state("r").reason;
  std::filesystem::remove(rig.rules_folder() + "/r.yaml");
  ASSERT_TRUE(eventually([&] { return rig.engine->state().rules.empty(); }));
}

TEST(Engine, FindsAFolderThatAppearsLater) {
  Rig rig;
  std::filesystem::remove_all(rig.rules_folder());
  rig.start();
  std::filesystem::create_directory(rig.rules_folder());
  rig.write_rule("r", every_exec);
  EXPECT_TRUE(eventually([&] { return rig.engine->state().active == 1; }));
}

TEST(Engine, OnlyActiveRulesAreEvaluated) {
  Rig rig;
  rig.write_rule("on", every_exec);
  for (const std::string status : {"draft", "disabled", "archived"}) {
    rig.write_rule(status, every_exec, "status: " + status + "\n");
  }
  rig.start();
  rig.commit({make_exec(1, "x")});
  ASSERT_TRUE(rig.settled());
  EXPECT_EQ(rig.matches(), Matches{"on:1"});
  const auto state = rig.engine->state();
  EXPECT_EQ(state.active, 1U);
  EXPECT_EQ(state.inactive, 3U);
}

TEST(Engine, CatchesUpFromTheStoreWhenItsQueueOverflowed) {
  Rig rig;
  rig.options.queue_capacity = 2;
  rig.options.chunk_events = 7;
  rig.write_rule("r", every_exec);
  rig.start();
  event::Pid pid = 0;
  for (int batch = 0; batch < 100; ++batch) rig.commit({make_exec(++pid, "x"), make_exec(++pid, "x")});
  ASSERT_TRUE(rig.settled());
  EXPECT_EQ(rig.alerts().size(), 200U);
  EXPECT_EQ(rig.matches().size(), 200U);
}

TEST(Engine, PassesWhatConcernsNoRuleAndSavesHowFarItIs) {
  Rig rig;
  rig.write_rule("r", "SELECT pid, process_key FROM process_events WHERE kind = 'exec' AND name = 'x'");
  rig.start();
  for (event::Pid pid = 1; pid <= 20; ++pid) rig.commit({make_exec(pid, "y"), make_exec(pid + 100, "z")});
  ASSERT_TRUE(rig.settled());
  const auto saved = [&] {
    auto reader = store::Reader::open(rig.options.store_path);
    return reader ? (*reader)->stream_watermark().value_or(0) : 0;
  };
  EXPECT_TRUE(eventually([&] { return saved() == rig.last_event; }));
  rig.commit({make_exec(200, "y"), make_exec(201, "x")});
  ASSERT_TRUE(rig.settled());
  EXPECT_EQ(rig.matches(), Matches{"r:" + std::to_string(rig.last_event)});
  EXPECT_EQ(rig.rule_state("r").candidates, 1U);
}

TEST(Engine, MergesWhatIsEqualWithinTheWindow) {
  Rig rig;
  rig.write_rule("r", "SELECT e.name, e.pid FROM process_events e WHERE e.kind = 'exec'",
                 "dedup: {by: [name], for: 1h}\n");
  rig.start();
  rig.commit({make_exec(1, "x"), make_exec(2, "x"), make_exec(3, "y")});
  rig.commit({make_exec(4, "x")});
  ASSERT_TRUE(rig.settled());
  auto alerts = rig.alerts();
  ASSERT_EQ(alerts.size(), 2U);
  std::ranges::sort(alerts, {}, &store::Alert::count);
  EXPECT_EQ(alerts[0].count, 1U);
  EXPECT_EQ(alerts[1].count, 3U);
  ASSERT_TRUE(eventually([&] { return rig.engine->state().alerts == 2; }));
  EXPECT_EQ(rig.engine->state().merged, 2U);
}

TEST(Engine, ARuleThatRunsOutOfTimeIsNamedAndTheOthersGoOn) {
  Rig rig;
  rig.options.rule_timeout = 50ms;
  // A join without an end: more work than the time limit allows.
  rig.write_rule("endless",
                 "SELECT e.pid FROM process_events e WHERE (SELECT count(*) FROM process_events a, process_events b, "
                 "process_events c WHERE a.pid + b.pid + c.pid < 0) > 0");
  rig.write_rule("fine", exec_of("x"));
  std::mutex mutex;
  std::vector<std::string> told;
  rig.options.on_over_budget = [&](const std::string& rule_id, const std::string& reason) {
    const std::lock_guard lock(mutex);
    told.push_back(rule_id + ": " + reason);
  };
  std::vector<event::ProcessEvent> many;
  for (event::Pid pid = 1001; pid <= 1400; ++pid) many.push_back(make_exec(pid, "y"));
  rig.commit(std::move(many));
  rig.start();
  ASSERT_EQ(rig.engine->state().active, 2U) << rig.rule_state("endless").reason;
  for (event::Pid pid = 1; pid <= 4; ++pid) {
    rig.commit({make_exec(pid, "x")});
    ASSERT_TRUE(rig.settled());
  }
  EXPECT_EQ(rig.matches(), (Matches{"fine:401", "fine:402", "fine:403", "fine:404"}));
  const auto state = rig.rule_state("endless");
  EXPECT_EQ(state.state, "suspended") << state.reason;
  EXPECT_EQ(state.timeouts, 3U);
  EXPECT_NE(state.reason.find("time limit"), std::string::npos);
  {
    const std::lock_guard lock(mutex);
    ASSERT_EQ(told.size(), 2U);
    EXPECT_EQ(told[0], "endless: over its time limit");
    EXPECT_TRUE(told[1].starts_with("endless: over its time limit 3 times in a row")) << told[1];
  }
  // It can be seen where users look.
  ASSERT_TRUE(eventually([&] {
    auto reader = store::Reader::open(rig.options.store_path);
    auto select = (*reader)->database().prepare("SELECT state FROM detection_rules WHERE rule_id = 'endless'");
    return select && select->step().value_or(false) && select->text(0) == "suspended";
  }));
  rig.engine->reload();
  EXPECT_TRUE(eventually([&] { return rig.rule_state("endless").state == "healthy"; }));
}

TEST(Engine, AnInstanceIsShownToARuleOverProcessesWhenItStartsAndWhenAColumnOfItsConditionsChanges) {
  Rig rig;
  rig.write_rule("r", "SELECT p.pid FROM processes p WHERE p.name = 'x' AND p.executable_state IS NOT 'memfd'");
  rig.write_rule("selected", "SELECT p.pid, p.executable_state, p.user FROM processes p WHERE p.name = 'x'");
  rig.write_rule("follows", "SELECT p.pid FROM processes p WHERE p.user IS NOT 'daemon'");
  rig.start();
  auto exec = make_exec(1, "x");
  auto named = exec, other = exec, exit = exec;
  named.kind = other.kind = event::EventKind::change;
  named.detail = R"({"executable_state":{"new":"deleted"}})";
  auto user = named;
  user.detail = R"({"uid":{"new":0,"old":33}})";  // and with it the user's name
  exit.kind = event::EventKind::exit;
  other.detail = R"({"cwd":{"new":"/"}})";
  rig.commit({exec, named, other, user, exit,
              event::make_gap_event({"events_lost", {1}, {2}, 1}, event::EventSource::ebpf, {3})});
  ASSERT_TRUE(rig.settled());
  EXPECT_EQ(rig.matches(), (Matches{"follows:1", "follows:4", "r:1", "r:2", "selected:1"}));
}

TEST(Engine, AProcessThatAnotherScanFindsAgainIsNotNew) {
  Rig rig;
  rig.write_rule("r", "SELECT p.pid, p.name FROM processes p WHERE p.name = 'x'");
  rig.write_rule("each", "SELECT e.pid, e.name FROM process_events e WHERE e.kind = 'seen'");
  rig.start();
  auto started = make_exec(1, "x"), found = make_exec(2, "x");
  auto again = started;
  found.kind = again.kind = event::EventKind::seen;
  rig.commit({started, found});
  rig.commit({again, found});  // the collector was started again
  ASSERT_TRUE(rig.settled());
  EXPECT_EQ(rig.matches(), (Matches{"each:2", "each:3", "each:4", "r:1", "r:2"}));
}

TEST(Engine, ARuleThatFloodsRaisesOneAlertForTheRest) {
  Rig rig;
  rig.options.rule_alerts_a_minute = 10;
  rig.write_rule("flood", every_exec);
  rig.write_rule("quiet", exec_of("y"));
  rig.start();
  std::vector<event::ProcessEvent> events;
  for (event::Pid pid = 1; pid <= 150; ++pid) events.push_back(make_exec(pid, pid == 150 ? "y" : "x"));
  rig.commit(std::move(events));
  rig.commit({make_exec(1001, "x"), make_exec(1002, "x")});
  ASSERT_TRUE(rig.settled());
  const auto alerts = rig.alerts();
  EXPECT_EQ(std::ranges::count(alerts, "quiet", &store::Alert::rule_id), 1);
  ASSERT_EQ(std::ranges::count(alerts, "flood", &store::Alert::rule_id), 11);
  const auto summary = std::ranges::find_if(alerts, [](const auto& alert) { return alert.count > 1; });
  ASSERT_NE(summary, alerts.end());
  EXPECT_EQ(summary->count, 142U);
  EXPECT_EQ(summary->rule_id, "flood");
  EXPECT_EQ(summary->evidence.size(), 100U);
  EXPECT_EQ(summary->evidence.front(), 11);
  EXPECT_NE(summary->title.find("10 in 60 s"), std::string::npos) << summary->title;
  EXPECT_TRUE(nlohmann::json::parse(summary->row_json).at("held_back"));
  EXPECT_EQ(rig.rule_state("flood").held_back, 142U);
}

TEST(Engine, ARuleThatFloodsWithTheSameIsLimitedWhenNothingIsMerged) {
  Rig rig;
  rig.options.rule_alerts_a_minute = 10;
  rig.write_rule("flood", "SELECT e.name FROM process_events e WHERE e.kind = 'exec'");
  rig.start();
  std::vector<event::ProcessEvent> events;
  for (event::Pid pid = 1; pid <= 50; ++pid) events.push_back(make_exec(pid, "x"));
  rig.commit(std::move(events));
  ASSERT_TRUE(rig.settled());
  EXPECT_EQ(rig.alerts().size(), 11U);
  EXPECT_EQ(rig.rule_state("flood").held_back, 40U);
}

TEST(Engine, NamesThatAreNoTextAreNotMistakenForEachOther) {
  Rig rig;
  rig.write_rule("r", "SELECT e.executable_path FROM process_events e", "dedup: {by: [executable_path], for: 1h}\n");
  rig.start();
  auto one = make_exec(1, "x"), other = make_exec(2, "x");
  one.process.executable_path = "/tmp/\xff";
  other.process.executable_path = "/tmp/\xfe";
  rig.commit({one, other});
  ASSERT_TRUE(rig.settled());
  EXPECT_EQ(rig.alerts().size(), 2U);
}

TEST(RuleLimits, AMatchOfAnAlertThatWasRaisedIsCountedOnIt) {
  RuleLimits limits(2, 1min);
  const auto at = [](int second) { return Timestamp{test_epoch_ns + second * 1'000'000'000LL}; };
  EXPECT_TRUE(limits.may_raise("r", "a", at(0), 1min));
  EXPECT_TRUE(limits.may_raise("r", "b", at(1), 1min));
  EXPECT_FALSE(limits.may_raise("r", "c", at(2), 1min));
  EXPECT_TRUE(limits.may_raise("r", "a", at(3), 1min));
  EXPECT_TRUE(limits.may_raise("other", "c", at(3), 1min));
  EXPECT_TRUE(limits.may_raise("r", "c", at(60), 1min));
  EXPECT_TRUE(limits.may_raise("r", "d", at(30), 1min));  // the clock was put back
}

TEST(RuleLimits, AMatchThatMakesAnAlertOfItsOwnIsCountedAsOne) {
  RuleLimits limits(3, 1min);
  const auto at = [](int second) { return Timestamp{test_epoch_ns + second * 1'000'000'000LL}; };
  EXPECT_TRUE(limits.may_raise("r", "a", at(0), 2s));
  EXPECT_TRUE(limits.may_raise("r", "a", at(2), 2s));  // merged
  EXPECT_TRUE(limits.may_raise("r", "a", at(4), 2s));  // merged: the alert was seen again two seconds ago
  EXPECT_TRUE(limits.may_raise("r", "a", at(7), 2s));
  EXPECT_TRUE(limits.may_raise("r", "b", at(8), 0s));
  EXPECT_FALSE(limits.may_raise("r", "b", at(8), 0s));
}

TEST(Engine, AThousandRulesAreReplacedUnderLoadWithoutMissingOrRepeatingAnEvent) {
  Rig rig;
  const auto write_all = [&](int version) {
    for (int i = 0; i < 1000; ++i) {
      rig.write_rule("rule-" + std::to_string(i), exec_of("nobody-" + std::to_string(i)),
                     "author: version " + std::to_string(version) + "\n");
    }
    rig.write_rule("all", "SELECT e.pid, " + std::to_string(version) + " AS version FROM process_events e");
  };
  write_all(0);
  std::atomic<int> in_force{-1};
  rig.options.on_rules = [&](const RuleSet*, const RuleSet& now) {
    const auto all = std::ranges::find(now.rules, "all", [](const LoadedRule& rule) { return rule.rule.id; });
    if (all != now.rules.end()) in_force = all->rule.sql.at(all->rule.sql.find(" AS version") - 1) - '0';
  };
  rig.start();
  ASSERT_EQ(rig.engine->state().active, 1001U);
  event::Pid pid = 0;
  {
    const std::jthread load([&](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        ++pid;
        rig.commit({make_exec(pid, "nobody-" + std::to_string(pid % 1500))});
      }
    });
    for (int version = 1; version <= 2; ++version) {
      write_all(version);
      ASSERT_TRUE(eventually([&] { return in_force == version; }, 60s));
    }
  }
  // Told of before it is taken over, between two batches.
  std::set<std::string> versions;
  ASSERT_TRUE(eventually(
      [&] {
        ++pid;
        rig.commit({make_exec(pid, "nobody-" + std::to_string(pid % 1500))});
        if (!rig.settled()) return false;
        for (const auto& alert : rig.alerts()) {
          if (alert.rule_id == "all") versions.insert(nlohmann::json::parse(alert.row_json).at("version").dump());
        }
        return versions.contains("2");
      },
      60s));
  EXPECT_EQ(versions, (std::set<std::string>{"0", "1", "2"}));
  Matches expected;
  for (event::EventId id = 1; id <= rig.last_event; ++id) {
    expected.push_back("all:" + std::to_string(id));
    if (id % 1500 < 1000) expected.push_back("rule-" + std::to_string(id % 1500) + ":" + std::to_string(id));
  }
  std::ranges::sort(expected);
  EXPECT_EQ(rig.matches(), expected);
}

TEST(Engine, AGapIsARowThatRulesCanMatch) {
  Rig rig;
  rig.write_rule("r", "SELECT e.detail FROM process_events e WHERE e.kind = 'gap'");
  rig.start();
  rig.commit({event::make_gap_event({"events_lost", {test_epoch_ns}, {test_epoch_ns + 1}, 5}, event::EventSource::ebpf,
                                    {test_epoch_ns + 2})});
  ASSERT_TRUE(rig.settled());
  ASSERT_EQ(rig.alerts().size(), 1U);
  EXPECT_FALSE(rig.alerts()[0].process_key);
  EXPECT_FALSE(rig.alerts()[0].pid);
}

TEST(Engine, RunsAScheduledRuleOverItsWindowOnly) {
  Rig rig;
  rig.write_rule("burst", "SELECT e.name, count(*) AS n FROM process_events e GROUP BY e.name HAVING count(*) >= 3",
                 "evaluate: {every: 1s, window: 1m}\ndedup: {by: [name], for: 1h}\n");
  const auto now = base::wall_now().ns;
  std::vector<event::ProcessEvent> events;
  for (event::Pid pid = 1; pid <= 3; ++pid) {
    events.push_back(make_exec(pid, "recent"));
    events.back().time.ns = now;
  }
  for (event::Pid pid = 11; pid <= 13; ++pid) {
    events.push_back(make_exec(pid, "old"));
    events.back().time.ns = now - std::chrono::nanoseconds(1h).count();
  }
  rig.commit(std::move(events));
  rig.start();
  ASSERT_TRUE(eventually([&] { return !rig.alerts().empty(); }));
  const auto alerts = rig.alerts();
  ASSERT_EQ(alerts.size(), 1U);
  EXPECT_EQ(alerts[0].name, "recent");
  EXPECT_EQ(nlohmann::json::parse(alerts[0].row_json).at("n"), 3);
  // Again and again, it is the same alert.
  ASSERT_TRUE(eventually([&] { return rig.engine->state().merged > 0; }));
  EXPECT_EQ(rig.alerts().size(), 1U);
}

TEST(TestRule, GivesWhatWouldHaveMatchedAndWritesNothing) {
  Rig rig;
  std::vector<event::ProcessEvent> events;
  for (event::Pid pid = 1; pid <= 50; ++pid) events.push_back(make_exec(pid, pid % 5 == 0 ? "x" : "y"));
  rig.commit(std::move(events));
  const auto rule =
      compile_rule("id: r\ntitle: t\nseverity: low\nsql: " + exec_of("x") + " AND e.time >= ago('1s')\n", "r.yaml");
  ASSERT_TRUE(rule) << to_string(rule.error().front());
  auto connection = sql::Connection::open(rig.options.store_path, "");
  ASSERT_TRUE(connection) << connection.error().message;
  std::vector<event::Value> pids;
  std::vector<std::int64_t> moments;
  const auto each = [&](const sql::Row& row, Timestamp moment) {
    pids.push_back(row.at(0));
    moments.push_back(moment.ns);
    return true;
  };
  auto stats = test_rule(**connection, *rule, {}, {}, each);
  ASSERT_TRUE(stats) << stats.error().message;
  // ago() is seen from each event: all of them are within their own last second, long ago as they are.
  EXPECT_EQ(stats->run.rows, 10U);
  EXPECT_EQ(pids.front(), event::Value(std::int64_t{5}));
  EXPECT_EQ(moments.front(), test_epoch_ns + 5'000'000) << "the event's own time";
  EXPECT_EQ(stats->events, 50U);
  pids.clear();
  sql::RunOptions limited;
  limited.row_limit = 4;
  stats = test_rule(**connection, *rule, {}, limited, each);
  ASSERT_TRUE(stats);
  EXPECT_EQ(stats->run.rows, 4U);
  EXPECT_TRUE(stats->run.more);
  stats = test_rule(**connection, *rule, {Timestamp{test_epoch_ns + 41'000'000}, {}}, {}, each);
  ASSERT_TRUE(stats);
  EXPECT_EQ(stats->run.rows, 2U);
  EXPECT_TRUE(rig.alerts().empty());
}

// An hour of history, of which nothing is missing, under a collector that is connected now.
struct Recorded : Rig {
  explicit Recorded() : begin(base::wall_now().ns - 3'600'000'000'000) {
    std::vector<event::ProcessEvent> events;
    for (event::Pid pid = 1; pid <= 60; ++pid) {
      events.push_back(make_exec(pid, pid % 5 == 0 ? "x" : "y"));
      events.back().time.ns = begin + pid * 60'000'000'000 - 60'000'000'000;
    }
    // Ahead, for a machine that takes its time before the end of the test.
    writer->set_collector("procmond", true, Timestamp{base::wall_now().ns + 10'000'000'000});
    commit(std::move(events));
  }
  TestStats test(const std::string& text, const event::TimeRange& range = {}) const {
    const auto rule = compile_rule("id: r\ntitle: t\nseverity: low\n" + text, "r.yaml");
    auto connection = sql::Connection::open(options.store_path, "");
    if (!rule) {
      ADD_FAILURE() << to_string(rule.error().front());
      return {};
    }
    if (!connection) {
      ADD_FAILURE() << connection.error().message;
      return {};
    }
    auto stats = test_rule(**connection, *rule, range, {}, [](const sql::Row&, Timestamp) { return true; });
    if (!stats) ADD_FAILURE() << stats.error().message;
    return stats ? *std::move(stats) : TestStats{};
  }
  std::int64_t begin;
};
const std::string stream_rule = "sql: " + exec_of("x") + " AND e.time >= ago('1s')\n";
const std::string joining_rule =
    "sql: SELECT e.pid FROM process_events e WHERE e.kind = 'exec' AND e.time >= ago('1s') AND EXISTS (SELECT 1 FROM "
    "process_events f WHERE f.name = e.name AND f.pid <> e.pid)\n";
const std::string scheduled_rule =
    "sql: SELECT name, count(*) FROM process_events GROUP BY name\nevaluate: {every: 1m, window: 10m}\n";

TEST(TestRule, IsNotIncompleteForStandingInThePast) {
  const Recorded rig;
  for (const auto& rule : {stream_rule, joining_rule, scheduled_rule}) {
    const auto stats = rig.test(rule);
    EXPECT_GT(stats.run.rows, 0U) << rule;
    EXPECT_EQ(event::to_json(stats.run.completeness), R"({"status":"complete"})") << rule;
  }
}

TEST(TestRule, SaysOnceThatNobodyRecordsSince) {
  Recorded rig;
  rig.writer->set_collector("procmond", false, Timestamp{base::wall_now().ns - 1});
  rig.commit({});
  rig.writer->close(Deadline::after(std::chrono::seconds(20)));
  for (const auto& rule : {stream_rule, joining_rule, scheduled_rule}) {
    const auto whole = rig.test(rule).run.completeness.reasons;
    ASSERT_EQ(whole.size(), 1U) << rule;
    EXPECT_EQ(whole.front().reason, "collector_unavailable");
  }
  // Its windows, too, lie within the record.
  const event::TimeRange past{Timestamp{rig.begin + 600'000'000'000}, Timestamp{rig.begin + 1'800'000'000'000}};
  for (const auto& rule : {stream_rule, scheduled_rule}) {
    EXPECT_TRUE(rig.test(rule, past).run.completeness.complete()) << rule;
  }
}

TEST(TestRule, OfTimeBeforeTheRecordSaysSoOnceWhenThatWasAskedFor) {
  const Recorded rig;
  const event::TimeRange early{Timestamp{rig.begin - 60'000'000'000}, {}};
  for (const auto& rule : {stream_rule, scheduled_rule}) {
    const auto reasons = rig.test(rule, early).run.completeness.reasons;
    ASSERT_EQ(reasons.size(), 1U) << rule;
    EXPECT_EQ(reasons.front().reason, "before_record");
    EXPECT_EQ(reasons.front().to, Timestamp{rig.begin});
  }
}

}  // namespace
}  // namespace daemoneye::detect::testing
