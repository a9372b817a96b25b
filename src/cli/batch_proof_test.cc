#include "cli/batch_proof.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ledger/format.h"
#include "ledger/merkle.h"

namespace daemoneye::cli {
namespace {

using base::Sha256Digest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::int64_t second = 1'000'000'000;

Sha256Digest digest_of_batch(std::uint64_t sequence) { return base::sha256("batch " + std::to_string(sequence)); }

// A ledger and a store that agree, and whatever a test does to them.
class BatchProofTest : public ::testing::Test {
 protected:
  void entry(const std::string& actor, const std::string& action, const std::string& payload) {
    ledger::Entry entry;
    entry.sequence = next_entry_++;
    entry.time.ns = static_cast<std::int64_t>(entry.sequence) * 100 * second;
    entry.actor = actor;
    entry.action = action;
    entry.payload = payload;
    proof_.on_entry(entry);
  }
  void sealed(std::uint64_t first, std::uint64_t last, std::uint8_t epoch = 1) {
    ledger::MerkleTree tree;
    for (auto n = first; n <= last; ++n) tree.add(ledger::leaf_hash(base::as_bytes(digest_of_batch(n))));
    std::string json;
    ledger::SealedBatches{{epoch}, first, last - first + 1, tree.root(), false}.json(json);
    entry("procmond", "batches", json);
  }
  void stored(std::uint64_t sequence, std::uint8_t epoch = 1, const std::string& source = "procmond") {
    stored_as(sequence, digest_of_batch(sequence), digest_of_batch(sequence), epoch, source);
  }
  void stored_as(std::uint64_t sequence, const Sha256Digest& row, const Sha256Digest& recomputed,
                 std::uint8_t epoch = 1, const std::string& source = "procmond") {
    store::Reader::BatchRow batch;
    batch.id = {source, {epoch}, sequence};
    batch.digest = row;
    proof_.on_batch(batch, recomputed, "");
  }
  void journaled(std::uint64_t sequence, const Sha256Digest& digest) { proof_.on_journal({{{1}, sequence, digest}}); }
  void named(std::uint8_t epoch) {
    entry("procmond", "epoch", R"({"epoch":")" + event::to_string(event::Epoch{epoch}) + R"("})");
  }
  void sealed_acknowledged(std::uint64_t first, std::uint64_t last, std::uint64_t acknowledged,
                           std::uint8_t epoch = 1) {
    ledger::MerkleTree tree;
    for (auto n = first; n <= last; ++n) tree.add(ledger::leaf_hash(base::as_bytes(digest_of_batch(n))));
    std::string json;
    ledger::SealedBatches{{epoch}, first, last - first + 1, tree.root(), false, acknowledged}.json(json);
    entry("procmond", "batches", json);
  }
  void stored_without_root(std::uint64_t sequence, std::int64_t newest_s, std::uint8_t epoch = 1) {
    store::Reader::BatchRow batch;
    batch.id = {"procmond", {epoch}, sequence};
    batch.digest = digest_of_batch(sequence);
    proof_.on_batch(batch, batch.digest, "", Timestamp{newest_s * second});
  }
  void rolled_back(std::int64_t from_s, std::int64_t to_s) {
    entry("procmond", "gap",
          R"({"asserted_by":"agent","count":1,"from":")" + base::to_iso(Timestamp{from_s * second}) +
              R"(","reason":"store_rolled_back","to":")" + base::to_iso(Timestamp{to_s * second}) + R"("})");
  }
  void retention(const std::string& rest) { entry("agent", "agent.retention", rest); }
  [[nodiscard]] std::uint64_t claimed() const { return proof_.counts().claimed; }
  // proven, pending, explained, wrong
  std::vector<std::uint64_t> result() {
    proof_.end_of_store();
    proof_.finish();
    const auto& counts = proof_.counts();
    return {counts.proven, counts.pending, counts.explained, counts.wrong};
  }
  [[nodiscard]] std::string first_wrong() const { return proof_.wrong().empty() ? "" : proof_.wrong().front(); }

