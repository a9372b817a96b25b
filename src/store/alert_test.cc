#include "store/alert.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "store/alert_changes.h"
#include "store/rule_overrides.h"
#include "store/testing/temp_store.h"

namespace daemoneye::store {
namespace {

using namespace std::chrono_literals;
using namespace store::testing;

Alert make_alert(const std::string& id, std::int64_t time, const std::string& dedup_key = "key") {
  Alert alert;
  alert.alert_id = id;
  alert.time = alert.last_seen = Timestamp{time};
  alert.rule_id = "rule";
  alert.severity = Severity::high;
  alert.title = "A title";
  alert.description = "Told at length.";
  alert.process_key = to_string(key_of(7));
  alert.name = "sh";
  alert.pid = 7;
  alert.row_json = R"({"pid":7})";
  alert.process_json = R"({"process":{"name":"sh"},"ancestors":[{"name":"nginx"}],"pid":"not ours"})";
  alert.evidence = {3, 5};
  alert.completeness.reasons = {{"events_lost", 4, Timestamp{1}, Timestamp{2}}};
  alert.host = "host";
  alert.agent_version = "0.1.0";
  alert.dedup_key = dedup_key;
  alert.tags = {"attack.t1059", "team \"blue\""};
  return alert;
}

const Reader::Window window{100, 1'000'000};

class AlertTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto writer = Writer::open(folder_.options());
    ASSERT_TRUE(writer) << writer.error().message;
    writer_ = std::move(*writer);
    auto reader = Reader::open(folder_.file());
    ASSERT_TRUE(reader) << reader.error().message;
    reader_ = std::move(*reader);
  }
  Result<void> record(DeliveryRecord record) {
    std::promise<Result<void>> done;
    writer_->record_deliveries({std::move(record)}, [&](auto result) { done.set_value(std::move(result)); });
    return done.get_future().get();
  }
  Result<void> change(std::function<Result<void>(db::StatementCache&)> write) {
    std::promise<Result<void>> done;
    writer_->change(std::move(write), [&](auto result) { done.set_value(std::move(result)); });
    return done.get_future().get();
  }
  // One dead letter for each alert, made as delivery does it.
  void make_dead_letters(const std::vector<std::string>& alerts, const std::string& sink) {
    std::vector<Writer::Raise> raises;
    for (const auto& id : alerts) raises.push_back({make_alert(id, 1000, ""), 0ms, {sink}});
    ASSERT_TRUE(raise(*writer_, std::move(raises)));
    const auto waiting = reader_->first_deliveries(sink, 0, window);
    for (const auto& due : *waiting) {
      ASSERT_TRUE(
          record({due.outbox_id, due.alert.alert_id, sink, "dead_letter", 4, Timestamp{2000}, 3, "no", 400, {}}));
    }
  }
  TempFolder folder_;
  std::unique_ptr<Writer> writer_;
  std::unique_ptr<Reader> reader_;
};

TEST_F(AlertTest, IsKeptAsItWasRaised) {
  const auto alert = make_alert("a", 1000);
  const auto raised = raise(*writer_, {{alert, 5min, {"stdout", "file"}}}, 42);
  ASSERT_TRUE(raised) << raised.error().message;
  EXPECT_EQ(raised->front().alert_id, "a");
  EXPECT_FALSE(raised->front().merged);
  EXPECT_EQ(*reader_->stream_watermark(), 42);
  const auto kept = reader_->alert("a");
  ASSERT_TRUE(kept && *kept);
  EXPECT_EQ(to_json(**kept), to_json(alert));
  EXPECT_EQ((*kept)->dedup_key, alert.dedup_key);
  EXPECT_EQ((*kept)->process_json, alert.process_json);
  EXPECT_EQ((*kept)->completeness, alert.completeness);
  EXPECT_FALSE(reader_->alert("b")->has_value());
}

