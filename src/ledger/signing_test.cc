// Keys, checkpoints, proofs and segments of a ledger as a whole.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "ledger/format.h"
#include "ledger/testing/temp_ledger.h"

namespace daemoneye::ledger {
namespace {

using testing::batch;
using testing::TempLedger;

void append(Ledger& ledger, std::uint64_t count) {
  std::vector<NewEntry> entries;
  for (std::uint64_t i = 0; i < count; ++i) entries.push_back({"agent", "x", R"({"n":)" + std::to_string(i) + "}"});
  ASSERT_TRUE(ledger.append(entries));
}

unsigned mode_of(const std::string& path) {
  struct stat status{};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777U;
}

Checkpoint newest_checkpoint(const TempLedger& temp) {
  const auto note = Note::parse(temp.reader()->checkpoint_covering(1).value().value()).value();
  EXPECT_TRUE(note.is_signed_by(temp.public_key()));
  return Checkpoint::parse(note.text).value();
}

TEST(Checkpoints, AreSignedAtTheEndAndWhenDue) {
  const TempLedger temp;
  auto options = temp.signing_options();
  options.checkpoint_entries = 10;
  auto ledger = TempLedger::open_with(options);
  EXPECT_EQ(temp.entries().front().action, "key");
  ASSERT_TRUE(ledger->checkpoint_when_due());
  EXPECT_EQ(ledger->status().checkpointed, 0U) << "neither time nor number";
  append(*ledger, 20);
  ASSERT_TRUE(ledger->checkpoint_when_due());
  EXPECT_EQ(ledger->status().checkpointed, 21U);
  EXPECT_EQ(newest_checkpoint(temp).root, temp.reader()->root(21).value());
  ASSERT_TRUE(ledger->checkpoint());
  EXPECT_EQ(ledger->status().checkpointed, 21U) << "its own record is nothing new";
  append(*ledger, 1);
  ASSERT_TRUE(ledger->close());
  EXPECT_EQ(newest_checkpoint(temp).size, 23U);
  EXPECT_TRUE(newest_checkpoint(temp).origin.starts_with("test-host/daemoneye/"));
  const auto report = temp.verify({.key = temp.public_key()});
  EXPECT_FALSE(report.first_bad);
  EXPECT_EQ(report.checkpoints, 2U);
  EXPECT_EQ(report.signed_until, 23U);
}

TEST(Checkpoints, CountByAnotherNumberFromWhenItIsSet) {
  const TempLedger temp;
  auto ledger = TempLedger::open_with(temp.signing_options());
  append(*ledger, 20);
  ASSERT_TRUE(ledger->checkpoint_when_due());
  EXPECT_EQ(ledger->status().checkpointed, 0U);
  ledger->set_checkpoints(std::chrono::hours(1), 10);
  ASSERT_TRUE(ledger->checkpoint_when_due());
  EXPECT_EQ(ledger->status().checkpointed, 21U);
  append(*ledger, 1);
  ASSERT_TRUE(ledger->checkpoint_when_due());
  EXPECT_EQ(ledger->status().checkpointed, 21U);
  ledger->set_checkpoints(std::chrono::milliseconds(0), 1000);
  ASSERT_TRUE(ledger->checkpoint_when_due());
  EXPECT_GT(ledger->status().checkpointed, 21U) << "by the time, too";
}

TEST(Checkpoints, AreCopiedOneAfterAnother) {
  const TempLedger temp;
  auto options = temp.signing_options();
  options.checkpoint_copy = temp.root() + "/copy";
  auto ledger = TempLedger::open_with(options);
  for (int i = 0; i < 3; ++i) {
    append(*ledger, 5);
    ASSERT_TRUE(ledger->checkpoint());
  }
  const auto notes = parse_notes(base::read_file(options.checkpoint_copy, 1 << 20).value());
  ASSERT_TRUE(notes) << notes.error().message;
  ASSERT_EQ(notes->size(), 3U);
  for (const auto& note : *notes) EXPECT_TRUE(note.is_signed_by(temp.public_key()));
  EXPECT_EQ(ledger->status().copy_problem, "");
  EXPECT_FALSE(temp.verify({.against = *notes}).first_bad);
}

TEST(Checkpoints, GoOnWithoutACopyAndSaySo) {
  const TempLedger temp;
  auto options = temp.signing_options();
  options.checkpoint_copy = temp.root() + "/no-such-folder/copy";
  auto ledger = TempLedger::open_with(options);
  ASSERT_TRUE(ledger->checkpoint());
  EXPECT_NE(ledger->status().copy_problem, "");
}

TEST(SigningKey, IsItsOwnersAlone) {
  const TempLedger temp;
  const auto options = temp.signing_options();
  ASSERT_TRUE(TempLedger::open_with(options)->close());
  EXPECT_EQ(mode_of(options.key_path), 0600U);
  EXPECT_EQ(mode_of(options.key_path + ".pub"), 0644U);
  const auto key = temp.public_key();
  ASSERT_TRUE(TempLedger::open_with(options)->close());
  EXPECT_EQ(temp.public_key(), key) << "made once";
  ASSERT_EQ(::chmod(options.key_path.c_str(), 0640), 0);
  const auto opened = Ledger::open(options);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::permission_denied);
}

TEST(SigningKey, OfAnotherLedgerIsRefused) {
  const TempLedger temp, other;
  ASSERT_TRUE(TempLedger::open_with(temp.signing_options())->close());
  ASSERT_TRUE(TempLedger::open_with(other.signing_options())->close());
  auto options = temp.signing_options();
  options.key_path = other.signing_options().key_path;
  const auto opened = Ledger::open(options);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::invalid_input);
}