  BatchProof proof_;
  std::uint64_t next_entry_ = 0;
};

TEST_F(BatchProofTest, WhatIsUnderARootIsProven) {
  sealed(1, 3);
  sealed(4, 4);
  sealed(1, 2, 2);
  for (const std::uint64_t n : {1, 2, 3, 4}) stored(n);
  stored(1, 2);
  stored(2, 2);
  EXPECT_THAT(result(), ElementsAre(6, 0, 0, 0));
}

TEST_F(BatchProofTest, AnAlteredBatchIsNamed) {
  sealed(1, 3);
  stored(1);
  stored_as(2, digest_of_batch(2), base::sha256("other"));
  stored(3);
  EXPECT_THAT(result(), ElementsAre(0, 0, 2, 1));
  EXPECT_THAT(first_wrong(), HasSubstr("batch 2"));
  EXPECT_THAT(first_wrong(), HasSubstr("altered"));
}

TEST_F(BatchProofTest, ABatchThatIsAlteredWithItsDigestIsFoundByTheRoot) {
  sealed(1, 3);
  sealed(4, 5);
  stored(1);
  stored_as(2, base::sha256("other"), base::sha256("other"));
  for (const std::uint64_t n : {3, 4, 5}) stored(n);
  EXPECT_THAT(result(), ElementsAre(2, 0, 0, 3));
  EXPECT_THAT(first_wrong(), HasSubstr("batches 1 to 3"));
}

TEST_F(BatchProofTest, AMissingBatchIsNamed) {
  sealed(1, 3);
  sealed(4, 4);
  for (const std::uint64_t n : {1, 3, 4}) stored(n);
  const auto counts = result();
  EXPECT_EQ(counts[3], 1U);
  EXPECT_EQ(counts[0], 1U);
  EXPECT_THAT(first_wrong(), HasSubstr("missing"));
}

TEST_F(BatchProofTest, AWholeRangeThatIsMissingIsNamed) {
  sealed(1, 2);
  sealed(3, 4);
  sealed(5, 6);
  for (const std::uint64_t n : {1, 2, 5, 6}) stored(n);
  EXPECT_THAT(result(), ElementsAre(4, 0, 0, 2));
  EXPECT_THAT(first_wrong(), HasSubstr("batches 3 to 4"));
}

TEST_F(BatchProofTest, AnAddedBatchIsNamed) {
  sealed(1, 2);
  stored(1);
  stored(2);
  stored(3);
  stored(1, 9);
  EXPECT_THAT(result(), ElementsAre(2, 0, 0, 2));
  EXPECT_THAT(first_wrong(), HasSubstr("added"));
}

TEST_F(BatchProofTest, ABatchOfAnotherSourceUnderAKnownNumberIsWrong) {
  sealed(1, 1);
  stored(1, 1, "import");
  EXPECT_EQ(result()[3], 1U);
}

TEST_F(BatchProofTest, ABatchStoredTwiceIsWrong) {
  sealed(1, 2);
  stored(1);
  stored(1);
  stored(2);
  EXPECT_EQ(result()[3], 1U);
}

TEST_F(BatchProofTest, WhatIsJournaledIsPendingAndNothingElse) {
  sealed(1, 1);
  journaled(2, digest_of_batch(2));
  journaled(3, digest_of_batch(3));
  stored(1);
  stored(2);
  stored_as(3, base::sha256("x"), base::sha256("x"));
  EXPECT_THAT(result(), ElementsAre(1, 1, 0, 1));
}

TEST_F(BatchProofTest, WhatCameWhileTheStoreWasReadIsPending) {
  sealed(1, 1);
  stored(1);
  stored(2);
  stored(3);
  proof_.end_of_store();
  sealed(2, 2);
  journaled(3, digest_of_batch(3));
  EXPECT_THAT(result(), ElementsAre(1, 2, 0, 0));
}