TEST_F(AlertTest, RepetitionsWithinTheWindowAreCountedNotDelivered) {
  const std::int64_t minute = 60'000'000'000;
  ASSERT_TRUE(raise(*writer_, {{make_alert("a", minute), 5min, {"stdout"}}}));
  const auto again = raise(*writer_, {{make_alert("b", 5 * minute), 5min, {"stdout"}}});
  EXPECT_TRUE(again->front().merged);
  EXPECT_EQ(again->front().alert_id, "a");
  // The window slides with the last repetition.
  EXPECT_TRUE(raise(*writer_, {{make_alert("c", 9 * minute), 5min, {"stdout"}}})->front().merged);
  EXPECT_FALSE(raise(*writer_, {{make_alert("d", 15 * minute), 5min, {"stdout"}}})->front().merged);
  EXPECT_FALSE(raise(*writer_, {{make_alert("e", 15 * minute, "other"), 5min, {"stdout"}}})->front().merged);
  EXPECT_EQ((*reader_->alert("a"))->count, 3U);
  EXPECT_EQ((*reader_->alert("a"))->last_seen.ns, 9 * minute);
  EXPECT_EQ(*reader_->outbox_depth("stdout"), 3U);
  EXPECT_EQ(reader_->alerts(2)->size(), 2U);
}

TEST_F(AlertTest, WhatWasThereWhenAnAlertWasClosedIsNoNewOne) {
  const std::int64_t minute = 60'000'000'000;
  const auto again = [&](const std::string& id, std::int64_t time, std::optional<std::int64_t> since) {
    Writer::Raise one{make_alert(id, time), 5min, {"stdout"}};
    if (since) one.repeats_closed_since = Timestamp{*since};
    return raise(*writer_, {one})->front();
  };
  ASSERT_TRUE(raise(*writer_, {{make_alert("a", minute), 5min, {"stdout"}}}));
  ASSERT_TRUE(change([&](auto& statements) -> Result<void> {
    DE_TRY([[maybe_unused]] const auto before,
           change_status(statements, {"a", "closed", "", "uid:0", Timestamp{2 * minute}}));
    return {};
  }));
  EXPECT_EQ(again("b", 3 * minute, 2 * minute).alert_id, "a");
  EXPECT_EQ((*reader_->alert("a"))->count, 2U);
  EXPECT_EQ((*reader_->alert("a"))->status, "closed");
  EXPECT_EQ(again("c", 4 * minute, 2 * minute + 1).alert_id, "c");
  // There is an open one now.
  EXPECT_EQ(again("d", 5 * minute, 2 * minute).alert_id, "c");
  EXPECT_EQ(*reader_->outbox_depth("stdout"), 2U);
}

TEST_F(AlertTest, AClosedAlertIsNotRepeatedByWhatTellsNoTime) {
  ASSERT_TRUE(raise(*writer_, {{make_alert("a", 1000), 5min, {"stdout"}}}));
  ASSERT_TRUE(change([&](auto& statements) -> Result<void> {
    DE_TRY([[maybe_unused]] const auto before,
           change_status(statements, {"a", "closed", "", "uid:0", Timestamp{INT64_MAX}}));
    return {};
  }));
  EXPECT_FALSE(raise(*writer_, {{make_alert("b", 2000), 5min, {"stdout"}}})->front().merged);
}

TEST_F(AlertTest, OneThatCannotBeReadKeepsNoOtherFromBeingRead) {
  ASSERT_TRUE(raise(*writer_, {{make_alert("a", 1000, ""), 0ms, {"stdout"}},
                               {make_alert("b", 1001, ""), 0ms, {"stdout"}},
                               {make_alert("c", 1002, ""), 0ms, {"stdout"}}}));
  ASSERT_TRUE(change([](auto& statements) {
    return statements.database().execute("UPDATE alerts SET severity='frightful' WHERE alert_id='b'");
  }));
  const auto due = reader_->first_deliveries("stdout", 0, window);
  ASSERT_TRUE(due) << due.error().message;
  ASSERT_EQ(due->size(), 3U);
  EXPECT_EQ(due->at(0).unreadable, "");
  EXPECT_EQ(due->at(1).unreadable, "alert b: unknown severity");
  EXPECT_EQ(due->at(1).alert.alert_id, "b");
  EXPECT_EQ(due->at(2).alert.alert_id, "c");
  std::int64_t row = 0;
  std::uint64_t passed = 0;
  const auto all = reader_->alerts_after(row, window, &passed);
  ASSERT_TRUE(all) << all.error().message;
  EXPECT_EQ(all->size(), 2U);
  EXPECT_EQ(passed, 1U);
  EXPECT_EQ(row, 3);
}

