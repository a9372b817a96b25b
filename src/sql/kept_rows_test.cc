// Whether the inner side of a join is read again or kept, its rows are the same; and what is not read for it.
#include "sql/kept_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sql/test_store.h"

namespace daemoneye::sql {
namespace {

class KeptRowsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    test::fill_store(folder_ / "events.redb", test::make_history(1500, 7), 16, 64);
    auto connection = Connection::open(folder_ / "events.redb", "");
    ASSERT_TRUE(connection) << connection.error().message;
    connection_ = *std::move(connection);
  }
  std::vector<Row> ask(const std::string& text, double patience) {
    RunOptions options;
    options.patience_with_joins = patience;
    options.deadline = Deadline::after(std::chrono::minutes(2));
    const auto compiled = compile(text);
    EXPECT_TRUE(compiled) << text;
    std::vector<Row> rows;
    const auto stats = connection_->run(*compiled, options, [&](const Row& row) {
      rows.push_back(row);
      return true;
    });
    EXPECT_TRUE(stats) << stats.error().message;
    if (stats) stats_ = *stats;
    std::ranges::sort(rows);
    return rows;
  }
  bool kept() const {
    return std::ranges::any_of(stats_.steps, [](const Step& step) { return step.rewrite.starts_with("kept by"); });
  }

  const test::TemporaryFolder folder_;
  std::unique_ptr<Connection> connection_;
  RunStats stats_;
};

TEST_F(KeptRowsTest, AreThoseThatReadingAgainGives) {
  constexpr double at_once = 0, never = 1e300;
  for (const std::string& text : {
           // The set of an IN changes with the outer row too.
           std::string(
               "SELECT count(*) FROM (SELECT parent_key pp, name n FROM process_events WHERE event_id <= 150) a "
               "WHERE EXISTS (SELECT 1 FROM process_events b WHERE b.process_key = a.pp AND b.name IN (SELECT "
               "value FROM json_each(json_array(a.n, 'bash'))))"),
           std::string("SELECT a.e, (SELECT count(*) FROM process_events b WHERE b.uid = a.u AND b.name IN (SELECT "
                       "c.name FROM process_events c WHERE c.event_id = a.e)) FROM (SELECT event_id e, uid u FROM "
                       "process_events WHERE event_id <= 60) a"),
           std::string(
               "SELECT a.event_id, (SELECT count(*) FROM process_events b WHERE b.kind = 'exec' AND b.pid = a.pid "
               "AND b.event_id IN (a.event_id, a.event_id + 1)) FROM process_events a WHERE a.event_id <= 150"),
           // It stays the same, small and large.
           std::string("SELECT a.event_id, b.event_id FROM process_events a CROSS JOIN process_events b ON "
                       "b.parent_key = a.process_key AND b.name IN ('bash', 'sh') WHERE a.event_id <= 150"),
           std::string("SELECT a.event_id, b.event_id FROM process_events a CROSS JOIN process_events b ON "
                       "b.parent_key = a.process_key AND b.pid IN (SELECT pid FROM process_events) WHERE a.event_id <= "
                       "60"),
           // Texts that are read when their row is wanted.
           std::string(
               "SELECT a.event_id, b.command_line, b.arguments, b.detail, b.name FROM process_events a CROSS JOIN "
               "process_events b ON b.parent_key = a.process_key AND b.kind = 'exec' WHERE a.kind = 'exec'"),
           std::string("SELECT a.event_id, b.command_line, b.pid FROM process_events a CROSS JOIN process_events b ON "
                       "b.command_line = a.command_line AND b.kind = 'exec' WHERE a.event_id <= 150"),
           std::string("SELECT a.event_id, b.status, b.exit_code FROM process_events a LEFT JOIN processes b ON "
                       "b.process_key = a.parent_key AND b.name IN ('bash', a.name) WHERE a.event_id <= 400"),
       }) {
    const auto again = ask(text, never);
    EXPECT_FALSE(kept()) << text;
    const auto from_memory = ask(text, at_once);
    EXPECT_TRUE(kept()) << text;
    EXPECT_EQ(again, from_memory) << text;
    EXPECT_FALSE(again.empty());
  }
}

