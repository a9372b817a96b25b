// Logs that are consistent in themselves and not what the collector signed: what is not signed when it should have
// been, and what the next start finds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ledger/format.h"
#include "ledger/signed_head.h"
#include "ledger/testing/temp_ledger.h"

namespace daemoneye::ledger {
namespace {

using ::testing::HasSubstr;
using testing::TempLedger;
namespace fs = std::filesystem;

void append(Ledger& ledger, std::uint64_t count, const std::string& action = "gap", const std::string& text = "true") {
  std::vector<NewEntry> entries;
  for (std::uint64_t i = 0; i < count; ++i) {
    entries.push_back({"procmond", action, R"({"n":)" + std::to_string(i) + R"(,"s":")" + text + R"("})"});
  }
  ASSERT_TRUE(ledger.append(entries));
}

std::string fault_of(const LedgerReader::Report& report) { return report.first_bad ? report.first_bad->what : ""; }

// Three entries under a checkpoint, kept; then more under another, by the same writer.
class SignedPast : public ::testing::Test {
 protected:
  void SetUp() override {
    options_ = temp_.signing_options();
    auto ledger = TempLedger::open_with(options_);
    append(*ledger, 3);
    ASSERT_TRUE(ledger->checkpoint());
    fs::copy(temp_.folder(), prefix(), fs::copy_options::recursive);
    append(*ledger, 500);
    ASSERT_TRUE(ledger->close());
    key_ = temp_.public_key();
  }
  [[nodiscard]] std::string prefix() const { return temp_.root() + "/prefix"; }
  // By one who may write the files, and has not the key. What was kept beside it stays, unless `with_key_folder`.
  void put_back(bool with_key_folder = false) {
    for (const auto& file : fs::directory_iterator(temp_.folder())) {
      if (file.path().filename().string().starts_with("audit.redb") || with_key_folder) fs::remove(file.path());
    }
    for (const auto& file : fs::directory_iterator(prefix())) {
      const auto name = file.path().filename().string();
      if (name.starts_with("audit.redb") || with_key_folder) fs::copy(file.path(), temp_.folder() + "/" + name);
    }
  }
  void start_and_stop() {
    auto ledger = TempLedger::open_with(options_);
    append(*ledger, 1, "start");
    ASSERT_TRUE(ledger->close());
  }
  [[nodiscard]] LedgerReader::Report verify_with_key() const { return temp_.verify({.key = key_}); }