TEST_F(BatchProofTest, WhatWasSentLastMayBeOnItsWay) {
  sealed(1, 2);
  sealed(3, 4);
  for (const std::uint64_t n : {1, 2, 3}) stored(n);
  EXPECT_THAT(result(), ElementsAre(2, 2, 0, 0));
}

TEST_F(BatchProofTest, AfterAStopNothingMayBeMissing) {
  sealed(1, 4);
  entry("procmond", "stop", R"({"unacknowledged_batches":0})");
  for (const std::uint64_t n : {1, 2, 3}) stored(n);
  EXPECT_EQ(result()[3], 1U);
}

TEST_F(BatchProofTest, WhatWasNotAcknowledgedAtAStopOrCrashIsExplained) {
  named(1);
  sealed(1, 4);
  entry("procmond", "stop",
        R"({"acknowledged":3,"epoch":")" + event::to_string(event::Epoch{1}) + R"(","unacknowledged_batches":1})");
  named(2);
  sealed_acknowledged(1, 2, 1, 2);
  entry("procmond", "crash_recovery", R"({"machine":"went on"})");
  for (const std::uint64_t n : {1, 2, 3}) stored(n);
  stored(1, 2);
  EXPECT_THAT(result(), ElementsAre(0, 0, 6, 0));
  EXPECT_EQ(claimed(), 0U);
}

// Whoever owns the store cannot cut off its end: what the agent had acknowledged is in the ledger.
TEST_F(BatchProofTest, WhatWasAcknowledgedAndIsMissingAtTheEndIsWrong) {
  named(1);
  sealed(1, 5);
  sealed_acknowledged(6, 10, 5);
  sealed_acknowledged(11, 15, 10);
  for (std::uint64_t n = 1; n <= 5; ++n) stored(n);
  EXPECT_THAT(result(), ElementsAre(5, 5, 0, 5)) << "6 to 10 are gone, 11 to 15 may be on their way";
  EXPECT_THAT(first_wrong(), HasSubstr("batches 6 to 10"));
}

TEST_F(BatchProofTest, NorDoesACrashOfTheCollectorExplainThem) {
  named(1);
  sealed(1, 5);
  sealed_acknowledged(6, 10, 8);
  entry("procmond", "crash_recovery", R"({"machine":"went on"})");
  for (std::uint64_t n = 1; n <= 5; ++n) stored(n);
  EXPECT_THAT(result(), ElementsAre(5, 0, 2, 3));
}

TEST_F(BatchProofTest, AcknowledgementsWithoutARootCountAsWell) {
  named(1);
  sealed(1, 2);
  entry("procmond", "acknowledged", R"({"acknowledged":2,"epoch":")" + event::to_string(event::Epoch{1}) + R"("})");
  stored(1);
  EXPECT_EQ(result()[3], 1U);
}

TEST_F(BatchProofTest, AnOlderLedgersCrashIsNotEnough) {
  sealed(1, 4);
  entry("procmond", "crash_recovery", R"({"machine":"went on"})");
  stored(1);
  EXPECT_THAT(result(), ElementsAre(0, 0, 4, 0));
  EXPECT_EQ(claimed(), 3U) << "what had been acknowledged is not recorded";
}

TEST_F(BatchProofTest, ACrashExplainsNoHoleBeforeTheEnd) {
  sealed(1, 4);
  entry("procmond", "crash_recovery", R"({"machine":"went on"})");
  for (const std::uint64_t n : {1, 2, 4}) stored(n);
  EXPECT_EQ(result()[3], 1U);
}