TEST(SigningKey, IsRotatedUnderTheOldKeysSignature) {
  const TempLedger temp;
  const auto options = temp.signing_options();
  auto ledger = TempLedger::open_with(options);
  append(*ledger, 3);
  const auto old_key = temp.public_key();
  const auto made = ledger->rotate_key();
  ASSERT_TRUE(made) << made.error().message;
  const auto new_key = temp.public_key();
  EXPECT_EQ(new_key.text(), *made);
  EXPECT_NE(new_key, old_key);
  append(*ledger, 3);
  ASSERT_TRUE(ledger->rotate_key());
  append(*ledger, 3);
  ASSERT_TRUE(ledger->close());
  EXPECT_FALSE(std::filesystem::exists(options.key_path + ".next"));
  for (const auto& key : {old_key, new_key, temp.public_key()}) {
    const auto report = temp.verify({.key = key});
    EXPECT_FALSE(report.first_bad) << key.id() << ": " << report.first_bad->what;
    EXPECT_EQ(report.signed_until, temp.entries().size() - 1) << "the old key hands over to the new one";
    EXPECT_EQ(report.keys.size(), 3U);
    EXPECT_TRUE(report.notices.empty());
  }
}

TEST(SigningKey, ThatWasLostIsReplacedAndThatIsSaid) {
  const TempLedger temp;
  const auto options = temp.signing_options();
  ASSERT_TRUE(TempLedger::open_with(options)->close());
  const auto old_key = temp.public_key();
  std::filesystem::remove(options.key_path);
  auto ledger = TempLedger::open_with(options);
  append(*ledger, 1);
  ASSERT_TRUE(ledger->close());
  const auto report = temp.verify();
  EXPECT_FALSE(report.first_bad);
  ASSERT_EQ(report.notices.size(), 1U);
  EXPECT_LT(temp.verify({.key = old_key}).signed_until, report.signed_until)
      << "the old key proves no more than it did";
}