  const TempLedger temp_;
  Ledger::Options options_;
  std::optional<PublicKey> key_;
};

TEST_F(SignedPast, IsSignedToItsEnd) {
  const auto report = verify_with_key();
  EXPECT_EQ(fault_of(report), "");
  EXPECT_EQ(report.unsigned_entries, 0U);
  EXPECT_EQ(report.trusted, std::vector{*key_});
  EXPECT_EQ(report.origin, key_->name());
}

TEST_F(SignedPast, ATailThatIsClosedAndNotSignedIsNoneOfTheWriters) {
  put_back();
  auto forged = temp_.open();
  append(*forged, 1500, "gap", "FORGED");
  ASSERT_TRUE(forged->close());
  EXPECT_THAT(fault_of(verify_with_key()), HasSubstr("not signed"));
  EXPECT_THAT(fault_of(temp_.verify()), HasSubstr("not signed")) << "the log's own keys are enough to tell";
}

TEST_F(SignedPast, AStartThatNothingIsSignedAfterIsNoneOfTheWriters) {
  put_back();
  auto forged = temp_.open();
  append(*forged, 1, "start");
  append(*forged, 20, "gap", "FORGED");
  EXPECT_THAT(fault_of(verify_with_key()), HasSubstr("after the collector's start at entry 6"));
}

TEST_F(SignedPast, MoreThanIsEverLeftUnsignedIsNoneOfTheWriters) {
  put_back();
  auto forged = temp_.open();
  append(*forged, 1200, "gap", "FORGED");
  EXPECT_EQ(fault_of(verify_with_key()), "") << "it may be what the writer has not come to sign yet";
  EXPECT_EQ(verify_with_key().unsigned_entries, 1200U + 1) << "with the record of the crash";
  EXPECT_THAT(fault_of(temp_.verify({.key = key_, .checkpoint_entries = 100})), HasSubstr("too many entries"));
}

TEST_F(SignedPast, OlderThanAnythingIsLeftUnsignedIsNoneOfTheWriters) {
  put_back();
  Entry entry;
  {
    auto forged = temp_.open();
    append(*forged, 1, "gap", "FORGED");
    entry = *forged->last();
  }
  for (const std::int64_t minutes : {11, 30}) {
    entry.previous_hash = entry.entry_hash = base::sha256(std::string(1, '\0') + encode_leaf(entry));
    ++entry.sequence;
    entry.time.ns += minutes * 60'000'000'000;
    ASSERT_EQ(temp_.tamper(TempLedger::insert_sql(entry, true)), "");
    entry.payload_digest = base::sha256(entry.payload);
  }
  EXPECT_THAT(fault_of(verify_with_key()), HasSubstr("longer than checkpoints are apart"));
}

TEST_F(SignedPast, AnOlderCopyIsNotSignedAgainUnseen) {
  put_back();
  start_and_stop();
  const auto report = verify_with_key();
  EXPECT_THAT(fault_of(report), HasSubstr("put_back"));
  EXPECT_EQ(report.entries, temp_.entries().size()) << "all of it is walked";
}

TEST_F(SignedPast, ARewrittenTailIsNotSignedAgainUnseen) {
  put_back();
  {
    auto forged = temp_.open();
    append(*forged, 1500, "gap", "FORGED");
    ASSERT_TRUE(forged->close());
  }
  start_and_stop();
  EXPECT_THAT(fault_of(verify_with_key()), HasSubstr("rewritten"));
}

TEST_F(SignedPast, AnEmptyFolderIsNotBegunAnewUnseen) {
  for (const auto& file : fs::directory_iterator(temp_.folder())) {
    if (file.path().filename().string().starts_with("audit.redb")) fs::remove(file.path());
  }
  start_and_stop();
  EXPECT_THAT(fault_of(verify_with_key()), HasSubstr("started_anew"));
  fs::remove(signed_head_path(options_.key_path));
  for (const auto& file : fs::directory_iterator(temp_.folder())) {
    if (file.path().filename().string().starts_with("audit.redb")) fs::remove(file.path());
  }
  start_and_stop();
  const auto report = verify_with_key();
  EXPECT_EQ(fault_of(report), "");
  EXPECT_THAT(report.notices, ::testing::ElementsAre(HasSubstr("older than the ledger")));
}

TEST_F(SignedPast, WhatAnOlderVersionLeftGoesOn) {
  fs::remove(signed_head_path(options_.key_path));
  start_and_stop();
  EXPECT_EQ(fault_of(verify_with_key()), "");
  EXPECT_TRUE(fs::exists(signed_head_path(options_.key_path)));
}

TEST_F(SignedPast, AStoredHashThatIsWrongIsNotSigned) {
  ASSERT_EQ(temp_.tamper("UPDATE subtrees SET hash = zeroblob(32) WHERE level = 8 AND number = 0"), "");
  const auto opened = Ledger::open(options_);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::corrupt);
}

TEST_F(SignedPast, ACheckpointOfOurOwnMakingIsNotGoneOnFrom) {
  const auto forged = PrivateKey::generate(key_->name());
  ASSERT_TRUE(forged);
  const auto size = Checkpoint::parse(Note::parse(*temp_.reader()->checkpoint_covering(1).value())->text)->size;
  Note note{.text = Checkpoint{key_->name(), size, {}}.text(), .signatures = {}};
  ASSERT_TRUE(note.sign(*forged));
  ASSERT_EQ(temp_.tamper("UPDATE checkpoints SET note = '" + note.bytes() + "' WHERE size = " + std::to_string(size)),
            "");
  const auto opened = Ledger::open(options_);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message, HasSubstr("newest checkpoint"));
}

TEST_F(SignedPast, ThePublicKeyIsMadeAgain) {
  fs::remove(options_.key_path + ".pub");
  start_and_stop();
  EXPECT_EQ(temp_.public_key(), *key_);
  ASSERT_TRUE(base::write_file_atomic(options_.key_path + ".pub", "garbage\n", 0644));
  start_and_stop();
  EXPECT_EQ(temp_.public_key(), *key_);
}

std::string key_entry(const PublicKey& key, const std::string& how, const std::string& replaces) {
  return R"({"how":")" + how + R"(","id":")" + key.id() + R"(","key":")" + key.text() + R"(","replaces":")" + replaces +
         R"("})";
}

