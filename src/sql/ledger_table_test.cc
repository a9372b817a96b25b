// audit_ledger in SQL: its columns, its times, and which entries are read.
#include <gtest/gtest.h>

#include "base/hash.h"
#include "ledger/testing/temp_ledger.h"
#include "sql/connection.h"
#include "sql/test_store.h"

namespace daemoneye::sql {
namespace {

class LedgerTableTest : public ::testing::Test {
 protected:
  void SetUp() override {
    test::fill_store(folder_ / "events.redb", test::make_history(10, 1));
    auto ledger = temp_.open();
    for (int i = 0; i < 600; ++i) {  // more than are read at once
      ASSERT_TRUE(ledger->append(i % 2 == 0 ? "procmond" : "uid:1000", i % 3 == 0 ? "start" : "rule",
                                 "{\"number\":" + std::to_string(i) + "}"));
    }
    ledger.reset();
    auto connection = Connection::open(folder_ / "events.redb", temp_.path());
    ASSERT_TRUE(connection) << connection.error().message;
    connection_ = *std::move(connection);
  }

  std::vector<Row> ask(const std::string& text) {
    std::vector<Row> rows;
    const auto compiled = compile(text);
    if (!compiled) {
      ADD_FAILURE() << to_string(compiled.error(), text);
      return rows;
    }
    const auto stats = connection_->run(*compiled, {}, [&](const Row& row) {
      rows.push_back(row);
      return true;
    });
    if (!stats) ADD_FAILURE() << stats.error().message;
    if (stats) stats_ = *stats;
    return rows;
  }
  std::int64_t number(const std::string& text) {
    const auto rows = ask(text);
    return rows.size() == 1 && std::holds_alternative<std::int64_t>(rows[0][0]) ? std::get<std::int64_t>(rows[0][0])
                                                                                : -1;
  }

  test::TemporaryFolder folder_;
  ledger::testing::TempLedger temp_;
  std::unique_ptr<Connection> connection_;
  RunStats stats_;
};

TEST_F(LedgerTableTest, ShowsEveryColumnAsTheLedgerHasIt) {
  const auto entries = temp_.entries();
  ASSERT_GE(entries.size(), 600U);
  const auto rows = ask("SELECT * FROM audit_ledger ORDER BY seq");
  ASSERT_EQ(rows.size(), entries.size());
  for (std::size_t i = 0; i < rows.size(); i += 97) {
    const auto& entry = entries[i];
    const Row expected = {static_cast<std::int64_t>(entry.sequence),
                          entry.time.ns,
                          entry.actor,
                          entry.action,
                          entry.payload,
                          base::to_hex(entry.payload_digest),
                          base::to_hex(entry.previous_hash),
                          base::to_hex(entry.entry_hash)};
    EXPECT_EQ(rows[i], expected) << i;
  }
}

TEST_F(LedgerTableTest, ReadsOnlyTheEntriesThatItsNumbersBound) {
  EXPECT_EQ(number("SELECT count(*) FROM audit_ledger"), static_cast<std::int64_t>(temp_.entries().size()));
  EXPECT_EQ(number("SELECT count(*) FROM audit_ledger WHERE seq >= 500 AND seq < 510"), 10);
  ASSERT_EQ(stats_.steps.size(), 1U);
  EXPECT_LE(stats_.steps[0].rows, 11U);
  EXPECT_EQ(number("SELECT json_extract(payload, '$.number') FROM audit_ledger WHERE seq = 123"), 123);
  EXPECT_LE(stats_.steps[0].rows, 1U);
  EXPECT_EQ(number("SELECT count(*) FROM audit_ledger WHERE seq < 0"), 0);
  EXPECT_EQ(number("SELECT count(*) FROM audit_ledger WHERE seq > 1e9"), 0);
  EXPECT_EQ(number("SELECT count(*) FROM audit_ledger WHERE seq = 'x'"), 0);
  EXPECT_EQ(number("SELECT seq FROM audit_ledger ORDER BY seq LIMIT 1 OFFSET 7"), 7);
  EXPECT_LE(stats_.steps[0].rows, 9U);  // the order is the ledger's own
}

TEST_F(LedgerTableTest, ComparesItsTimesAsAllTimes) {
  const auto all = static_cast<std::int64_t>(temp_.entries().size());
  EXPECT_EQ(number("SELECT count(*) FROM audit_ledger WHERE time > ago('1h') AND time <= datetime('now', '+1 minute')"),
            all);
  EXPECT_EQ(number("SELECT count(*) FROM audit_ledger WHERE time < '2020-01-01'"), 0);
  const auto compiled = compile("SELECT time, max(time) FROM audit_ledger");
  ASSERT_TRUE(compiled);
  EXPECT_TRUE(compiled->columns()[0].is_time);
  EXPECT_TRUE(compiled->columns()[1].is_time);
  EXPECT_EQ(number("SELECT count(*) FROM audit_ledger WHERE actor = 'procmond' AND action = 'start'"), 100);
}

}  // namespace
}  // namespace daemoneye::sql
