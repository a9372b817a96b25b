// processes: one row an instance however it is read, and what is missing of it said.
#include "sql/instances.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sql/test_store.h"
#include "store/block_format.h"

namespace daemoneye::sql {
namespace {

class InstancesTest : public ::testing::Test {
 protected:
  void store(const std::vector<event::ProcessEvent>& history, std::uint32_t block_events = 64) {
    test::fill_store(file_, history, 8, block_events);
    open();
  }
  void open() {
    auto connection = Connection::open(file_, "");
    ASSERT_TRUE(connection) << connection.error().message;
    connection_ = *std::move(connection);
  }
  std::vector<Row> ask(const std::string& text, const RunOptions& options = {}) {
    std::vector<Row> rows;
    const auto compiled = compile(text);
    EXPECT_TRUE(compiled) << text;
    if (!compiled) return rows;
    const auto stats = connection_->run(*compiled, options, [&](const Row& row) {
      rows.push_back(row);
      return true;
    });
    EXPECT_TRUE(stats) << stats.error().message << "\n" << text;
    if (stats) stats_ = *stats;
    return rows;
  }
  std::int64_t number(const std::string& text, const RunOptions& options = {}) {
    const auto rows = ask(text, options);
    return rows.empty() ? -1 : std::get<std::int64_t>(rows[0][0]);
  }
  bool tells_damage() const {
    return std::ranges::any_of(stats_.completeness.reasons,
                               [](const auto& reason) { return reason.reason == "corrupt_block"; });
  }
  void damage_column(std::int64_t block, event::Column column) {
    sqlite3* handle = nullptr;
    ASSERT_EQ(sqlite3_open(file_.c_str(), &handle), SQLITE_OK);
    const auto sql = "UPDATE chunks SET data=CAST(substr(data,1,20)||x'ff'||substr(data,22) AS BLOB) WHERE chunk_id=" +
                     std::to_string(store::chunk_id(block, static_cast<std::uint8_t>(column)));
    EXPECT_EQ(sqlite3_exec(handle, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(handle);
    EXPECT_EQ(sqlite3_changes(handle), 1);
    sqlite3_close(handle);
  }

  const test::TemporaryFolder folder_;
  const std::string file_ = folder_ / "events.redb";
  std::unique_ptr<Connection> connection_;
  RunStats stats_;
};

TEST_F(InstancesTest, AProcessThatEndedSeveralTimesIsOneRowHoweverItIsRead) {
  auto history = test::make_history(200, 5);
  std::vector<event::ProcessEvent> exits;
  for (const auto& event : history) {
    if (event.kind == event::EventKind::exit) exits.push_back(event);
  }
  ASSERT_GT(exits.size(), 40U);  // more than are looked up one by one
  const auto once = exits.size();
  for (int again = 1; again <= 2; ++again) {
    for (auto event : exits) {
      event.process.exit_code = 100 * again;
      event.time = event.process.collection_time = Timestamp{history.back().time.ns + 1};
      history.push_back(event);
    }
  }
  store(history);
  for (const std::string everywhere : {"", " AND name || '' <> '?'"}) {
    EXPECT_EQ(number("SELECT count(*) FROM processes WHERE status = 'exited'" + everywhere),
              static_cast<std::int64_t>(once));
  }
  EXPECT_EQ(number("SELECT count(*) FROM processes WHERE exit_code = 200"), static_cast<std::int64_t>(once));
  EXPECT_EQ(number("SELECT count(*) FROM processes WHERE exit_code = 100"), 0) << "an older end is no row";
  const auto key = event::to_string(exits[3].process.key);
  for (const std::string form : {"process_key = '", "process_key || '' = '"}) {
    const auto rows = ask("SELECT exit_code FROM processes WHERE " + form + key + "'");
    ASSERT_EQ(rows.size(), 1U) << form;
    EXPECT_EQ(rows[0][0], event::Value(std::int64_t{200})) << form;
  }
  for (const double patience : {0.0, 1e9}) {
    RunOptions options;
    options.patience_with_joins = patience;
    EXPECT_EQ(
        number("SELECT count(*) FROM (SELECT process_key k FROM process_events WHERE kind = 'exit' AND event_id <= "
               "200) a LEFT JOIN processes b ON b.process_key = a.k",
               options),
        static_cast<std::int64_t>(once));
  }
  // Within a history that ends before the second time, the first is the newest.
  RunOptions early;
  early.history.to = history[199].time;
  EXPECT_EQ(number("SELECT count(*) FROM processes WHERE exit_code < 100 AND exit_code + 0 < 100", early),
            static_cast<std::int64_t>(once));
}

TEST_F(InstancesTest, ALiveProcessIsNotAlsoAnEndedOne) {
  auto history = test::make_history(40, 9);
  auto exit = *std::ranges::find_if(history, [](const auto& one) { return one.kind == event::EventKind::exit; });
  auto again = exit;  // heard of once more, after its end
  again.kind = event::EventKind::seen;
  again.process.exit_time.reset();
  again.process.exit_code.reset();
  again.process.status = event::ProcessStatus::running;
  again.time = again.process.collection_time = Timestamp{history.back().time.ns + 1};
  history.push_back(again);
  store(history, 8);
  const auto key = event::to_string(exit.process.key);
  const auto by_key = ask("SELECT status FROM processes WHERE process_key = '" + key + "'");
  const auto by_scan = ask("SELECT status FROM processes WHERE process_key || '' = '" + key + "'");
  ASSERT_EQ(by_key.size(), 1U);
  EXPECT_EQ(by_key, by_scan);
  EXPECT_EQ(number("SELECT count(*) FROM processes WHERE status = 'exited' AND process_key || '' = '" + key + "'"),
            by_key[0][0] == event::Value(std::string("exited")) ? 1 : 0);
}

TEST_F(InstancesTest, WhatLiesInDamagedBlocksIsMissedAloud) {
  const auto history = test::make_history(300, 7);
  store(history);
  connection_.reset();
  const event::ProcessEvent* lost = nullptr;
  for (std::size_t i = 70; i < 120; ++i) {
    if (history[i].kind == event::EventKind::exit && history[i].process.parent_key) lost = &history[i];
  }
  ASSERT_NE(lost, nullptr);
  const auto key = event::to_string(lost->process.key);
  open();
  EXPECT_EQ(number("SELECT count(*) FROM processes WHERE process_key = '" + key + "'"), 1);
  EXPECT_FALSE(tells_damage());
  connection_.reset();
  for (const std::int64_t block : {1, 2, 3}) damage_column(block, event::Column::process_key);
  open();
  EXPECT_EQ(number("SELECT count(*) FROM processes WHERE process_key = '" + key + "'"), 0);
  EXPECT_TRUE(tells_damage());
  EXPECT_EQ(number("SELECT count(*) FROM ancestors('" + key + "')"), 0);
  EXPECT_TRUE(tells_damage());
  EXPECT_EQ(number("SELECT count(*) FROM descendants('" + key + "')"), 0);
  EXPECT_TRUE(tells_damage());
  for (int time = 0; time < 2; ++time) {  // the second time from memory
    EXPECT_EQ(number("SELECT has_ancestor('" + key + "', 'nobody')"), 0);
    EXPECT_TRUE(tells_damage());
  }
  EXPECT_EQ(number("SELECT 1"), 1);
  EXPECT_FALSE(tells_damage());
}

// The column is not read at all before a row is wanted; that it is damaged is known all the same.
TEST_F(InstancesTest, ADamagedColumnThatIsReadLateCostsItsBlockAsEver) {
  const auto history = test::make_history(300, 7);
  store(history);
  const auto all = number("SELECT count(*) FROM process_events e WHERE e.command_line || '' <> '?'");
  connection_.reset();
  damage_column(2, event::Column::arguments);
  open();
  EXPECT_LT(number("SELECT count(*) FROM process_events e WHERE e.command_line || '' <> '?'"), all);
  EXPECT_TRUE(tells_damage());
  RunOptions at_once;
  at_once.patience_with_joins = 0;
  const auto rows =
      ask("SELECT e.event_id, e.command_line FROM process_events p CROSS JOIN process_events e ON e.parent_key = "
          "p.process_key WHERE p.kind = 'exec' AND e.kind = 'exec' AND e.command_line || '' <> '?'",
          at_once);
  EXPECT_TRUE(tells_damage());
  EXPECT_FALSE(rows.empty());
  for (const auto& row : rows) EXPECT_TRUE(std::holds_alternative<std::string>(row[1]));
}

TEST_F(InstancesTest, LineageCostsWhatItIsLongAcrossHundredsOfBlocks) {
  constexpr std::uint32_t depth = 60;
  std::vector<event::ProcessEvent> history;
  const auto add = [&](event::EventKind kind, std::uint32_t pid, std::optional<std::uint32_t> parent) {
    event::ProcessEvent event;
    event.kind = kind;
    event.source = event::EventSource::ebpf;
    event.time = Timestamp{test::start_of_history + static_cast<std::int64_t>(history.size()) * test::second};
    event.process.key = test::key_of(pid, pid);
    event.process.name = "p" + std::to_string(pid);
    event.process.collection_time = event.time;
    if (parent) event.process.parent_key = test::key_of(*parent, *parent);
    history.push_back(std::move(event));
  };
  // A chain of which each ends in a block of its own, five blocks after the one before.
  for (std::uint32_t i = 1; i <= depth; ++i) {
    add(event::EventKind::exec, i, i == 1 ? std::nullopt : std::optional(i - 1));
    add(event::EventKind::exit, i, i == 1 ? std::nullopt : std::optional(i - 1));
    for (std::uint32_t other = 0; other < 38; ++other) {
      const auto pid = 1000 * i + other / 2;
      add(other % 2 == 0 ? event::EventKind::exec : event::EventKind::exit, pid, std::nullopt);
    }
  }
  store(history, 8);
  const auto read = [&](std::uint32_t from) {
    const auto key = event::to_string(test::key_of(from, from));
    EXPECT_EQ(number("SELECT count(*) FROM ancestors('" + key + "')"), from - 1);
    return stats_.scan.blocks_read;
  };
  // How many blocks there are depends on how far the sealing was behind the commits.
  const auto first = read(depth);  // every filter is read once
  EXPECT_GT(first, depth);
  const auto again = read(depth);  // some filters say yes by chance
  // Without filters each look-up would read half of the blocks.
  EXPECT_LE(again, first * depth / 2 / 8);
  EXPECT_LT(read(depth / 4), again);
  EXPECT_EQ(number("SELECT has_ancestor('" + event::to_string(test::key_of(depth, depth)) + "', 'p1')"), 1);
  EXPECT_EQ(number("SELECT count(*) FROM descendants('" + event::to_string(test::key_of(1, 1)) + "')"), depth - 1);
}

}  // namespace
}  // namespace daemoneye::sql