TEST(SigningKey, ARotationThatACrashCutShortIsFinished) {
  const TempLedger temp;
  const auto options = temp.signing_options();
  auto ledger = TempLedger::open_with(options);
  append(*ledger, 3);
  const auto old_files = std::pair(base::read_file(options.key_path, 4096).value(),
                                   base::read_file(options.key_path + ".pub", 4096).value());
  ASSERT_TRUE(ledger->rotate_key());
  const auto rotated = temp.public_key();
  ASSERT_TRUE(ledger->close());
  ledger.reset();
  // As it is between the entry and the file.
  std::filesystem::rename(options.key_path, options.key_path + ".next");
  ASSERT_TRUE(base::write_file_atomic(options.key_path, old_files.first, 0600));
  ASSERT_TRUE(base::write_file_atomic(options.key_path + ".pub", old_files.second, 0644));
  ASSERT_TRUE(TempLedger::open_with(options)->close());
  EXPECT_EQ(temp.public_key(), rotated);
  EXPECT_TRUE(temp.verify({.key = rotated}).notices.empty());
  // And before the entry: the key that was never recorded is forgotten.
  ASSERT_TRUE(base::write_file_atomic(options.key_path + ".next", PrivateKey::generate(rotated.name())->text(), 0600));
  ASSERT_TRUE(TempLedger::open_with(options)->close());
  EXPECT_EQ(temp.public_key(), rotated);
  EXPECT_FALSE(std::filesystem::exists(options.key_path + ".next"));
}

// Over segments, at sizes around those where a subtree is complete.
TEST(Proofs, HoldForEveryEntryAndEarlierSize) {
  const TempLedger temp;
  auto options = temp.signing_options();
  options.segment_bytes = 40'000;
  auto ledger = TempLedger::open_with(options);
  for (int i = 0; i < 15; ++i) append(*ledger, 97);
  ASSERT_TRUE(ledger->close());
  EXPECT_GT(ledger->status().segments, 2U);
  const auto report = temp.verify({.key = temp.public_key()});
  ASSERT_FALSE(report.first_bad) << report.first_bad->what;
  const auto reader = temp.reader();
  const auto key = temp.public_key();
  const std::uint64_t size = newest_checkpoint(temp).size;
  std::vector<std::string> leaves;
  for (const auto& entry : temp.entries()) leaves.push_back(encode_leaf(entry));
  EXPECT_EQ(reader->root(leaves.size()).value(), merkle_root(leaves));
  for (std::uint64_t at = 0; at <= size; at += at % 256 > 250 || at % 256 < 5 ? 1 : 31) {
    if (at < size) {
      const auto proof = reader->prove_entry(at);
      ASSERT_TRUE(proof) << at << ": " << proof.error().message;
      ASSERT_TRUE(verify_proof(*proof, key)) << at;
      auto wrong = *proof;
      wrong.payload += " ";
      ASSERT_FALSE(verify_proof(wrong, key)) << at;
    }
    const auto proof = reader->prove_consistency(at);
    ASSERT_TRUE(proof) << at << ": " << proof.error().message;
    ASSERT_EQ(proof->from_root, merkle_root({leaves.begin(), leaves.begin() + static_cast<std::ptrdiff_t>(at)})) << at;
    ASSERT_TRUE(verify_proof(*proof, key)) << at;
  }
  EXPECT_FALSE(reader->prove_entry(size)) << "not under a checkpoint";
  EXPECT_FALSE(reader->prove_entry(1'000'000));
  EXPECT_FALSE(reader->prove_consistency(1'000'000));
}

TEST(Proofs, ComeBackFromBothForms) {
  const TempLedger temp;
  auto ledger = TempLedger::open_with(temp.signing_options());
  append(*ledger, 20);
  ASSERT_TRUE(ledger->journal_batches({batch(1)}));
  ASSERT_TRUE(ledger->close());
  const auto reader = temp.reader();
  const auto key = temp.public_key();
  for (const auto& proof : {reader->prove_entry(21).value(), reader->prove_entry(0).value(),
                            reader->prove_consistency(7).value(), reader->prove_consistency(0).value()}) {
    for (const auto& text : {proof.json(), proof.text()}) {
      const auto again = Proof::parse(text);
      ASSERT_TRUE(again) << again.error().message << '\n' << text;
      EXPECT_EQ(*again, proof);
      EXPECT_TRUE(verify_proof(*again, key));
      // Of whatever is changed in it nothing passes for a proof.
      for (std::size_t at = 0; at < text.size(); at += 13) {
        auto changed = text;
        changed[at] = changed[at] == 'A' ? 'B' : 'A';
        const auto parsed = Proof::parse(changed);
        if (parsed && *parsed != proof) {
          EXPECT_FALSE(verify_proof(*parsed, key)) << at;
        }
      }
    }
    EXPECT_FALSE(verify_proof(proof, PrivateKey::generate(key.name())->public_key()));
  }
  for (const auto* wrong :
       {"", "{}", "[]", "c2sp.org/tlog-proof@v1\n", "c2sp.org/tlog-proof@v1\nextra AAAA\nindex 0\n\n",
        "daemoneye/consistency-proof@v1\nfrom 1\n\n"}) {
    EXPECT_FALSE(Proof::parse(wrong)) << wrong;
  }
}

