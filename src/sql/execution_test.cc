// How statements are run: what is told of their steps, and progress.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

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

// The parents are read once and kept, in a join and in a subquery that is begun for each row.
TEST_F(ExecutionTest, ReadsTheInnerSideOfAJoinOnceWhenThatIsCheaper) {
  const std::string inner = "p.process_key = e.parent_key AND p.kind = 'exec'";
  std::vector<std::size_t> found;
  for (const std::string& text :
       {"SELECT e.event_id FROM process_events e JOIN process_events p ON " + inner,
        "SELECT e.event_id FROM process_events e WHERE EXISTS (SELECT 1 FROM process_events p WHERE " + inner + ")",
        std::string(
            "SELECT e.event_id FROM process_events e WHERE e.parent_key IN (SELECT p.process_key FROM process_events p "
            "WHERE "
            "p.kind = 'exec')")}) {
    const auto stats = run(text);
    ASSERT_TRUE(stats) << stats.error().message;
    found.push_back(rows_.size());
    if (stats->steps.size() == 2 && stats->steps[1].begun > 1) {
      EXPECT_EQ(stats->steps[1].rewrite, "kept by process_key") << text;
      EXPECT_LT(stats->steps[1].blocks_read, 60U) << text;
    }
  }
  EXPECT_EQ(found[0], found[1]);
  EXPECT_EQ(found[1], found[2]);
  EXPECT_GT(found[0], 20U);
}

TEST_F(ExecutionTest, EndsAGreedyStatementByNameAndLeavesTheNextAlone) {
  RunOptions options;
  options.memory_limit = 8 * 1024 * 1024;
  const auto greedy = run(
      "SELECT length(group_concat(a.command_line || b.process_key)) FROM process_events a, process_events b", options);
  ASSERT_FALSE(greedy);
  EXPECT_EQ(greedy.error().code, Errc::limit_exceeded);
  EXPECT_EQ(greedy.error().message, "memory limit of 8 MiB reached");

  options.temporary_limit = 1024 * 1024;
  const std::string sorted =
      "SELECT a.process_key || b.process_key AS k FROM process_events a, process_events b ORDER BY k DESC";
  const auto spilled = run(sorted, options);
  ASSERT_FALSE(spilled);
  EXPECT_EQ(spilled.error().code, Errc::limit_exceeded);
  EXPECT_EQ(spilled.error().message, "temporary storage limit of 1 MiB reached");

  // Neither has harmed the connection, and with room both end as they should.
  const auto after = run(sorted);
  ASSERT_TRUE(after) << after.error().message;
  EXPECT_EQ(rows_.size(), history_.size() * history_.size());
  EXPECT_GT(after->temporary_written, 1024U * 1024U);
  EXPECT_GT(after->peak_memory, 0U);
}

// The limit is the query's: the writer beside it, in the same process, has all the memory it wants.
TEST_F(ExecutionTest, AGreedyStatementDoesNotTouchTheWriter) {
  store::StoreOptions store_options;
  store_options.path = folder_ / "events.redb";
  store_options.retention_days = 0;
  auto writer = store::Writer::open(store_options);
  ASSERT_TRUE(writer) << writer.error().message;
  std::atomic<bool> ended = false;
  std::atomic<int> refused = 0;
  std::thread greedy([&] {
    auto other = *Connection::open(folder_ / "events.redb", "");
    const auto compiled = compile(
        "SELECT length(group_concat(a.process_key || x)) FROM process_events a, (SELECT replace(printf('%0500d', 0), "
        "'0', printf('%0500d', 0)) AS x)");
    RunOptions options;
    options.memory_limit = 2 * 1024 * 1024;
    while (!ended) {
      const auto stats = other->run(*compiled, options, [](const Row&) { return true; });
      if (!stats && stats.error().message == "memory limit of 2 MiB reached") ++refused;
    }
  });
  event::BatchId id;
  id.source = "procmond";
  id.epoch.fill(9);
  int committed = 0;
  const auto deadline = Deadline::after(std::chrono::seconds(60));
  // Commits go on all the time that the other is refused again and again.
  while ((committed < 50 || refused < 3) && !deadline.expired()) {
    event::Batch batch;
    batch.id = id;
    batch.id.sequence = ++id.sequence;
    batch.events = {history_.front()};
    auto bytes = *event::encode_batch(batch);
    const auto digest = event::batch_digest(bytes);
    std::promise<bool> done;
    (*writer)->commit_batch(batch.id, bytes, digest, "",
                            [&](const Result<store::Commit>& result) { done.set_value(result.has_value()); });
    ASSERT_TRUE(done.get_future().get());
    ++committed;
  }
  ended = true;
  greedy.join();
  EXPECT_GE(committed, 50);
  EXPECT_GE(refused, 3);
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