TEST_F(KeptRowsTest, SetsOfThousandsOfValuesArePassedOn) {
  const auto rows =
      ask("SELECT count(*), sum(e.event_id) FROM process_events e WHERE e.parent_key IN (SELECT p.process_key FROM "
          "process_events p WHERE p.kind <> 'exit') AND e.cpu_usage + 0 >= 0",
          1);
  const auto plain = ask(
      "SELECT count(*), sum(e.event_id) FROM process_events e WHERE e.parent_key || '' IN (SELECT p.process_key FROM "
      "process_events p WHERE p.kind <> 'exit') AND e.cpu_usage + 0 >= 0",
      1);
  EXPECT_EQ(rows, plain);
  const auto made = ask("SELECT count(DISTINCT p.process_key) FROM process_events p WHERE p.kind <> 'exit'", 1);
  ASSERT_GT(std::get<std::int64_t>(made[0][0]), 900);
  // More than a statement may list.
  const auto met = ask(
      "SELECT count(*) FROM process_events WHERE event_id IN (SELECT 3 * event_id FROM process_events UNION ALL SELECT "
      "event_id FROM process_events)",
      1);
  EXPECT_EQ(std::get<std::int64_t>(met[0][0]), 1500);
  std::uint64_t scanned = 0;
  ask("SELECT e.event_id FROM process_events e WHERE e.pid IN (SELECT p.pid + 100000 FROM process_events p UNION "
      "SELECT "
      "150)",
      1);
  for (const auto& step : stats_.steps) scanned = std::max(scanned, step.rows_scanned);
  EXPECT_EQ(scanned, 1500U);  // of the subquery; of the outer table only what has such a pid
  EXPECT_LT(std::ranges::min_element(stats_.steps, {}, &Step::rows_scanned)->rows_scanned, 10U);
}

// JOIN, IN and EXISTS of events with events read each side once; where that could cost more, rows are looked up.
TEST_F(KeptRowsTest, JoinsOfEventsReadEachSideOnce) {
  const std::string of_parent = "p.name = 'bash' AND p.event_id > 20 AND p.kind = 'exec'";
  const std::string children = "SELECT c.event_id FROM process_events c";
  const auto plain =
      ask(children +
              " WHERE c.kind = 'exec' AND c.parent_key || '' IN (SELECT p.process_key FROM process_events "
              "p WHERE " +
              of_parent + ")",
          1);
  ASSERT_FALSE(plain.empty());
  const auto passed = [&] {
    return std::ranges::any_of(stats_.steps,
                               [](const Step& step) { return step.rewrite.ends_with(" values of parent_key"); });
  };
  for (const std::string& text :
       {children + " JOIN process_events p ON p.process_key = c.parent_key WHERE c.kind = 'exec' AND " + of_parent,
        "SELECT c.event_id FROM process_events p, process_events c WHERE c.parent_key = p.process_key AND c.kind = "
        "'exec' AND " +
            of_parent,
        children +
            " WHERE c.kind = 'exec' AND EXISTS (SELECT 1 FROM process_events p WHERE p.process_key = c.parent_key "
            "AND " +
            of_parent + ")"}) {
    EXPECT_EQ(ask(text, 1), plain) << text;
    EXPECT_TRUE(passed()) << text;
    EXPECT_EQ(stats_.steps.size(), 2U) << text;
    for (const auto& step : stats_.steps) EXPECT_EQ(step.begun, 1U) << text;
  }
  for (const std::string& text :
       {// No lower bound, nothing that picks, one process alone, NULL that shows.
        children +
            " WHERE EXISTS (SELECT 1 FROM process_events p WHERE p.process_key = c.parent_key AND p.name = 'bash')",
        children +
            " WHERE EXISTS (SELECT 1 FROM process_events p WHERE p.process_key = c.parent_key AND p.event_id > 20)",
        children +
            " WHERE c.pid = 120 AND EXISTS (SELECT 1 FROM process_events p WHERE p.process_key = c.parent_key AND " +
            of_parent + ")",
        "SELECT EXISTS (SELECT 1 FROM process_events p WHERE p.process_key = c.parent_key AND " + of_parent +
            ") FROM process_events c"}) {
    ask(text, 1);
    EXPECT_FALSE(passed()) << text;
  }
}

}  // namespace
}  // namespace daemoneye::sql