TEST_F(BatchProofTest, OnlyACrashOfTheMachineExplainsABatchWithoutARoot) {
  sealed(1, 1);
  entry("procmond", "crash_recovery", R"({"machine":"was started anew"})");  // at 100 s
  sealed(1, 1, 2);
  entry("procmond", "crash_recovery", R"({"machine":"went on"})");
  sealed(1, 1, 3);
  entry("procmond", "crash_recovery", R"({"machine":"unknown"})");
  stored(1);
  stored_without_root(2, 90);
  for (const auto epoch : {std::uint8_t{2}, std::uint8_t{3}}) {
    stored(1, epoch);
    stored_without_root(2, 90, epoch);
  }
  EXPECT_THAT(result(), ElementsAre(3, 0, 1, 2));
  EXPECT_EQ(claimed(), 1U);
  EXPECT_THAT(proof_.claims(), ElementsAre(HasSubstr("(entry 1)")));
}

TEST_F(BatchProofTest, ACrashOfTheMachineExplainsNoOtherEpoch) {
  sealed(1, 5);
  entry("procmond", "crash_recovery", R"({"machine":"was started anew"})");
  sealed(1, 5, 2);
  for (const auto epoch : {std::uint8_t{1}, std::uint8_t{2}}) {
    for (std::uint64_t n = 1; n <= 5; ++n) stored(n, epoch);
  }
  for (std::uint64_t n = 1; n <= 1000; ++n) stored_without_root(n, 90, 9);
  EXPECT_THAT(result(), ElementsAre(10, 0, 0, 1000));
}

// A second's worth, and one second's: without a hole after the last root, and not after the crash.
TEST_F(BatchProofTest, ACrashOfTheMachineExplainsItsLastSecondAlone) {
  const auto explained = [&](const std::vector<std::pair<std::uint64_t, std::int64_t>>& batches) {
    proof_ = BatchProof();
    next_entry_ = 0;
    named(1);
    sealed(1, 1);                                                              // at 100 s
    entry("procmond", "crash_recovery", R"({"machine":"was started anew"})");  // at 200 s
    stored(1);
    for (const auto& [sequence, newest] : batches) stored_without_root(sequence, newest);
    return result()[2];
  };
  EXPECT_EQ(explained({{2, 150}, {3, 151}}), 2U);
  EXPECT_EQ(explained({{3, 150}}), 0U) << "not the next after the last root";
  EXPECT_EQ(explained({{2, 150}, {4, 151}}), 0U);
  EXPECT_EQ(explained({{2, 110}, {3, 150}}), 0U) << "not within a second";
  EXPECT_EQ(explained({{2, 250}}), 0U) << "after the crash";
  std::vector<std::pair<std::uint64_t, std::int64_t>> many;
  for (std::uint64_t n = 2; n < 2 + ledger::max_journaled_batches; ++n) many.emplace_back(n, 150);
  EXPECT_EQ(explained(many), many.size());
  many.emplace_back(many.back().first + 1, 150);
  EXPECT_EQ(explained(many), 0U) << "more than the journal holds";
}

TEST_F(BatchProofTest, AnEpochThatWasNamedAndHasNoRootMayHaveALastSecond) {
  named(1);
  entry("procmond", "crash_recovery", R"({"machine":"was started anew"})");
  stored_without_root(1, 50);
  EXPECT_THAT(result(), ElementsAre(0, 0, 1, 0));
}

TEST_F(BatchProofTest, RecordedRetentionExplainsWhatIsOlder) {
  sealed(1, 2);  // at 0 s
  sealed(3, 4);  // at 100 s
  sealed(5, 6);  // at 200 s
  retention(R"({"before":")" + base::to_iso(Timestamp{50 * second}) + R"("})");
  for (const std::uint64_t n : {5, 6}) stored(n);
  EXPECT_THAT(result(), ElementsAre(2, 0, 2, 2));
  EXPECT_EQ(claimed(), 2U) << "the agent alone says so";
  EXPECT_THAT(proof_.claims(), ElementsAre(HasSubstr("entry 3")));
  EXPECT_THAT(first_wrong(), HasSubstr("batches 3 to 4"));
}

