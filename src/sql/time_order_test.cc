// ORDER BY time from either end: what the scan gives in that order, and what it leaves unread.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "sql/test_store.h"
#include "store/time_ordered_scan.h"

namespace daemoneye::sql {
namespace {

class TimeOrderTest : public ::testing::Test {
 protected:
  // Each event up to so many places away from where its time belongs.
  void store(std::size_t disorder) {
    history_ = test::make_history(1000, 13);
    test::Dice dice(5);
    for (std::size_t i = 0; disorder > 0 && i + disorder < history_.size(); ++i)
      std::swap(history_[i].time, history_[i + dice.below(disorder)].time);
    for (auto& event : history_) {
      event.process.collection_time = event.time;
      if (event.process.exit_time) event.process.exit_time = event.time;
    }
    test::fill_store(folder_ / "events.redb", history_, 16, 64);
    auto connection = Connection::open(folder_ / "events.redb", "");
    ASSERT_TRUE(connection) << connection.error().message;
    connection_ = *std::move(connection);
  }
  std::vector<std::int64_t> ask(const std::string& text, RunOptions options = {}) {
    std::vector<std::int64_t> first;
    const auto compiled = compile(text);
    EXPECT_TRUE(compiled) << text;
    const auto stats = connection_->run(*compiled, options, [&](const Row& row) {
      first.push_back(std::get<std::int64_t>(row[0]));
      return true;
    });
    EXPECT_TRUE(stats) << stats.error().message;
    if (stats) stats_ = *stats;
    return first;
  }
  // Event ids by time and id, of those that are wanted.
  std::vector<std::int64_t> sorted(bool newest_first, const std::function<bool(const event::ProcessEvent&)>& wanted) {
    std::vector<std::pair<std::int64_t, std::int64_t>> all;
    for (std::size_t i = 0; i < history_.size(); ++i) {
      if (wanted(history_[i])) all.emplace_back(history_[i].time.ns, static_cast<std::int64_t>(i) + 1);
    }
    std::ranges::sort(all);
    if (newest_first) std::ranges::reverse(all);
    std::vector<std::int64_t> ids;
    for (const auto& [time, id] : all) ids.push_back(id);
    return ids;
  }
  [[nodiscard]] std::uint64_t places_read() const { return stats_.scan.blocks_read + stats_.scan.tail_batches_read; }

  const test::TemporaryFolder folder_;
  std::vector<event::ProcessEvent> history_;
  std::unique_ptr<Connection> connection_;
  RunStats stats_;
};

std::vector<std::int64_t> first(std::vector<std::int64_t> ids, std::size_t count) {
  ids.resize(std::min(count, ids.size()));
  return ids;
}

TEST_F(TimeOrderTest, ReadsNoMoreThanTheRowsAskedForNeed) {
  store(40);
  const auto all = [](const event::ProcessEvent&) { return true; };
  const auto bash = [](const event::ProcessEvent& event) { return event.process.name == "bash"; };
  EXPECT_EQ(ask("SELECT event_id FROM process_events ORDER BY time LIMIT 5"), first(sorted(false, all), 5));
  EXPECT_LE(places_read(), 6U);
  EXPECT_EQ(stats_.steps[0].order, "in the order asked for");
  EXPECT_EQ(ask("SELECT event_id FROM process_events ORDER BY time DESC LIMIT 5"), first(sorted(true, all), 5));
  EXPECT_LE(places_read(), 12U);  // the tail is in batches of 16
  EXPECT_EQ(ask("SELECT event_id FROM process_events ORDER BY time DESC, event_id DESC LIMIT 5"),
            first(sorted(true, all), 5));
  EXPECT_LE(places_read(), 12U);
  EXPECT_EQ(ask("SELECT event_id FROM process_events WHERE name = 'bash' ORDER BY time LIMIT 7 OFFSET 3"), [&] {
    auto ids = sorted(false, bash);
    ids.erase(ids.begin(), ids.begin() + 3);
    return first(ids, 7);
  }());
  EXPECT_LE(places_read(), 8U);
  // What SQLite checks alone goes the same way.
  EXPECT_EQ(ask("SELECT event_id FROM process_events WHERE name || '' = 'bash' ORDER BY time LIMIT 7"),
            first(sorted(false, bash), 7));
  EXPECT_LE(places_read(), 8U);
  EXPECT_EQ(ask("SELECT event_id FROM process_events ORDER BY event_id DESC LIMIT 3"),
            (std::vector<std::int64_t>{1000, 999, 998}));
  EXPECT_LE(places_read(), 2U);
  // Whole, and within a range.
  EXPECT_EQ(ask("SELECT event_id FROM process_events ORDER BY time"), sorted(false, all));
  EXPECT_EQ(ask("SELECT event_id FROM process_events ORDER BY time DESC"), sorted(true, all));
  const auto middle = history_[500].time;
  EXPECT_EQ(ask("SELECT event_id FROM process_events WHERE time >= " + std::to_string(middle.ns) +
                " AND event_id < 900 ORDER BY time DESC"),
            [&] {
              auto ids = sorted(true, [&](const event::ProcessEvent& event) { return event.time >= middle; });
              std::erase_if(ids, [](std::int64_t id) { return id >= 900; });
              return ids;
            }());
  // Another order beside it is sorted.
  EXPECT_EQ(ask("SELECT event_id FROM process_events ORDER BY time DESC, event_id").size(), history_.size());
  EXPECT_EQ(stats_.steps[0].order, "");
}

TEST_F(TimeOrderTest, HoldsNotManyBlocksAtOnceWhereTimesAreInNoOrder) {
  store(900);
  ASSERT_GT(*connection_->reader().overlapping_places(), store::max_overlapping_places);
  EXPECT_EQ(ask("SELECT event_id FROM process_events ORDER BY time LIMIT 20"),
            first(sorted(false, [](const event::ProcessEvent&) { return true; }), 20));
  EXPECT_EQ(stats_.steps[0].order, "");
}

TEST_F(TimeOrderTest, GivesTheOuterRowsOfAJoinInOrder) {
  store(40);
  const auto found =
      ask("SELECT e.event_id FROM process_events e CROSS JOIN process_events p ON p.process_key = e.process_key AND "
          "p.kind = 'exit' WHERE e.kind = 'exec' ORDER BY e.time LIMIT 9");
  ASSERT_EQ(found.size(), 9U);
  const auto whole =
      ask("SELECT e.event_id FROM process_events e CROSS JOIN process_events p ON p.process_key = e.process_key AND "
          "p.kind = 'exit' WHERE e.kind = 'exec' ORDER BY e.time + 0");
  EXPECT_EQ(found, first(whole, 9));
}

}  // namespace
}  // namespace daemoneye::sql
