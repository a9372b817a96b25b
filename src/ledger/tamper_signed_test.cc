// Tampering by somebody who may write every file of the ledger and knows its format, but has not the signing key: with
// stored hashes, checkpoints, segments, and whole copies. What leaves the files in agreement with each other is found
// by a checkpoint that was kept elsewhere.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "ledger/format.h"
#include "ledger/testing/temp_ledger.h"

namespace daemoneye::ledger {
namespace {

using testing::batch;
using ::testing::HasSubstr;
using testing::TempLedger;

constexpr std::uint64_t total = 600;  // two subtrees of 256 and one of 512 are stored

// Three checkpoints: at the start, in the middle, at the end. `salt` makes two ledgers differ.
void append_to(Ledger& ledger, std::uint64_t from, std::uint64_t to, const std::string& salt = "") {
  std::vector<NewEntry> entries;
  for (std::uint64_t i = from; i < to; ++i) {
    entries.push_back({"procmond", "start", R"({"n":)" + std::to_string(i) + R"(,"s":")" + salt + R"("})"});
  }
  ASSERT_TRUE(ledger.append(entries));
}

void fill(const Ledger::Options& options) {
  auto ledger = TempLedger::open_with(options);
  ASSERT_TRUE(ledger->checkpoint());
  append_to(*ledger, 0, 300);
  ASSERT_TRUE(ledger->journal_batches({batch(1), batch(2)}));
  ASSERT_TRUE(ledger->seal_batches());
  ASSERT_TRUE(ledger->checkpoint());
  append_to(*ledger, 300, total);
  ASSERT_TRUE(ledger->close());
}

std::string exported(const TempLedger& temp) { return temp.reader()->checkpoint_covering(1).value().value(); }

struct Tampering {
  const char* name;
  const char* sql;
  const char* says;
};
void PrintTo(const Tampering& tampering, std::ostream* out) { *out << tampering.name; }

class TamperedSignedLedger : public ::testing::TestWithParam<Tampering> {};

TEST_P(TamperedSignedLedger, IsFound) {
  const TempLedger temp;
  fill(temp.signing_options());
  const auto before = temp.verify({.key = temp.public_key()});
  ASSERT_FALSE(before.first_bad) << before.first_bad->what;
  ASSERT_EQ(before.checkpoints, 3U);
  ASSERT_EQ(temp.tamper(GetParam().sql), "");
  const auto report = temp.verify();
  ASSERT_TRUE(report.first_bad);
  EXPECT_THAT(report.first_bad->what, HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    Each, TamperedSignedLedger,
    ::testing::Values(
        Tampering{"SubtreeAltered", "UPDATE subtrees SET hash = zeroblob(32) WHERE level = 8 AND number = 1",
                  "stored hash of entries 256 to 511 is wrong"},
        Tampering{"LargerSubtreeAltered", "UPDATE subtrees SET hash = zeroblob(32) WHERE level = 9", "is wrong"},
        Tampering{"SubtreeShort", "UPDATE subtrees SET hash = x'00' WHERE level = 8 AND number = 0", "is wrong"},
        Tampering{"SubtreeRemoved", "DELETE FROM subtrees WHERE level = 8 AND number = 0", "stored hash"},
        Tampering{"SubtreeAdded", "INSERT INTO subtrees VALUES (8, 2, zeroblob(32))", "that are not there"},
        Tampering{"SubtreeOfAnotherLevelAdded", "INSERT INTO subtrees VALUES (3, 0, zeroblob(32))", "not there"},
        Tampering{"CheckpointsRemoved", "DELETE FROM checkpoints", "checkpoint that it records is missing"},
        Tampering{"OneCheckpointRemoved", "DELETE FROM checkpoints WHERE size = 1", "is missing"},
        Tampering{"CheckpointGarbled", "UPDATE checkpoints SET note = 'x' || note WHERE size = 1", "checkpoint"},
        Tampering{"CheckpointUnsigned",
                  "UPDATE checkpoints SET note = substr(note, 1, length(note) - 20) || char(10) WHERE size = 1",
                  "note"},
        Tampering{"CheckpointOfAnotherSize", "UPDATE checkpoints SET size = size + 1 WHERE size = 1", "checkpoint"},
        Tampering{"CheckpointOfTheFuture", "UPDATE checkpoints SET size = 100000 WHERE size = 1", "missing"},
        Tampering{"CheckpointTakenFromAnother",
                  "UPDATE checkpoints SET note = (SELECT note FROM checkpoints WHERE size = 1) WHERE size > 1",
                  "of another size"},
        Tampering{"CheckpointAdded", "INSERT INTO checkpoints SELECT 2, note FROM checkpoints WHERE size = 1", "size"},
        Tampering{"PackedRootFlipped",
                  "UPDATE entries SET payload = substr(payload, 1, length(payload) - 1) || x'00' WHERE action = "
                  "'batches'",
                  "hash"},
        Tampering{"PackedShort", "UPDATE entries SET payload = x'0102' WHERE action = 'batches'", "packed"},
        Tampering{"PackedUnknown", "UPDATE entries SET payload = x'77' WHERE action = 'batches'", "packed"},
        Tampering{"KeyReplaced", "UPDATE entries SET payload = replace(payload, 'first', 'other') WHERE action = 'key'",
                  "hash"},
        Tampering{"SegmentStartMoved", "UPDATE segment SET first = 1, tail = zeroblob(32)", "segment"}),
    [](const auto& test) { return std::string(test.param.name); });

// The whole log anew with other content: every hash recomputed, the head and the stored subtrees, too.
void rewrite(const TempLedger& temp, std::uint64_t from, bool keep_checkpoints) {
  auto entries = temp.entries();
  entries[from].payload = R"({"forged":true})";
  std::string sql = "DELETE FROM subtrees;";
  MerkleTree tree;
  base::Sha256Digest previous{};
  for (auto& entry : entries) {
    if (entry.sequence >= from) {
      entry.previous_hash = previous;
      entry.payload_digest = base::sha256(entry.payload);
      entry.entry_hash = leaf_hash(encode_leaf(entry));
      sql += TempLedger::insert_sql(entry, /*head=*/true) + ";";
    }
    previous = entry.entry_hash;
    tree.add(entry.entry_hash, [&](unsigned level, std::uint64_t number, const base::Sha256Digest& hash) {
      if (level < stored_level) return;
      sql += "INSERT INTO subtrees VALUES (" + std::to_string(level) + "," + std::to_string(number) + ",x'" +
             base::to_hex(hash) + "');";
    });
  }
  if (!keep_checkpoints) sql += "DELETE FROM checkpoints;";
  ASSERT_EQ(temp.tamper(sql), "");
}

TEST(TamperedSigned, ARewrittenLogIsFoundByItsOwnCheckpoints) {
  const TempLedger temp;
  fill(temp.signing_options());
  rewrite(temp, 100, /*keep_checkpoints=*/true);
  const auto report = temp.verify();
  ASSERT_TRUE(report.first_bad);
  EXPECT_THAT(report.first_bad->what, HasSubstr("its root is not that of the entries before it"));
}

// Nothing signed is left in it; the forger even writes no word of checkpoints.
TEST(TamperedSigned, ARewrittenLogWithoutSignaturesIsFoundByTheKeyAndByAKeptCheckpoint) {
  const TempLedger temp;
  fill(temp.signing_options());
  const auto kept = Note::parse(exported(temp)).value();
  const auto key = temp.public_key();
  std::filesystem::remove_all(temp.folder());
  {
    auto forged = temp.open();
    append_to(*forged, 0, total + 10);
    ASSERT_TRUE(forged->close());
  }
  EXPECT_FALSE(temp.verify().first_bad) << "nothing in these files contradicts itself";
  EXPECT_TRUE(temp.verify({.key = key}).first_bad);
  const auto report = temp.verify({.against = {kept}});
  ASSERT_TRUE(report.first_bad);
  EXPECT_THAT(report.first_bad->what, HasSubstr("rewritten"));
}

TEST(TamperedSigned, AnotherKeyInPlaceOfTheOldIsFoundByTheOldOne) {
  const TempLedger temp;
  fill(temp.signing_options());
  const auto key = temp.public_key();
  std::filesystem::remove_all(temp.folder());
  fill(temp.signing_options());
  EXPECT_FALSE(temp.verify().first_bad);
  EXPECT_TRUE(temp.verify({.key = key}).first_bad);
}

TEST(TamperedSigned, AnOlderCopyIsFoundByAKeptCheckpoint) {
  const TempLedger temp;
  fill(temp.signing_options());
  const auto copy = temp.root() + "/copy";
  std::filesystem::copy(temp.folder(), copy, std::filesystem::copy_options::recursive);
  {
    auto ledger = TempLedger::open_with(temp.signing_options());
    append_to(*ledger, 0, 5);
    ASSERT_TRUE(ledger->close());
  }
  const auto kept = Note::parse(exported(temp)).value();
  EXPECT_FALSE(temp.verify({.against = {kept}}).first_bad);
  std::filesystem::remove_all(temp.folder());
  std::filesystem::rename(copy, temp.folder());
  EXPECT_FALSE(temp.verify().first_bad) << "an older copy is whole in itself";
  const auto report = temp.verify({.against = {kept}});
  ASSERT_TRUE(report.first_bad);
  EXPECT_THAT(report.first_bad->what, HasSubstr("cut off or put back"));
}

TEST(TamperedSigned, AForkIsFoundByACheckpointOfTheOtherSide) {
  const TempLedger temp;
  fill(temp.signing_options());
  const auto copy = temp.root() + "/copy";
  std::filesystem::copy(temp.folder(), copy, std::filesystem::copy_options::recursive);
  const auto go_on = [&](const std::string& salt) {
    auto ledger = TempLedger::open_with(temp.signing_options());
    append_to(*ledger, 0, 5, salt);
    ASSERT_TRUE(ledger->close());
  };
  go_on("one");
  const auto kept = Note::parse(exported(temp)).value();
  std::filesystem::remove_all(temp.folder());
  std::filesystem::rename(copy, temp.folder());
  go_on("other");
  EXPECT_FALSE(temp.verify({.key = temp.public_key()}).first_bad) << "each side is signed";
  const auto report = temp.verify({.against = {kept}});
  ASSERT_TRUE(report.first_bad);
  EXPECT_THAT(report.first_bad->what, HasSubstr("forked"));
}

// The last entries cut off with head and checkpoint, as if they had never been.
TEST(TamperedSigned, ACutTailIsFoundByAKeptCheckpoint) {
  const TempLedger temp;
  fill(temp.signing_options());
  const auto kept = Note::parse(exported(temp)).value();
  const auto entries = temp.entries();
  const std::uint64_t left = 310;
  ASSERT_EQ(temp.tamper("DELETE FROM entries WHERE sequence >= 310; DELETE FROM checkpoints WHERE size > 310;"
                        "DELETE FROM subtrees WHERE level > 8 OR number > 0;"
                        "UPDATE head SET size = 310, last_hash = x'" +
                        base::to_hex(entries[left - 1].entry_hash) + "'"),
            "");
  const auto closed = temp.verify();
  ASSERT_TRUE(closed.first_bad);
  EXPECT_THAT(closed.first_bad->what, HasSubstr("was closed, and is not signed to its end"));
  ASSERT_EQ(temp.tamper("UPDATE head SET running = 1"), "");
  EXPECT_FALSE(temp.verify().first_bad) << "the writer may have crashed";
  EXPECT_TRUE(temp.verify({.against = {kept}}).first_bad);
}

// Every byte counts: wherever one is flipped in the file, either the entries are what they were or it is found.
TEST(TamperedSigned, AFlippedByteIsFound) {
  const TempLedger temp;
  fill(temp.signing_options());
  const auto good = temp.entries();
  std::string bytes = base::read_file(temp.path(), 1 << 24).value();
  std::uint64_t found = 0, tried = 0;
  for (std::size_t at = 4096 + 700; at < bytes.size(); at += 1733) {
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    std::ofstream(temp.path(), std::ios::binary) << bytes;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    ++tried;
    const auto reader = LedgerReader::open(temp.path());
    if (!reader) {
      ++found;
      continue;
    }
    const auto report = (*reader)->verify();
    if (!report || report->first_bad) {
      ++found;
      continue;
    }
    std::uint64_t same = 0;
    ASSERT_TRUE((*reader)->read(0, UINT64_MAX, [&](const Entry& entry) {
      return same < good.size() && entry.entry_hash == good[same].entry_hash && ++same > 0;
    })) << at;
    EXPECT_EQ(same, good.size()) << "byte " << at;
  }
  EXPECT_GT(tried, 10U);
  EXPECT_GT(found, tried / 2);
}

TEST(TamperedSigned, ATruncatedFileIsFound) {
  const TempLedger temp;
  fill(temp.signing_options());
  std::filesystem::resize_file(temp.path(), std::filesystem::file_size(temp.path()) / 2 / 4096 * 4096);
  const auto reader = LedgerReader::open(temp.path());
  EXPECT_TRUE(!reader || !(*reader)->verify() || (*reader)->verify()->first_bad);
  EXPECT_FALSE(Ledger::open(temp.signing_options()));
}

TEST(TamperedSigned, AFileThatIsReplacedWhileItIsWrittenStopsTheWriter) {
  const TempLedger temp;
  auto ledger = TempLedger::open_with(temp.signing_options());
  append_to(*ledger, 0, 3);
  std::filesystem::copy_file(temp.path(), temp.path() + ".copy");
  std::filesystem::rename(temp.path() + ".copy", temp.path());
  const auto appended = ledger->append("procmond", "start", "{}");
  ASSERT_FALSE(appended);
  EXPECT_EQ(appended.error().code, Errc::corrupt);
  ASSERT_TRUE(ledger->journal_batches({batch(1)}));
  EXPECT_FALSE(ledger->seal_batches());
  EXPECT_FALSE(ledger->journal_batches({batch(2)})) << "no more digests than one root's";
}

TEST(TamperedSigned, APlantedWriteAheadLogIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can plant another user's file";
  for (const std::string suffix : {"-wal", "-shm", ".batches"}) {
    const TempLedger temp;
    fill(temp.signing_options());
    const auto path = temp.path() + suffix;
    std::ofstream(path) << "planted";
    ASSERT_EQ(::chown(path.c_str(), 65534, 65534), 0);
    const auto opened = Ledger::open(temp.signing_options());
    ASSERT_FALSE(opened) << suffix;
    EXPECT_EQ(opened.error().code, Errc::permission_denied);
    std::filesystem::remove(path);
    std::filesystem::create_symlink(temp.root() + "/elsewhere", path);
    EXPECT_FALSE(Ledger::open(temp.signing_options())) << suffix;
  }
}

// The log of another, forged ledger beside this file: SQLite would read its pages for ours.
TEST(TamperedSigned, TheWriteAheadLogOfAnotherLedgerIsFound) {
  const TempLedger temp, other;
  fill(temp.signing_options());
  auto forged = other.open();
  append_to(*forged, 0, 50, "forged");
  std::filesystem::copy_file(other.path() + "-wal", temp.path() + "-wal",
                             std::filesystem::copy_options::overwrite_existing);
  std::filesystem::remove(temp.path() + "-shm");
  const auto reader = LedgerReader::open(temp.path());
  const auto report =
      reader ? (*reader)->verify({.key = temp.public_key()}) : Result<LedgerReader::Report>(LedgerReader::Report());
  EXPECT_TRUE(!reader || !report || report->first_bad);
}

class TamperedSegments : public ::testing::Test {
 protected:
  void SetUp() override {
    auto options = temp_.signing_options();
    options.segment_bytes = 100'000;
    auto ledger = TempLedger::open_with(options);
    for (int i = 0; i < 20; ++i) append_to(*ledger, 0, 130);
    ASSERT_TRUE(ledger->close());
    ASSERT_GE(ledger->status().segments, 3U);
    const auto report = temp_.verify({.key = temp_.public_key()});
    ASSERT_FALSE(report.first_bad) << report.first_bad->what;
    second_ = segment_path(temp_.path(), 1);
  }
  [[nodiscard]] bool found() const {
    const auto reader = LedgerReader::open(temp_.path());
    if (!reader) return true;
    const auto report = (*reader)->verify({.key = temp_.public_key()});
    return !report || report->first_bad;
  }
  TempLedger temp_;
  std::string second_;
};

TEST_F(TamperedSegments, AMissingOneIsFound) {
  std::filesystem::rename(second_, temp_.root() + "/away");
  const auto report = temp_.verify();
  ASSERT_TRUE(report.first_bad);
  EXPECT_FALSE(Ledger::open(temp_.signing_options()));
}
TEST_F(TamperedSegments, AnAlteredEntryOfAnEarlierOneIsFound) {
  ASSERT_EQ(TempLedger::tamper_file(second_,
                                    "UPDATE entries SET actor = 'x' WHERE sequence = (SELECT min(sequence) + 5 "
                                    "FROM entries)"),
            "");
  EXPECT_TRUE(found());
}
TEST_F(TamperedSegments, AnAlteredBeginIsFound) {
  ASSERT_EQ(TempLedger::tamper_file(second_, "UPDATE segment SET previous_hash = zeroblob(32)"), "");
  EXPECT_TRUE(found());
}
TEST_F(TamperedSegments, AlteredHashesAtTheBeginAreFound) {
  ASSERT_EQ(TempLedger::tamper_file(second_, "UPDATE segment SET peaks = zeroblob(length(peaks))"), "");
  EXPECT_TRUE(found());
}
TEST_F(TamperedSegments, AShortenedEarlierOneIsFound) {
  ASSERT_EQ(TempLedger::tamper_file(temp_.path(),
                                    "DELETE FROM entries WHERE sequence = (SELECT max(sequence) FROM "
                                    "entries)"),
            "");
  EXPECT_TRUE(found());
}
TEST_F(TamperedSegments, OneInPlaceOfAnotherIsFound) {
  std::filesystem::copy_file(segment_path(temp_.path(), 2), second_, std::filesystem::copy_options::overwrite_existing);
  EXPECT_TRUE(found());
}

}  // namespace
}  // namespace daemoneye::ledger