TEST_F(BatchProofTest, RetentionTakesTheOldestFirst) {
  for (std::uint64_t n = 1; n <= 50; n += 5) sealed(n, n + 4);
  retention(R"({"before":"1970-01-01T01:00:00Z","events":1})");
  for (std::uint64_t n = 1; n <= 50; ++n) {
    if (n < 16 || n > 25) stored(n);
  }
  EXPECT_THAT(result(), ElementsAre(40, 0, 0, 10));
}

TEST_F(BatchProofTest, WhatTheConfigurationKeepsNoLongerNeedsNobodysWord) {
  proof_ = BatchProof({.kept_since = Timestamp{150 * second}});
  sealed(1, 2);  // at 0 s
  sealed(3, 4);  // at 100 s
  sealed(5, 6);  // at 200 s
  for (const std::uint64_t n : {4, 5, 6}) stored(n);
  EXPECT_THAT(result(), ElementsAre(2, 0, 4, 0));
  EXPECT_EQ(claimed(), 0U);
}

// The entries' times never go back after that, and the clock's did.
TEST_F(BatchProofTest, AClockThatWasAheadMakesNoRetentionWrong) {
  next_entry_ = 41'000'000;  // in the year 2099
  sealed(1, 25);
  sealed(26, 50);
  retention(R"({"before":"2026-01-01T00:00:00Z","events":25,"oldest":{"batch":26,"epoch":")" +
            event::to_string(event::Epoch{1}) + R"("}})");
  for (std::uint64_t n = 26; n <= 50; ++n) stored(n);
  EXPECT_THAT(result(), ElementsAre(25, 0, 25, 0));
}

TEST_F(BatchProofTest, RetentionThatLeftABatchDoesNotExplainThatItIsGone) {
  sealed(1, 2);
  sealed(3, 4);
  sealed(5, 6);
  retention(R"({"before":"1970-01-02T00:00:00Z","oldest":{"batch":3,"epoch":")" + event::to_string(event::Epoch{1}) +
            R"("}})");
  for (const std::uint64_t n : {5, 6}) stored(n);
  EXPECT_EQ(result()[3], 0U) << "of the root that holds the oldest all may be gone";
  proof_ = BatchProof();
  next_entry_ = 0;
  sealed(1, 2);
  sealed(3, 4);
  sealed(5, 6);
  retention(R"({"before":"1970-01-02T00:00:00Z","oldest":{"batch":1,"epoch":")" + event::to_string(event::Epoch{1}) +
            R"("}})");
  for (const std::uint64_t n : {5, 6}) stored(n);
  EXPECT_EQ(result()[3], 2U);
}

TEST_F(BatchProofTest, ARollBackExplainsItsSpanAlone) {
  for (std::uint64_t n = 1; n <= 50; n += 5) sealed(n, n + 4);  // at 0, 100, …, 900 s
  rolled_back(395, 400);
  for (std::uint64_t n = 1; n <= 50; ++n) {
    if (n < 11 || n > 25) stored(n);  // of 200, 300 and 400 s
  }
  EXPECT_THAT(result(), ElementsAre(35, 0, 5, 10));
  EXPECT_EQ(claimed(), 5U) << "the collector has it from the agent";
}

TEST_F(BatchProofTest, APurgeOfEverythingExplainsWhatWasBeforeIt) {
  sealed(1, 2);
  entry("uid:0 (asserted by agent)", "agent.store_purge", R"({"before":null})");
  sealed(3, 3);
  stored(3);
  EXPECT_THAT(result(), ElementsAre(1, 0, 2, 0));
  EXPECT_EQ(claimed(), 2U);
}

TEST_F(BatchProofTest, TheCollectorsOwnWordsCannotBeTheAgents) {
  sealed(1, 2);
  entry("agent", "agent.crash_recovery", R"({"machine":"was started anew"})");
  entry("agent", "batches", R"({"count":1})");
  stored(1);
  stored(2);
  stored(3);
  EXPECT_THAT(result(), ElementsAre(2, 0, 0, 1));
}

}  // namespace
}  // namespace daemoneye::cli
