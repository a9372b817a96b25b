#include "event/process.h"

#include <gtest/gtest.h>

#include "event/completeness.h"
#include "event/process_event.h"
#include "event/task.h"
#include "event/testing/random_event.h"

namespace daemoneye::event {
namespace {

TEST(ProcessKey, TextComesBack) {
  testing::RandomEvents random(1);
  for (int i = 0; i < 200; ++i) {
    const auto key = random.key();
    EXPECT_EQ(parse_process_key(to_string(key)).value(), key);
  }
  ProcessKey key{{0xab}, 7, 99};
  EXPECT_EQ(to_string(key), "ab000000000000000000000000000000-7-99");
}

TEST(ProcessKey, HasOneText) {
  const std::string boot = "ab000000000000000000000000000000";
  for (const std::string& bad : std::initializer_list<std::string>{
           std::string(), boot, boot + "-7", boot + "-7-", boot + "-07-99", boot + "-7-099", boot + "-7-99 ",
           "AB000000000000000000000000000000-7-99", boot + "-4294967296-1", boot + "-7-18446744073709551616",
           boot + "-+7-1", boot + "-7-99-1", boot.substr(2) + "-7-99"}) {
    EXPECT_FALSE(parse_process_key(bad)) << bad;
  }
}

TEST(Arguments, NoneAndOneEmptyDiffer) {
  EXPECT_EQ(Arguments::from_list({}).json(), "[]");
  EXPECT_EQ(Arguments::from_list({""}).json(), R"([""])");
  EXPECT_NE(Arguments::from_list({}), Arguments::from_list({""}));
  EXPECT_EQ(Arguments::from_nul_separated("").list().size(), 0U);
  EXPECT_EQ(Arguments::from_nul_separated(std::string_view("\0", 1)).list().size(), 1U);
}

TEST(Arguments, CommandLineJoinsByOneSpaceAndQuotesNothing) {
  const auto arguments = Arguments::from_list({"sh", "-c", "echo 'a  b'", ""});
  EXPECT_EQ(arguments.command_line(), "sh -c echo 'a  b' ");
  EXPECT_EQ(arguments.json(), R"(["sh","-c","echo 'a  b'",""])");
}

TEST(Arguments, MissingLastNulIsAddedAndEmbeddedNulEnds) {
  EXPECT_EQ(Arguments::from_nul_separated(std::string_view("a\0b", 3)), Arguments::from_list({"a", "b"}));
  EXPECT_EQ(Arguments::from_list({std::string("a\0b", 3)}), Arguments::from_list({"a"}));
}

TEST(Names, ComeBackForEveryEnumerator) {
  for (const auto* text : {"running", "sleeping", "stopped", "zombie", "exited"}) {
    EXPECT_EQ(to_string(parse_process_status(text).value()), text);
  }
  for (const auto* text : {"ok", "deleted", "replaced", "memfd", "unreadable", "kernel"}) {
    EXPECT_EQ(to_string(parse_executable_state(text).value()), text);
  }
  for (const auto* text : {"exec", "exit", "seen", "change", "gap", "fork"}) {
    EXPECT_EQ(to_string(parse_event_kind(text).value()), text);
  }
  for (const auto* text : {"ebpf", "netlink", "scan", "import"}) {
    EXPECT_EQ(to_string(parse_event_source(text).value()), text);
  }
  EXPECT_FALSE(parse_process_status("") || parse_executable_state("x") || parse_event_kind("x") ||
               parse_event_source("x"));
}

TEST(Gap, DetailComesBack) {
  for (const Gap& gap :
       {Gap{"events_lost", Timestamp{-5}, Timestamp{7}, 0}, Gap{"a \"b\"", Timestamp{1}, Timestamp{1}, {}}}) {
    const auto event = make_gap_event(gap, EventSource::ebpf, Timestamp{9});
    EXPECT_EQ(event.kind, EventKind::gap);
    EXPECT_EQ(event.time, Timestamp{9});
    EXPECT_EQ(event.process.collection_time, Timestamp{9});
    EXPECT_EQ(parse_gap(event.detail).value(), gap);
  }
}

// The clock was set back between the two readings.
TEST(Gap, IsInOrderWhateverTheClockDid) {
  const Gap ordered{"events_lost", Timestamp{2}, Timestamp{3}, 4};
  const auto event = make_gap_event({"events_lost", Timestamp{3}, Timestamp{2}, 4}, EventSource::ebpf, Timestamp{9});
  EXPECT_EQ(event.detail, make_gap_event(ordered, EventSource::ebpf, Timestamp{9}).detail);
  EXPECT_EQ(parse_gap(R"({"reason":"events_lost","from":3,"to":2,"count":4})").value(), ordered);
}

TEST(Gap, RefusesOtherDetails) {
  for (const auto* bad :
       {"", "1", "{}", R"({"reason":1,"from":1,"to":2})", R"({"reason":"r","from":"1","to":2})",
        R"({"reason":"r","from":1})", R"({"reason":"r","from":1,"to":2,"count":-1})",
        R"({"reason":"r","from":1,"to":2,"count":1.5})", R"({"reason":"r","from":1,"to":18446744073709551615})"}) {
    EXPECT_FALSE(parse_gap(bad)) << bad;
  }
}

TEST(Completeness, JsonIsAsInTheContract) {
  EXPECT_EQ(to_json({}), R"({"status":"complete"})");
  Completeness lost{{{"events_lost", 3, Timestamp{0}, Timestamp{1'000'000'000}}, {"late", {}, {}, {}}}};
  EXPECT_EQ(
      to_json(lost),
      R"({"status":"degraded","reasons":[{"reason":"events_lost","count":3,"from":"1970-01-01T00:00:00.000000000Z",)"
      R"("to":"1970-01-01T00:00:01.000000000Z"},{"reason":"late"}]})");
  EXPECT_EQ(to_json(lost, true),
            R"({"status":"degraded","reasons":[{"reason":"events_lost","count":3,"from":0,"to":1000000000},)"
            R"({"reason":"late"}]})");
}

TEST(Completeness, ComesBackFromBothForms) {
  Completeness lost{{{"events_lost", 3, Timestamp{0}, Timestamp{1'000'000'001}}, {"late", {}, Timestamp{-1}, {}}}};
  EXPECT_EQ(parse_completeness(to_json(lost)).value(), lost);
  EXPECT_EQ(parse_completeness(to_json(lost, true)).value(), lost);
  EXPECT_EQ(parse_completeness(to_json({})).value(), Completeness());
}

TEST(Completeness, NeverReadsNonsenseAsComplete) {
  for (const auto* bad :
       {"", "{}", "[]", R"({"status":"fine"})", R"({"status":"degraded"})", R"({"status":"degraded","reasons":[]})",
        R"({"status":"degraded","reasons":[{}]})", R"({"status":"complete","reasons":[{"reason":"late"}]})",
        R"({"status":"degraded","reasons":[{"reason":"late","count":"3"}]})",
        R"({"status":"degraded","reasons":[{"reason":"late","from":true}]})"}) {
    EXPECT_FALSE(parse_completeness(bad)) << bad;
  }
}

TEST(TimeRange, OpenEndsReachEverywhere) {
  EXPECT_TRUE(TimeRange().overlaps(Timestamp{1}, Timestamp{2}));
  const TimeRange range{Timestamp{10}, Timestamp{20}};
  EXPECT_TRUE(range.overlaps(Timestamp{20}, Timestamp{30}));
  EXPECT_TRUE(range.overlaps(Timestamp{0}, Timestamp{10}));
  EXPECT_FALSE(range.overlaps(Timestamp{21}, Timestamp{30}));
  EXPECT_FALSE(range.overlaps(Timestamp{0}, Timestamp{9}));
}

TEST(DetectionTask, BuilderFillsEveryPart) {
  const auto task = DetectionTask::builder()
                        .with_rule_id("rule")
                        .with_query("uid = 0")
                        .with_rule_type(RuleType::NetworkMonitor)
                        .with_threshold(5)
                        .with_timeout(std::chrono::milliseconds(10))
                        .build();
  ASSERT_TRUE(task);
  EXPECT_EQ(task->task_id.rfind("rule-", 0), 0U);
  EXPECT_EQ(task->parameters.filter, "uid = 0");
  EXPECT_EQ(task->rule_type, RuleType::NetworkMonitor);
  EXPECT_EQ(task->parameters.threshold, 5U);
  EXPECT_EQ(task->timeout, std::chrono::milliseconds(10));
}

TEST(DetectionTask, IdsDifferAndTimeoutsAreBounded) {
  auto builder = DetectionTask::builder();
  EXPECT_NE(builder.build()->task_id, builder.build()->task_id);
  EXPECT_TRUE(builder.with_timeout(std::chrono::hours(1)).build());
  EXPECT_FALSE(builder.with_timeout(std::chrono::hours(1) + std::chrono::milliseconds(1)).build());
  EXPECT_FALSE(builder.with_timeout(std::chrono::milliseconds(0)).build());
}

TEST(CollectionError, HasTheMessagesOfTheContract) {
  EXPECT_EQ(to_string(CollectionError(PermissionDenied{7})), "Permission denied accessing process 7");
  EXPECT_EQ(to_string(CollectionError(ProcessNotFound{7})), "Process 7 no longer exists");
  EXPECT_EQ(to_string(CollectionError(DatabaseError{"disk"})), "Database operation failed: disk");
  EXPECT_EQ(to_string(CollectionError(IpcError{"cut"})), "IPC communication failed: cut");
}

}  // namespace
}  // namespace daemoneye::event