TEST_F(AlertTest, ChangesOfARuleThatWereAskedForAtOnceAreAllKept) {
  OverrideChange off, high;
  off.status = "disabled";
  off.actor = high.actor = "uid:0";
  high.severity = Severity::high;
  high.note = "why";
  high.time = Timestamp{17};
  // Both before either is committed.
  std::promise<void> begin;
  writer_->change([&](db::StatementCache&) -> Result<void> { return begin.get_future().wait(), Result<void>(); },
                  [](const Result<void>&) {});
  std::vector<OverrideOutcome> second;
  writer_->change(
      [&](db::StatementCache& statements) -> Result<void> {
        DE_TRY([[maybe_unused]] const auto first, change_rule_overrides(statements, {"r", "s"}, off));
        return {};
      },
      [](const Result<void>&) {});
  writer_->change(
      [&](db::StatementCache& statements) -> Result<void> {
        DE_TRY(second, change_rule_overrides(statements, {"r"}, high));
        return {};
      },
      [](const Result<void>&) {});
  begin.set_value();
  ASSERT_TRUE(writer_->drain(Deadline::after(20s)));
  const auto kept = read_rule_overrides(folder_.file());
  ASSERT_TRUE(kept) << kept.error().message;
  ASSERT_EQ(kept->size(), 2U);
  EXPECT_EQ(kept->front(), (RuleOverride{"r", "disabled", Severity::high, "uid:0", "why", Timestamp{17}}));
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(second[0].before.status, "disabled");
  OverrideChange reset;
  reset.reset = true;
  ASSERT_TRUE(change([&](auto& statements) -> Result<void> {
    DE_TRY([[maybe_unused]] const auto done, change_rule_overrides(statements, {"r", "s"}, reset));
    return {};
  }));
  EXPECT_TRUE(read_rule_overrides(folder_.file())->empty());
}

TEST_F(AlertTest, TheSameAlertRaisedAgainAfterACrashIsThereOnce) {
  ASSERT_TRUE(raise(*writer_, {{make_alert("a", 1000, ""), 0ms, {"stdout"}}}));
  EXPECT_TRUE(raise(*writer_, {{make_alert("a", 1000, ""), 0ms, {"stdout"}}})->front().merged);
  EXPECT_EQ((*reader_->alert("a"))->count, 1U);
  EXPECT_EQ(*reader_->outbox_depth("stdout"), 1U);
}

TEST_F(AlertTest, LeavesTheOutboxByDeliveryOrAsDeadLetterOnly) {
  ASSERT_TRUE(raise(*writer_, {{make_alert("a", 1000), 5min, {"stdout", "file"}}}));
  EXPECT_EQ(*reader_->next_retry("stdout", Timestamp{1}), std::nullopt);
  EXPECT_EQ(*reader_->oldest_undelivered("stdout"), Timestamp{1000});
  auto due = reader_->first_deliveries("stdout", 0, window);
  ASSERT_EQ(due->size(), 1U);
  EXPECT_EQ(due->front().alert.alert_id, "a");
  EXPECT_EQ(due->front().since, Timestamp{1000});
  const auto id = due->front().outbox_id;
  EXPECT_TRUE(reader_->first_deliveries("stdout", id, window)->empty());
  DeliveryRecord failed{id, "a", "stdout", "failed", 1, Timestamp{1001}, 3, "no answer", 503, Timestamp{2000}};
  ASSERT_TRUE(record(failed));
  EXPECT_TRUE(reader_->first_deliveries("stdout", 0, window)->empty());
  EXPECT_TRUE(reader_->due_retries("stdout", Timestamp{1999}, Timestamp{9000}, window)->empty());
  EXPECT_EQ(reader_->due_retries("stdout", Timestamp{100}, Timestamp{1500}, window)->size(), 1U) << "a clock set back";
  EXPECT_EQ(*reader_->next_retry("stdout", Timestamp{1}), Timestamp{2000});
  EXPECT_EQ(*reader_->oldest_undelivered("stdout"), Timestamp{1000});
  due = reader_->due_retries("stdout", Timestamp{2000}, Timestamp{9000}, window);
  ASSERT_EQ(due->size(), 1U);
  EXPECT_EQ(due->front().attempts, 1U);
  ASSERT_TRUE(record({id, "a", "stdout", "delivered", 2, Timestamp{2001}, 3, "", {}, {}}));
  EXPECT_EQ(*reader_->outbox_depth("stdout"), 0U);
  EXPECT_EQ(*reader_->outbox_depth("file"), 1U);
  auto rows = *reader_->database().prepare(
      "SELECT delivery_id, alert_id, sink, attempt, time, duration_ms, outcome, error, response_code FROM "
      "alert_deliveries ORDER BY 1");
  ASSERT_TRUE(*rows.step());
  EXPECT_EQ(rows.text(6), "failed");
  EXPECT_EQ(rows.integer(8), 503);
  ASSERT_TRUE(*rows.step());
  EXPECT_EQ(rows.text(6), "delivered");
  EXPECT_TRUE(rows.is_null(7));
}