TEST(Segments, RotateBySizeAndAreReadAsOne) {
  const TempLedger temp;
  auto options = temp.signing_options();
  options.segment_bytes = 20'000;
  std::uint64_t written = 0;
  for (int run = 0; run < 4; ++run) {
    auto ledger = TempLedger::open_with(options);
    for (int i = 0; i < 4; ++i) append(*ledger, 60);
    ASSERT_TRUE(ledger->journal_batches({batch(1, static_cast<std::uint8_t>(run + 1))}));
    ASSERT_TRUE(ledger->seal_batches());
    const auto closed = ledger->close();
    ASSERT_TRUE(closed) << closed.error().message;
    written = ledger->size();
  }
  EXPECT_TRUE(std::filesystem::exists(segment_path(temp.path(), 2)));
  const auto entries = temp.entries();
  ASSERT_EQ(entries.size(), written);
  for (std::uint64_t i = 0; i < written; ++i) {
    ASSERT_EQ(entries[i].sequence, i);
    ASSERT_EQ(entries[i].previous_hash, i == 0 ? base::Sha256Digest{} : entries[i - 1].entry_hash);
  }
  std::vector<std::uint64_t> some;
  ASSERT_TRUE(temp.reader()->read(100, 300, [&](const Entry& entry) {
    some.push_back(entry.sequence);
    return true;
  }));
  ASSERT_EQ(some.size(), 300U);
  EXPECT_EQ(some.back(), 399U);
  EXPECT_EQ(temp.reader()->size().value(), written);
  const auto report = temp.verify({.key = temp.public_key()});
  EXPECT_FALSE(report.first_bad) << report.first_bad->what;
  EXPECT_EQ(mode_of(segment_path(temp.path(), 1)), 0640U);
}

// A crash between making the next file and its first commit.
TEST(Segments, OneThatWasNotBegunIsNoPartOfTheLedger) {
  const TempLedger temp;
  auto options = temp.signing_options();
  auto ledger = TempLedger::open_with(options);
  append(*ledger, 100);
  ASSERT_TRUE(ledger->close());
  ledger.reset();
  options.segment_bytes = 20'000;
  ASSERT_TRUE(base::write_file_atomic(segment_path(temp.path(), 1), "", 0640));
  EXPECT_FALSE(temp.verify().first_bad);
  ledger = TempLedger::open_with(options);
  for (int i = 0; i < 5; ++i) append(*ledger, 100);
  ASSERT_TRUE(ledger->close());
  EXPECT_GT(ledger->status().segments, 1U);
  EXPECT_FALSE(temp.verify().first_bad);
}

// A reader that was there before the writer went on in a new file.
TEST(Segments, AreFoundByAReaderThatIsOpen) {
  const TempLedger temp;
  auto options = temp.signing_options();
  options.segment_bytes = 20'000;
  auto ledger = TempLedger::open_with(options);
  append(*ledger, 10);
  const auto reader = temp.reader();
  EXPECT_EQ(reader->size().value(), 11U);
  for (int i = 0; i < 5; ++i) append(*ledger, 100);
  EXPECT_EQ(reader->size().value(), ledger->size());
  EXPECT_FALSE(reader->verify()->first_bad);
}

}  // namespace
}  // namespace daemoneye::ledger
