#include "ledger/ledger.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <limits>

#include "ledger/testing/temp_ledger.h"

namespace daemoneye::ledger {
namespace {

using testing::batch;
using testing::TempLedger;

unsigned mode_of(const std::string& path) {
  struct stat status{};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777U;
}

TEST(Ledger, EntriesAreNumberedChainedAndReadBack) {
  const TempLedger temp;
  auto ledger = temp.open();
  EXPECT_EQ(ledger->size(), 0U);
  EXPECT_FALSE(ledger->last());
  EXPECT_EQ(ledger->append("procmond", "start", R"({"b":1, "a":"x"})").value(), 0U);
  EXPECT_EQ(ledger->append("uid:1000 (asserted by agent)", "rule", "{}").value(), 1U);
  EXPECT_EQ(ledger->size(), 2U);

  const auto entries = temp.entries();
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0].payload, R"({"a":"x","b":1})");
  EXPECT_EQ(entries[0].previous_hash, base::Sha256Digest());
  EXPECT_EQ(entries[0].payload_digest, base::sha256(entries[0].payload));
  EXPECT_EQ(entries[1].actor, "uid:1000 (asserted by agent)");
  EXPECT_EQ(entries[1].action, "rule");
  EXPECT_EQ(entries[1].previous_hash, entries[0].entry_hash);
  EXPECT_EQ(ledger->last()->entry_hash, entries[1].entry_hash);
  EXPECT_EQ(temp.reader()->size().value(), 2U);
  const auto report = temp.verify();
  EXPECT_FALSE(report.first_bad);
  EXPECT_EQ(report.entries, 2U);
  EXPECT_EQ(report.root, merkle_root({encode_leaf(entries[0]), encode_leaf(entries[1])}));
}

// The leaf is a promise: proofs outlive the program.
TEST(Ledger, LeafBytesNeverChange) {
  Entry entry;
  entry.sequence = 258;
  entry.time.ns = 1;
  entry.actor = "ab";
  entry.action = "c";
  entry.payload_digest.fill(0x11);
  entry.previous_hash.fill(0x22);
  std::string wanted =
      "44454c01"
      "0201000000000000"
      "0100000000000000"
      "026162"
      "0163";
  for (int i = 0; i < 32; ++i) wanted += "11";
  for (int i = 0; i < 32; ++i) wanted += "22";
  EXPECT_EQ(base::to_hex(encode_leaf(entry)), wanted);
}

TEST(Ledger, ContinuesWhereItEnded) {
  const TempLedger temp;
  for (std::uint64_t run = 0; run < 3; ++run) {
    auto ledger = temp.open();
    EXPECT_EQ(ledger->size(), run);
    EXPECT_EQ(ledger->append("procmond", "start", "{}").value(), run);
    ASSERT_TRUE(ledger->close());
  }
  EXPECT_FALSE(temp.verify().first_bad);
}

TEST(Ledger, TimeNeverGoesBack) {
  const TempLedger temp;
  Entry future;
  future.time.ns = std::numeric_limits<std::int64_t>::max() - 1;
  future.actor = future.action = "x";
  future.payload = "{}";
  ASSERT_TRUE(temp.open()->close());
  ASSERT_EQ(temp.tamper(TempLedger::insert_sql(future, /*head=*/true)), "");
  auto ledger = temp.open();
  ASSERT_TRUE(ledger->append("procmond", "start", "{}"));
  EXPECT_EQ(ledger->last()->time, future.time);
  EXPECT_FALSE(temp.verify().first_bad);
}

TEST(Ledger, RefusesWhatIsNoEntry) {
  const TempLedger temp;
  auto ledger = temp.open();
  const std::string long_text = "{\"a\":\"" + std::string(max_payload_bytes, 'x') + "\"}";
  for (const std::string& payload : {std::string(), std::string("1"), std::string("[]"), std::string("{"), long_text}) {
    EXPECT_FALSE(ledger->append("procmond", "start", payload)) << payload.substr(0, 20);
  }
  EXPECT_FALSE(ledger->append("", "start", "{}"));
  EXPECT_FALSE(ledger->append(std::string(max_actor_bytes + 1, 'a'), "start", "{}"));
  EXPECT_FALSE(ledger->append("procmond", "", "{}"));
  EXPECT_FALSE(ledger->append("procmond", std::string(max_action_bytes + 1, 'a'), "{}"));
  EXPECT_EQ(ledger->size(), 0U);
  EXPECT_TRUE(temp.entries().empty());
}

TEST(Ledger, SealsOneEntryForEachContiguousRangeOfAnEpoch) {
  const TempLedger temp;
  auto ledger = temp.open();
  ASSERT_TRUE(ledger->journal_batches({batch(1), batch(2)}));
  ASSERT_TRUE(ledger->journal_batches({batch(3), batch(7), batch(1, 2)}));
  EXPECT_EQ(ledger->size(), 0U);
  ASSERT_TRUE(ledger->seal_batches());
  ASSERT_TRUE(ledger->seal_batches());  // nothing left: no entry
  const auto entries = temp.entries();
  ASSERT_EQ(entries.size(), 3U);
  std::vector<std::string> digests;
  for (const std::uint64_t n : {1, 2, 3}) digests.emplace_back(base::as_bytes(batch(n).digest));
  EXPECT_EQ(entries[0].action, "batches");
  EXPECT_EQ(entries[0].payload, R"({"count":3,"epoch":"01010101010101010101010101010101","first":1,"last":3,"root":")" +
                                    base::to_hex(merkle_root(digests)) + "\"}");
  EXPECT_NE(entries[1].payload.find(R"("first":7,"last":7)"), std::string::npos) << entries[1].payload;
  EXPECT_NE(entries[2].payload.find(R"("epoch":"02)"), std::string::npos) << entries[2].payload;
  EXPECT_FALSE(temp.verify().first_bad);
}