TEST_F(AlertTest, DeadLettersAreKeptUntilTheyAreRetriedOrPurged) {
  make_dead_letters({"a", "b", "c"}, "file");
  auto letters = *reader_->dead_letters({}, INT64_MAX, 10);
  ASSERT_EQ(letters.size(), 3U);
  EXPECT_EQ(letters[0].alert_id, "c");
  EXPECT_EQ(letters[0].reason, "no");
  EXPECT_EQ(letters[0].response_code, 400);
  EXPECT_EQ(letters[0].attempts, 4U);
  EXPECT_EQ(letters[0].title, "A title");
  EXPECT_TRUE(reader_->dead_letters({"other"}, INT64_MAX, 10)->empty());
  EXPECT_EQ(*reader_->dead_letter_counts(), (std::map<std::string, std::uint64_t>{{"file", 3}}));
  std::uint64_t changed = 0;
  std::optional<std::int64_t> last;
  ASSERT_TRUE(change([&](auto& statements) -> Result<void> {
    DE_TRY(last, retry_dead_letters(statements, {{"file"}, {"b"}, {}}, Timestamp{7000}, 0, changed));
    return {};
  }));
  EXPECT_EQ(changed, 1U);
  EXPECT_EQ(last, 3);
  const auto again = *reader_->first_deliveries("file", 0, window);
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(again[0].alert.alert_id, "b");
  EXPECT_EQ(again[0].attempts, 0U);
  EXPECT_EQ(again[0].since, Timestamp{7000});
  ASSERT_TRUE(change([&](auto& statements) -> Result<void> {
    DE_TRY(last, purge_dead_letters(statements, {{}, {}, Timestamp{2001}}, 0, changed));
    return {};
  }));
  EXPECT_EQ(changed, 3U);
  EXPECT_TRUE(reader_->dead_letters({}, INT64_MAX, 10)->empty());
  ASSERT_TRUE(change([&](auto& statements) -> Result<void> {
    DE_TRY(last, purge_dead_letters(statements, {}, 0, changed));
    return {};
  }));
  EXPECT_EQ(last, std::nullopt);
}

TEST_F(AlertTest, AttemptsAndDeadLettersHaveAnAgeOfTheirOwn) {
  make_dead_letters({"old"}, "file");  // in 1970
  const auto now = base::wall_now();
  ASSERT_TRUE(raise(*writer_, {{make_alert("young", now.ns, ""), 0ms, {"file"}}}));
  const auto waiting = reader_->first_deliveries("file", 0, window);
  for (const auto& due : *waiting) {
    ASSERT_TRUE(record({due.outbox_id, "young", "file", "dead_letter", 4, now, 3, "no", {}, {}}));
  }
  reader_.reset();
  writer_->close(Deadline::after(10s));
  auto options = folder_.options();
  options.delivery_retention_days = 1;
  options.dead_letter_retention_days = 2;
  writer_ = *Writer::open(options);
  const auto deadline = Deadline::after(60s);
  while (writer_->state().retention_rows_removed < 2 && !deadline.expired()) std::this_thread::yield();
  reader_ = *Reader::open(folder_.file());
  const auto letters = *reader_->dead_letters({}, INT64_MAX, 10);
  ASSERT_EQ(letters.size(), 1U);
  EXPECT_EQ(letters[0].alert_id, "young");
  auto rows = *reader_->database().prepare("SELECT alert_id FROM alert_deliveries");
  ASSERT_TRUE(*rows.step());
  EXPECT_EQ(rows.text(0), "young");
  EXPECT_FALSE(*rows.step());
}

