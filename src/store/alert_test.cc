#include "store/alert.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

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
  return alert;
}

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

TEST_F(AlertTest, TheSameAlertRaisedAgainAfterACrashIsThereOnce) {
  ASSERT_TRUE(raise(*writer_, {{make_alert("a", 1000, ""), 0ms, {"stdout"}}}));
  EXPECT_TRUE(raise(*writer_, {{make_alert("a", 1000, ""), 0ms, {"stdout"}}})->front().merged);
  EXPECT_EQ((*reader_->alert("a"))->count, 1U);
  EXPECT_EQ(*reader_->outbox_depth("stdout"), 1U);
}

TEST_F(AlertTest, LeavesTheOutboxByDeliveryOrAsDeadLetterOnly) {
  ASSERT_TRUE(raise(*writer_, {{make_alert("a", 1000), 5min, {"stdout", "file"}}}));
  EXPECT_TRUE(reader_->due_deliveries("stdout", Timestamp{999}, 10)->empty());
  EXPECT_EQ(*reader_->next_delivery("stdout"), Timestamp{1000});
  auto due = reader_->due_deliveries("stdout", Timestamp{1000}, 10);
  ASSERT_EQ(due->size(), 1U);
  EXPECT_EQ(due->front().alert.alert_id, "a");
  const auto id = due->front().outbox_id;
  DeliveryRecord failed{id, "a", "stdout", "failed", 1, Timestamp{1001}, 3, "no answer", 503, Timestamp{2000}};
  ASSERT_TRUE(record(failed));
  EXPECT_TRUE(reader_->due_deliveries("stdout", Timestamp{1999}, 10)->empty());
  due = reader_->due_deliveries("stdout", Timestamp{2000}, 10);
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

}  // namespace
}  // namespace daemoneye::store