TEST_F(SignedPast, TwoRotationsInARowHideNoReplacement) {
  const auto a = PrivateKey::generate(key_->name()).value(), b = PrivateKey::generate(key_->name()).value();
  auto forged = temp_.open();
  ASSERT_TRUE(forged->append("procmond", "key", key_entry(a.public_key(), "rotated", key_->text())));
  ASSERT_TRUE(forged->append("procmond", "key", key_entry(b.public_key(), "rotated", a.public_key().text())));
  append(*forged, 1);
  EXPECT_THAT(fault_of(temp_.verify()), HasSubstr("hands over"));
}

TEST_F(SignedPast, AKeyThatDoesNotFitIsNone) {
  const auto a = PrivateKey::generate(key_->name()).value();
  for (const auto& [how, replaces] : {std::pair{"first", ""}, std::pair{"kept", ""}, std::pair{"stolen", ""},
                                      std::pair{"replaced", "another"}, std::pair{"rotated", ""}}) {
    const TempLedger temp;
    auto ledger = TempLedger::open_with(temp.signing_options());
    append(*ledger, 1);
    ASSERT_TRUE(ledger->append("procmond", "key", key_entry(a.public_key(), how, replaces)));
    EXPECT_NE(fault_of(temp.verify()), "") << how;
  }
}

TEST_F(SignedPast, AReplacedKeyIsAFaultToWhoTrustsTheOldOne) {
  fs::remove(options_.key_path);
  start_and_stop();
  EXPECT_THAT(fault_of(verify_with_key()), HasSubstr("without its signature"));
  EXPECT_EQ(fault_of(temp_.verify()), "");
}

TEST_F(SignedPast, OriginAndHeadAreLookedAt) {
  const auto head_key = [&](const std::string& text) { return "UPDATE head SET key = '" + text + "'"; };
  ASSERT_EQ(temp_.tamper(head_key("x")), "");
  EXPECT_THAT(fault_of(temp_.verify()), HasSubstr("names another key"));
  ASSERT_EQ(temp_.tamper(head_key(key_->text()) + "; UPDATE segment SET origin = 'other/x'"), "");
  EXPECT_THAT(fault_of(temp_.verify()), HasSubstr("another origin"));
}

TEST_F(SignedPast, AnIndexIsNoneOfTheLedgers) {
  ASSERT_EQ(temp_.tamper("CREATE INDEX i ON entries (action)"), "");
  EXPECT_THAT(fault_of(temp_.verify()), HasSubstr("index"));
}

TEST_F(SignedPast, AVersionThatIsSetBackIsDamage) {
  ASSERT_EQ(temp_.tamper("PRAGMA user_version = 1"), "");
  const auto opened = LedgerReader::open(temp_.path());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::corrupt);
}

// The writer goes on in a new file while the walk is in the one before.
TEST(Verification, ARotationInItsMidstIsNoFault) {
  const TempLedger temp;
  auto options = temp.options();
  options.segment_bytes = 500'000;  // more entries than the walk makes between two looks
  auto ledger = TempLedger::open_with(options);
  while (ledger->status().segments < 2) append(*ledger, 64);
  ASSERT_GT(ledger->size(), 4096U);
  const auto segments = ledger->status().segments;
  bool rotated = false;
  LedgerReader::VerifyOptions verify;
  verify.progress = [&](std::uint64_t, std::uint64_t) {
    if (std::exchange(rotated, true)) return;
    while (ledger->status().segments == segments) append(*ledger, 64);
  };
  const auto reader = temp.reader();
  const auto report = reader->verify(verify);
  ASSERT_TRUE(report);
  EXPECT_TRUE(rotated);
  EXPECT_EQ(fault_of(*report), "");
  EXPECT_EQ(report->entries, ledger->size());
}

// A crash between a new segment's first commit and the mark in the one before.
TEST(Verification, TheMarkOfAFinishedSegmentIsMadeGood) {
  const TempLedger temp;
  auto options = temp.options();
  options.segment_bytes = 20'000;
  {
    auto ledger = TempLedger::open_with(options);
    while (ledger->status().segments < 2) append(*ledger, 60);
    ASSERT_TRUE(ledger->close());
  }
  ASSERT_EQ(temp.tamper("UPDATE head SET continued = 0"), "");
  ASSERT_TRUE(TempLedger::open_with(options)->close());
  for (const auto* suffix : {"", "-wal", "-shm"}) fs::remove(segment_path(temp.path(), 1) + suffix);
  EXPECT_THAT(fault_of(temp.verify()), HasSubstr("another segment"));
}

}  // namespace
}  // namespace daemoneye::ledger