TEST_F(AlertTest, WhatWaitsForASinkThatIsGoneBecomesADeadLetter) {
  ASSERT_TRUE(raise(*writer_, {{make_alert("a", 1000), 0ms, {"stdout", "gone"}}}));
  std::size_t retired = 0;
  ASSERT_TRUE(change([&](auto& statements) -> Result<void> {
    DE_TRY(retired, retire_sinks(statements, {"stdout", "file"}, Timestamp{5000}));
    return {};
  }));
  EXPECT_EQ(retired, 1U);
  EXPECT_EQ(*reader_->outbox_depth("gone"), 0U);
  EXPECT_EQ(*reader_->outbox_depth("stdout"), 1U);
  const auto letters = *reader_->dead_letters({}, INT64_MAX, 10);
  ASSERT_EQ(letters.size(), 1U);
  EXPECT_EQ(letters[0].reason, no_such_sink);
  EXPECT_EQ(letters[0].sink, "gone");
}

TEST_F(AlertTest, ARateLimitHoldsAlertsBackAndASummaryStandsForThem) {
  const Route limited("pager", 2, 60s);
  std::vector<Writer::Raise> raises;
  for (int i = 0; i < 5; ++i) {
    auto alert = make_alert("alert " + std::to_string(i), 1'000'000 + i, "");
    if (i == 4) {
      alert.rule_id = "other";
      alert.severity = Severity::critical;
    }
    raises.push_back({alert, 0ms, {limited, "stdout"}});
  }
  ASSERT_TRUE(raise(*writer_, std::move(raises)));
  EXPECT_EQ(*reader_->outbox_depth("pager"), 2U);
  EXPECT_EQ(*reader_->outbox_depth("stdout"), 5U);
  EXPECT_EQ(reader_->rate_window("pager")->held, 3U);
  EXPECT_EQ(reader_->rate_window("pager")->started, Timestamp{1'000'000});
  EXPECT_EQ(*reader_->held_sinks(), std::vector<std::string>{"pager"});
  std::uint64_t held = 0;
  const auto summarize = [&](auto& statements) -> Result<void> {
    DE_TRY(held, write_summary(statements, "pager", make_alert("summary", 2'000'000, "")));
    return {};
  };
  ASSERT_TRUE(change(summarize));
  EXPECT_EQ(held, 3U);
  const auto due = *reader_->first_deliveries("pager", 0, window);
  ASSERT_EQ(due.size(), 3U);
  const auto& summary = due.back().alert;
  EXPECT_EQ(summary.rule_id, rate_limit_rule);
  EXPECT_EQ(summary.severity, Severity::critical);
  EXPECT_EQ(summary.title, "3 alerts were held back by the rate limit of sink pager");
  EXPECT_NE(summary.description.find("2 of rule (high), 1 of other (critical)"), std::string::npos)
      << summary.description;
  const auto row = nlohmann::json::parse(summary.row_json);
  EXPECT_EQ(row["held_back"], 3);
  EXPECT_EQ(row["counts"][1]["rule_id"], "other");
  ASSERT_TRUE(change(summarize));
  EXPECT_EQ(held, 0U) << "told once";
  // The next window.
  ASSERT_TRUE(raise(*writer_, {{make_alert("later", 61'000'000'000, ""), 0ms, {limited}}}));
  EXPECT_EQ(*reader_->outbox_depth("pager"), 4U);
}

TEST_F(AlertTest, AChangeOfStatusKeepsWhoAndWhy) {
  ASSERT_TRUE(raise(*writer_, {{make_alert("a", 1000), 0ms, {}}}));
  std::optional<std::string> before;
  const auto set = [&](StatusChange wanted) {
    return change([&before, wanted](auto& statements) -> Result<void> {
      DE_TRY(before, change_status(statements, wanted));
      return {};
    });
  };
  ASSERT_TRUE(set({"a", "acknowledged", "looking", "alice", Timestamp{5}}));
  EXPECT_EQ(before, "open");
  ASSERT_TRUE(set({"a", "acknowledged", "", "bob", Timestamp{6}}));
  EXPECT_EQ(before, "acknowledged");
  ASSERT_TRUE(set({"a", "closed", "", "alice", Timestamp{7}}));
  EXPECT_EQ((*reader_->alert("a"))->status, "closed");
  ASSERT_TRUE(set({"b", "closed", "", "alice", Timestamp{8}}));
  EXPECT_EQ(before, std::nullopt);
  const auto changes = *reader_->alert_changes("a");
  ASSERT_EQ(changes.size(), 2U);
  EXPECT_EQ(changes[0].actor, "alice");
  EXPECT_EQ(changes[0].note, "looking");
  EXPECT_EQ(changes[1].from, "acknowledged");
  EXPECT_EQ(changes[1].to, "closed");
}

TEST_F(AlertTest, AChangeOfSeveralIsOfAllOrOfNone) {
  for (const char* id : {"a", "b", "c"}) ASSERT_TRUE(raise(*writer_, {{make_alert(id, 1000, id), 0ms, {"stdout"}}}));
  std::vector<StatusOutcome> outcomes;
  const auto set = [&](const std::vector<std::string>& ids, const std::string& to) {
    return change([&, to](auto& statements) -> Result<void> {
      DE_TRY(outcomes, change_statuses(statements, ids, {{}, to, "", "alice", Timestamp{5}}));
      return {};
    });
  };
  ASSERT_TRUE(set({"b"}, "closed"));
  EXPECT_EQ(outcomes.at(0).from, "open");
  ASSERT_TRUE(set({"a", "b", "none"}, "acknowledged"));
  ASSERT_EQ(outcomes.size(), 3U);
  EXPECT_EQ(outcomes[0].refused, "");
  EXPECT_EQ(outcomes[1].refused, "it is closed: reopen it first");
  EXPECT_EQ(outcomes[2].refused, "there is no such alert");
  EXPECT_EQ((*reader_->alert("a"))->status, "open") << "none was changed";
  ASSERT_TRUE(set({"a", "c"}, "acknowledged"));
  EXPECT_EQ((*reader_->alert("c"))->status, "acknowledged");
}

TEST_F(AlertTest, WhatNoAttemptIsMadeForIsInTheTrail) {
  const Route limited("pager", 1, 60s);
  ASSERT_TRUE(raise(*writer_, {{make_alert("a", 1000, "a"), 0ms, {limited}},
                               {make_alert("b", 2000, "b"), 0ms, {limited}},
                               {make_alert("c", 3000, "c"), 0ms, {}}}));
  auto rows = *reader_->database().prepare(
      "SELECT alert_id, sink, attempt, outcome, error FROM alert_deliveries ORDER BY delivery_id");
  ASSERT_TRUE(*rows.step());
  EXPECT_EQ(rows.text(0), "b");
  EXPECT_EQ(rows.text(1), "pager");
  EXPECT_EQ(rows.integer(2), 0);
  EXPECT_EQ(rows.text(3), "held");
  EXPECT_EQ(rows.text(4), "over the sink's rate limit of 1 alerts in 60000 ms; counted in its summary");
  ASSERT_TRUE(*rows.step());
  EXPECT_EQ(rows.text(0), "c");
  EXPECT_EQ(rows.text(1), "");
  EXPECT_EQ(rows.text(3), "held");
  EXPECT_FALSE(*rows.step());
  EXPECT_EQ(*reader_->outbox_depth("pager"), 1U);
}

TEST_F(AlertTest, WhatIsKnownOfASinkIsKept) {
  std::promise<Result<void>> done;
  SinkRecord sink{"pager", "webhook", "open", 5, Timestamp{99}, Timestamp{1}, Timestamp{2}, "503"};
  writer_->record_deliveries({}, [&](auto result) { done.set_value(std::move(result)); }, {sink});
  ASSERT_TRUE(done.get_future().get());
  const auto records = *reader_->sink_records();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].breaker, "open");
  EXPECT_EQ(records[0].failures, 5U);
  EXPECT_EQ(records[0].open_until, Timestamp{99});
  EXPECT_EQ(records[0].last_success, Timestamp{1});
  EXPECT_EQ(records[0].last_error, "503");
}

TEST_F(AlertTest, ATestOfASinkLeavesItsAttemptOnly) {
  ASSERT_TRUE(raise(*writer_, {{make_alert("a", 1000), 0ms, {"stdout"}}}));
  ASSERT_TRUE(record({0, "test-1", "stdout", "failed", 0, Timestamp{2000}, 3, "refused", {}, {}}));
  EXPECT_EQ(*reader_->outbox_depth("stdout"), 1U);
  auto rows = *reader_->database().prepare("SELECT alert_id, attempt FROM alert_deliveries");
  ASSERT_TRUE(*rows.step());
  EXPECT_EQ(rows.text(0), "test-1");
  EXPECT_EQ(rows.integer(1), 0);
}

TEST_F(AlertTest, RowsAfterAPlaceComeInOrderAndInWindows) {
  for (const char* id : {"a", "b", "c"}) ASSERT_TRUE(raise(*writer_, {{make_alert(id, 1000, id), 0ms, {}}}));
  std::int64_t row = 0;
  EXPECT_EQ(reader_->alerts_after(row, {2, 1'000'000})->size(), 2U);
  const auto rest = *reader_->alerts_after(row, {2, 1'000'000});
  ASSERT_EQ(rest.size(), 1U);
  EXPECT_EQ(rest[0].alert_id, "c");
  EXPECT_EQ(row, *reader_->last_alert_row());
}

TEST_F(AlertTest, RulesAreReplacedAsAWhole) {
  const auto replace = [&](std::vector<RuleRow> rules) {
    std::promise<Result<void>> done;
    writer_->replace_rules(std::move(rules), [&](auto result) { done.set_value(std::move(result)); });
    return done.get_future().get();
  };
  ASSERT_TRUE(replace({{"a", "A", "low", "active", "healthy", "", "SELECT 1", "a.yaml", "v", Timestamp{5}},
                       {"b", "B", "low", "active", "unhealthy", "broken", "", "b.yaml", "v", Timestamp{5}}}));
  ASSERT_TRUE(replace({{"c", "C", "low", "active", "healthy", "", "SELECT 1", "c.yaml", "v", Timestamp{6}}}));
  auto rows = *reader_->database().prepare(
      "SELECT rule_id, title, severity, status, state, reason, sql, file, version, loaded_at FROM detection_rules");
  ASSERT_TRUE(*rows.step());
  EXPECT_EQ(rows.text(0), "c");
  EXPECT_TRUE(rows.is_null(5));
  EXPECT_FALSE(*rows.step());
}

TEST(AlertJson, IsOneLineWithTheColumnsOfTheContract) {
  const auto text = to_json(make_alert("a", 0));
  EXPECT_EQ(text.find('\n'), std::string::npos);
  const auto json = nlohmann::json::parse(text);
  for (const char* key :
       {"alert_id",    "time",     "last_seen",      "count",        "rule_id", "severity",        "title",
        "description", "status",   "process_key",    "pid",          "name",    "executable_path", "command_line",
        "row",         "evidence", "correlation_id", "completeness", "host",    "agent_version"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_EQ(json["time"], "1970-01-01T00:00:00.000000000Z");
  EXPECT_EQ(json["severity"], "high");
  EXPECT_EQ(json["pid"], 7);
  EXPECT_TRUE(json["command_line"].is_null());
  EXPECT_EQ(json["row"]["pid"], 7);
  EXPECT_EQ(json["ancestors"][0]["name"], "nginx");
  EXPECT_EQ(json["evidence"], nlohmann::json::parse("[3,5]"));
  EXPECT_EQ(json["completeness"]["status"], "degraded");
}

TEST(AlertJson, EmbedsWhatIsAnObjectAndQuotesWhatIsNot) {
  auto alert = make_alert("a", 0);
  const auto row_of = [&](const std::string& text) {
    alert.row_json = text;
    const auto json = nlohmann::json::parse(to_json(alert), nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << text;
    return json.is_discarded() ? json : json["row"];
  };
  for (const char* text :
       {"{}", " { } ", R"({"a":1,"b":[{"c":"}]\"" },[]],"d":null})", R"({"a\"b":"\\"})", R"({"x":-1.5e3})"}) {
    EXPECT_EQ(row_of(text), nlohmann::json::parse(text)) << text;
  }
  for (const char* text : {"[1]", "7", "{", R"({"a":1)", R"({"a":[1})", R"({"a":1}x)", R"({"a" 1})", R"({"a":"b)",
                           "{\"a\":\n1}", R"({"a":})", R"({a:1})", R"({"a":1,})"}) {
    EXPECT_EQ(row_of(text), text);
  }
}

}  // namespace
}  // namespace daemoneye::store
