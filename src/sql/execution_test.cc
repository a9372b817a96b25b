// How statements are run: what is told of their steps, and progress.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sql/connection.h"
#include "sql/test_store.h"

namespace daemoneye::sql {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ExecutionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    history_ = test::make_history(300, 7);
    test::fill_store(folder_ / "events.redb", history_, 8, 64);
    auto connection = Connection::open(folder_ / "events.redb", "");
    ASSERT_TRUE(connection) << connection.error().message;
    connection_ = *std::move(connection);
  }

  Result<RunStats> run(const std::string& text, const RunOptions& options = {}) {
    auto compiled = compile(text);
    if (!compiled) return fail(Errc::invalid_input, to_string(compiled.error(), text));
    rows_.clear();
    return connection_->run(*compiled, options, [&](const Row& row) {
      rows_.push_back(row);
      return true;
    });
  }

  test::TemporaryFolder folder_;
  std::vector<event::ProcessEvent> history_;
  std::unique_ptr<Connection> connection_;
  std::vector<Row> rows_;
};

TEST_F(ExecutionTest, TellsWhatEachStepPushedReadAndGave) {
  RunOptions options;
  options.explain = true;
  const auto stats = run(
      "SELECT e.pid FROM process_events e JOIN processes p ON p.process_key = e.parent_key WHERE e.name = 'bash' AND "
      "e.time > '2026-11-21 20:48:30' AND abs(e.pid) > 1",
      options);
  ASSERT_TRUE(stats) << stats.error().message;
  ASSERT_EQ(stats->steps.size(), 2U);
  const auto& outer = stats->steps[0].alias == "e" ? stats->steps[0] : stats->steps[1];
  const auto& inner = stats->steps[0].alias == "e" ? stats->steps[1] : stats->steps[0];
  EXPECT_EQ(outer.table, "process_events");
  EXPECT_THAT(outer.pushed, Contains("name = 'bash'"));
  EXPECT_THAT(outer.pushed, Contains(HasSubstr("time > ")));
  EXPECT_THAT(outer.columns, Contains("parent_key"));
  EXPECT_EQ(outer.begun, 1U);
  EXPECT_EQ(outer.blocks_total, outer.blocks_read + outer.blocks_skipped);
  EXPECT_GT(outer.blocks_total, 0U);
  EXPECT_GT(outer.rows, 0U);
  EXPECT_GT(outer.elapsed.count(), 0);
  EXPECT_EQ(inner.alias, "p");
  EXPECT_THAT(inner.pushed, ElementsAre("process_key = ?"));
  EXPECT_EQ(inner.begun, outer.rows);
}

TEST_F(ExecutionTest, ReportsItsProgress) {
  RunOptions options;
  std::vector<Progress> told;
  options.progress = [&](const Progress& progress) { told.push_back(progress); };
  // Whether anything is told depends on how long it takes: what is told must be true.
  ASSERT_TRUE(run("SELECT count(*) FROM process_events a, process_events b WHERE a.uid = b.uid", options));
  for (const auto& one : told) EXPECT_LE(one.blocks_done, one.blocks_total);
}

}  // namespace
}  // namespace daemoneye::sql
