// A disk that loses power and that fills up, a machine that is started anew, and files of earlier versions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "db/testing/fault_vfs.h"
#include "ledger/format.h"
#include "ledger/testing/temp_ledger.h"

namespace daemoneye::ledger {
namespace {

using db::testing::FaultVfs;
using testing::batch;
using ::testing::HasSubstr;
using testing::TempLedger;

// Whatever was acknowledged is there after the power is gone, at whatever write or sync that happens; and the log is
// whole.
TEST(LedgerPower, WhatWasAcknowledgedSurvivesTheLossOfPower) {
  std::uint64_t lost_some = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const TempLedger temp;
    auto options = temp.signing_options();
    options.segment_bytes = 70'000;  // so that beginning a segment is cut short, too
    options.boot = "first";
    std::vector<Entry> acknowledged;
    FaultVfs disk(seed);
    {
      auto ledger = TempLedger::open_with(options);
      disk.cut_power_after(seed * 7);
      for (int i = 0; i < 60; ++i) {
        if (!ledger->journal_batches({batch(static_cast<std::uint64_t>(i) + 1)})) break;
        if (i % 3 == 0 && !ledger->seal_batches()) break;
        if (i % 10 == 9) (void)ledger->checkpoint();
        const NewEntry entry{"agent", "x",
                             R"({"n":)" + std::to_string(i) + R"(,"p":")" + std::string(700, 'x') + R"("})"};
        if (!ledger->append({&entry, 1})) break;
        acknowledged.push_back(*ledger->last());
      }
    }
    lost_some += disk.powerless() ? 1 : 0;
    if (!disk.powerless()) disk.cut_power();
    disk.restore_power();
    options.boot = "second";
    auto ledger = TempLedger::open_with(options);
    ASSERT_TRUE(ledger) << seed;
    const auto entries = temp.entries();
    for (const auto& entry : acknowledged) {
      ASSERT_LT(entry.sequence, entries.size()) << seed;
      ASSERT_EQ(entries[entry.sequence].entry_hash, entry.entry_hash) << seed;
    }
    ASSERT_TRUE(ledger->append("procmond", "start", "{}"));
    ASSERT_TRUE(ledger->close());
    const auto report = temp.verify({.key = temp.public_key()});
    ASSERT_FALSE(report.first_bad) << seed << ": " << report.first_bad->what;
    bool recorded = false;
    for (const auto& entry : temp.entries()) {
      recorded = recorded || (entry.action == "crash_recovery" &&
                              nlohmann::json::parse(entry.payload)["machine"] == "was started anew");
    }
    ASSERT_TRUE(recorded) << seed;
  }
  EXPECT_GT(lost_some, 20U);
}

// A sync that fails may have lost what was written: nothing is acknowledged by it.
TEST(LedgerPower, AFailedSyncAcknowledgesNothing) {
  const TempLedger temp;
  FaultVfs disk(1);
  auto ledger = temp.open();
  ASSERT_TRUE(ledger->append("procmond", "start", "{}"));
  disk.fail(FaultVfs::Fault::sync_error, 0, 1);
  EXPECT_FALSE(ledger->append("procmond", "lost", "{}"));
  EXPECT_EQ(ledger->size(), 1U);
  disk.heal();
  ASSERT_TRUE(ledger->append("procmond", "start", "{}"));
  ASSERT_TRUE(ledger->close());
  ledger.reset();
  EXPECT_FALSE(temp.verify().first_bad);
  EXPECT_EQ(temp.entries().size(), 2U);
}

// A transaction that was under way when the writer was killed.
TEST(LedgerCrash, ATornTailIsKeptAsideAndRecorded) {
  const TempLedger temp;
  auto ledger = temp.open();
  ASSERT_TRUE(ledger->append("procmond", "start", "{}"));
  const auto wal = temp.path() + "-wal";
  const auto before = base::read_file(wal, 1 << 24).value();
  ASSERT_TRUE(ledger->append("procmond", "second", "{}"));
  auto after = base::read_file(wal, 1 << 24).value();
  ASSERT_GT(after.size(), before.size() + 100);
  // As a kill leaves it: the second transaction without its last bytes; nobody closed the file.
  const auto copy = temp.root() + "/copy";
  std::filesystem::copy(temp.folder(), copy, std::filesystem::copy_options::recursive);
  ledger.reset();
  std::filesystem::remove_all(temp.folder());
  std::filesystem::rename(copy, temp.folder());
  std::filesystem::remove(temp.path() + "-shm");
  std::ofstream(wal, std::ios::binary) << after.substr(0, after.size() - 100);

  ledger = temp.open();
  EXPECT_EQ(ledger->last()->action, "crash_recovery");
  const auto payload = nlohmann::json::parse(ledger->last()->payload);
  const auto kept = payload["torn_log"]["kept_as"].get<std::string>();
  EXPECT_EQ(payload["torn_log"]["bytes"], after.size() - 100 - before.size());
  EXPECT_EQ(base::read_file(kept, 1 << 24).value(), after.substr(before.size(), after.size() - 100 - before.size()));
  EXPECT_EQ(temp.entries().front().action, "start");
  EXPECT_EQ(temp.entries()[1].action, "crash_recovery");
  EXPECT_FALSE(temp.verify().first_bad);
}

TEST(LedgerCrash, ATornJournalRecordIsRecordedAndTheOthersCount) {
  const TempLedger temp;
  {
    auto ledger = temp.open();
    ASSERT_TRUE(ledger->journal_batches({batch(1), batch(2), batch(3)}));
  }
  {
    std::fstream file(journal_path(temp.path()), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(64 * 2 + 30);
    file << "torn";
  }
  auto ledger = temp.open();
  const auto entries = temp.entries();
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_THAT(entries[0].payload, HasSubstr(R"("count":2)"));
  EXPECT_THAT(entries[1].payload, HasSubstr(R"("torn_batches":1)"));
}

TEST(LedgerCrash, WhatWasSealedDoesNotComeBackFromTheJournal) {
  const TempLedger temp;
  {
    auto ledger = temp.open();
    ASSERT_TRUE(ledger->journal_batches({batch(1), batch(2)}));
    ASSERT_TRUE(ledger->seal_batches());
    ASSERT_TRUE(ledger->journal_batches({batch(3)}));
  }
  auto ledger = temp.open();
  const auto entries = temp.entries();
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_THAT(entries[1].payload, HasSubstr(R"("first":3,"last":3,"recovered":true)"));
}

TEST(Ledger, BringsAFileOfVersion1Forward) {
  const TempLedger temp;
  std::filesystem::create_directory(temp.folder());
  std::filesystem::permissions(temp.folder(), std::filesystem::perms(0750));
  std::filesystem::copy_file(std::string(DAEMONEYE_SOURCE_DIR) + "/tests/data/ledger/v1.redb", temp.path());
  std::filesystem::permissions(temp.path(), std::filesystem::perms(0640));
  const auto early = LedgerReader::open(temp.path());
  ASSERT_FALSE(early);
  EXPECT_THAT(early.error().message, HasSubstr("procmond brings it forward"));

  auto ledger = TempLedger::open_with(temp.signing_options());
  ASSERT_TRUE(ledger);
  const auto entries = temp.entries();
  ASSERT_GE(entries.size(), 303U);
  EXPECT_EQ(base::to_hex(entries[299].entry_hash), "c0b62a1a8bed508b8dc430f77cfff8c7c9ad6deaed742d03743a523343646b30");
  EXPECT_EQ(base::to_hex(temp.reader()->root(300).value()),
            "93d48502b21fe868f8fe71a8b9da1feba42cfc5b28627b8e449f39ef2a0b1d3e");
  EXPECT_THAT(entries[300].payload, HasSubstr(R"("count":4)"));  // what its journal held
  EXPECT_THAT(entries[300].payload, HasSubstr(R"("recovered":true)"));
  EXPECT_EQ(entries[301].action, "crash_recovery");
  ASSERT_TRUE(ledger->close());
  EXPECT_FALSE(temp.verify({.key = temp.public_key()}).first_bad);
  EXPECT_TRUE(std::filesystem::exists(temp.folder() + "/audit.schema-1.redb"));
}

}  // namespace
}  // namespace daemoneye::ledger
