// Whatever is done to the file is found, at the first entry it concerns.
#include <gtest/gtest.h>

#include "ledger/testing/temp_ledger.h"

namespace daemoneye::ledger {
namespace {

using testing::TempLedger;

constexpr std::uint64_t total = 10;

void fill(const TempLedger& temp) {
  auto ledger = temp.open();
  for (std::uint64_t i = 0; i < total; ++i) {
    ASSERT_TRUE(ledger->append("procmond", "start", R"({"n":)" + std::to_string(i) + "}"));
  }
  ASSERT_TRUE(ledger->close());
}

struct Tampering {
  const char* name;
  const char* sql;
  std::uint64_t first_bad;
};

class TamperedLedger : public ::testing::TestWithParam<Tampering> {};

TEST_P(TamperedLedger, IsFoundAtTheFirstBadEntry) {
  const TempLedger temp;
  fill(temp);
  ASSERT_FALSE(temp.verify().first_bad);
  ASSERT_EQ(temp.tamper(GetParam().sql), "");
  const auto report = temp.verify();
  ASSERT_TRUE(report.first_bad);
  EXPECT_EQ(report.first_bad->sequence, GetParam().first_bad) << report.first_bad->what;
  EXPECT_FALSE(report.first_bad->what.empty());
  EXPECT_EQ(report.entries, GetParam().first_bad);  // those before are good
  EXPECT_FALSE(Ledger::open(temp.options()));       // and the writer builds nothing on it
}

INSTANTIATE_TEST_SUITE_P(
    Each, TamperedLedger,
    ::testing::Values(
        Tampering{"Time", "UPDATE entries SET time = time + 1 WHERE sequence = 4", 4},
        Tampering{"Actor", "UPDATE entries SET actor = 'agent' WHERE sequence = 4", 4},
        Tampering{"Action", "UPDATE entries SET action = 'stop' WHERE sequence = 4", 4},
        Tampering{"Payload", "UPDATE entries SET payload = '{}' WHERE sequence = 4", 4},
        Tampering{"EntryHash", "UPDATE entries SET entry_hash = zeroblob(32) WHERE sequence = 4", 4},
        Tampering{"ShortHash", "UPDATE entries SET entry_hash = x'00' WHERE sequence = 4", 4},
        Tampering{"Deleted", "DELETE FROM entries WHERE sequence = 4", 4},
        Tampering{"FirstDeleted", "DELETE FROM entries WHERE sequence = 0", 0},
        Tampering{"TailCutOff", "DELETE FROM entries WHERE sequence >= 7", 7},
        Tampering{"Emptied", "DELETE FROM entries", 0},
        Tampering{
            "Swapped",
            "UPDATE entries SET sequence = -1 WHERE sequence = 3; UPDATE entries SET sequence = 3 WHERE sequence = "
            "4; UPDATE entries SET sequence = 4 WHERE sequence = -1",
            3},
        Tampering{
            "Inserted",
            "UPDATE entries SET sequence = sequence + 100 WHERE sequence >= 5;"
            "UPDATE entries SET sequence = sequence - 99 WHERE sequence >= 100;"
            "INSERT INTO entries SELECT 5, time, actor, action, payload, entry_hash FROM entries WHERE sequence = 4",
            5},
        Tampering{"Negative", "UPDATE entries SET sequence = -5 WHERE sequence = 4", 0},
        Tampering{"HeadShortened", "UPDATE head SET size = 8", 8},
        Tampering{"HeadMoved", "UPDATE head SET last_hash = zeroblob(32)", 9},
        Tampering{"HeadGone", "DELETE FROM head", 10}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(TamperedLedgerChain, ARewrittenEntryIsFoundByItsSuccessor) {
  const TempLedger temp;
  fill(temp);
  auto entry = temp.entries()[4];
  entry.payload = R"({"forged":true})";
  ASSERT_EQ(temp.tamper(TempLedger::insert_sql(entry, /*head=*/false)), "");
  EXPECT_EQ(temp.verify().first_bad.value().sequence, 5U);
}

TEST(TamperedLedgerChain, ARewrittenLastEntryIsFoundByTheHead) {
  const TempLedger temp;
  fill(temp);
  auto entry = temp.entries().back();
  entry.payload = R"({"forged":true})";
  ASSERT_EQ(temp.tamper(TempLedger::insert_sql(entry, /*head=*/false)), "");
  EXPECT_EQ(temp.verify().first_bad.value().sequence, 9U);
}

TEST(TamperedLedgerChain, AnAppendedEntryIsFoundByTheHead) {
  const TempLedger temp;
  fill(temp);
  auto entry = temp.entries().back();
  entry.previous_hash = entry.entry_hash;
  ++entry.sequence;
  ASSERT_EQ(temp.tamper(TempLedger::insert_sql(entry, /*head=*/false)), "");
  EXPECT_EQ(temp.verify().first_bad.value().sequence, total);
}

TEST(TamperedLedgerChain, ATimeBeforeItsPredecessorIsFound) {
  const TempLedger temp;
  fill(temp);
  auto entry = temp.entries().back();
  entry.previous_hash = entry.entry_hash;
  ++entry.sequence;
  entry.time.ns -= 1;
  ASSERT_EQ(temp.tamper(TempLedger::insert_sql(entry, /*head=*/true)), "");
  EXPECT_EQ(temp.verify().first_bad.value().sequence, total);
}

TEST(TamperedLedgerChain, APersonAtAPromptIsStopped) {
  const TempLedger temp;
  fill(temp);
  EXPECT_EQ(temp.tamper("UPDATE entries SET actor = 'x'", /*drop_triggers=*/false), "the ledger is append-only");
  EXPECT_EQ(temp.tamper("DELETE FROM entries", /*drop_triggers=*/false), "the ledger is append-only");
  EXPECT_FALSE(temp.verify().first_bad);
}

}  // namespace
}  // namespace daemoneye::ledger