TEST(Ledger, RefusesABatchNumberThatComesAgain) {
  const TempLedger temp;
  auto ledger = temp.open();
  ASSERT_TRUE(ledger->journal_batches({batch(1), batch(2)}));
  EXPECT_FALSE(ledger->journal_batches({batch(3), batch(2)}));
  ASSERT_TRUE(ledger->seal_batches());
  EXPECT_FALSE(ledger->journal_batches({batch(2)}));
  EXPECT_FALSE(ledger->journal_batches({batch(0, 2)}));
  ASSERT_TRUE(ledger->journal_batches({batch(3)}));  // the refused call left nothing behind
  ASSERT_TRUE(ledger->seal_batches());
  EXPECT_NE(temp.entries().back().payload.find(R"("first":3,"last":3)"), std::string::npos);
}

TEST(Ledger, HasOneWriter) {
  const TempLedger temp;
  auto first = temp.open();
  const auto second = Ledger::open(temp.options());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::unavailable);
  first.reset();
  EXPECT_TRUE(temp.open());
}

TEST(Ledger, FolderAndFilesAreOursToWriteAndTheGroupsToRead) {
  const TempLedger temp;
  auto ledger = temp.open();
  ASSERT_TRUE(ledger->append("procmond", "start", "{}"));
  EXPECT_EQ(mode_of(temp.folder()), 0750U);
  for (const auto* suffix : {"", "-wal", "-shm"}) EXPECT_EQ(mode_of(temp.path() + suffix), 0640U) << suffix;
  EXPECT_EQ(mode_of(temp.path() + ".lock"), 0600U) << "a reader could hold it against the writer";
}

TEST(Ledger, KeepsTheFoldersSetGroupIdBit) {
  const TempLedger temp;
  std::filesystem::create_directory(temp.folder());
  ASSERT_EQ(::chmod(temp.folder().c_str(), 02750), 0);
  ASSERT_TRUE(temp.open());
  EXPECT_EQ(mode_of(temp.folder()), 02750U);
}

TEST(Ledger, RefusesAFolderThatOthersCanWrite) {
  for (const mode_t mode : {0770U, 0707U}) {
    const TempLedger temp;
    std::filesystem::create_directory(temp.folder());
    ASSERT_EQ(::chmod(temp.folder().c_str(), mode), 0);
    const auto opened = Ledger::open(temp.options());
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, Errc::permission_denied);
    EXPECT_FALSE(std::filesystem::exists(temp.path()));
  }
}

TEST(Ledger, RefusesLinksInPlaceOfFolderOrFile) {
  const TempLedger temp;
  std::filesystem::create_directory(temp.root() + "/elsewhere");
  std::filesystem::create_directory_symlink(temp.root() + "/elsewhere", temp.folder());
  auto opened = Ledger::open(temp.options());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::permission_denied);
  std::filesystem::remove(temp.folder());
  std::filesystem::create_directory(temp.folder());
  ASSERT_EQ(::chmod(temp.folder().c_str(), 0750), 0);
  std::filesystem::create_symlink(temp.root() + "/elsewhere/file", temp.path());
  opened = Ledger::open(temp.options());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::permission_denied);
  EXPECT_FALSE(std::filesystem::exists(temp.root() + "/elsewhere/file"));
}

TEST(Ledger, RefusesAFolderOfAnotherUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a folder away";
  const TempLedger temp;
  std::filesystem::create_directory(temp.folder());
  ASSERT_EQ(::chown(temp.folder().c_str(), 65534, 65534), 0);
  const auto opened = Ledger::open(temp.options());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::permission_denied);
}

TEST(Ledger, ServesItsOwnerWhereTheReadersGroupDoesNotExist) {
  const TempLedger temp;
  auto options = temp.options();
  options.reader_group = "no-such-group-here";
  auto ledger = Ledger::open(options);
  ASSERT_TRUE(ledger) << ledger.error().message;
  EXPECT_TRUE((*ledger)->append("procmond", "start", "{}"));
}

TEST(LedgerReader, ReadsAnyRangeAndStopsWhenTold) {
  const TempLedger temp;
  auto ledger = temp.open();
  constexpr std::uint64_t total = 600;  // more than two pieces
  for (std::uint64_t i = 0; i < total; ++i) ASSERT_TRUE(ledger->append("procmond", "start", "{}"));
  const auto reader = temp.reader();
  const auto read = [&](std::uint64_t from, std::uint64_t count, std::size_t stop_after = SIZE_MAX) {
    std::vector<std::uint64_t> found;
    EXPECT_TRUE(reader->read(from, count, [&](const Entry& entry) {
      found.push_back(entry.sequence);
      return found.size() < stop_after;
    }));
    return found;
  };
  EXPECT_EQ(read(0, UINT64_MAX).size(), total);
  EXPECT_EQ(read(10, 3), (std::vector<std::uint64_t>{10, 11, 12}));
  EXPECT_EQ(read(250, 300).size(), 300U);
  EXPECT_EQ(read(250, 300).back(), 549U);
  EXPECT_EQ(read(0, UINT64_MAX, 5).size(), 5U);
  EXPECT_TRUE(read(total, 1).empty());
  EXPECT_TRUE(read(UINT64_MAX, UINT64_MAX).empty());
  EXPECT_TRUE(read(0, 0).empty());
}

TEST(LedgerReader, SaysWhenThereIsNoLedger) {
  const TempLedger temp;
  const auto opened = LedgerReader::open(temp.path());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::not_found);
}

}  // namespace
}  // namespace daemoneye::ledger
