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
  sealed(1, 4);
  entry("procmond", "stop", R"({"unacknowledged_batches":1})");
  sealed(1, 2, 2);
  entry("procmond", "crash_recovery", R"({"machine":"went on"})");
  for (const std::uint64_t n : {1, 2, 3}) stored(n);
  stored(1, 2);
  EXPECT_THAT(result(), ElementsAre(0, 0, 6, 0));
}

TEST_F(BatchProofTest, ACrashExplainsNoHoleBeforeTheEnd) {
  sealed(1, 4);
  entry("procmond", "crash_recovery", R"({"machine":"went on"})");
  for (const std::uint64_t n : {1, 2, 4}) stored(n);
  EXPECT_EQ(result()[3], 1U);
}

TEST_F(BatchProofTest, OnlyACrashOfTheMachineExplainsABatchWithoutARoot) {
  sealed(1, 1);
  entry("procmond", "crash_recovery", R"({"machine":"was started anew"})");
  sealed(1, 1, 2);
  entry("procmond", "crash_recovery", R"({"machine":"went on"})");
  stored(1);
  stored(2);
  stored(1, 2);
  stored(2, 2);
  EXPECT_THAT(result(), ElementsAre(2, 0, 1, 1));
}

TEST_F(BatchProofTest, RecordedRetentionExplainsWhatIsOlder) {
  sealed(1, 2);  // at 0 s
  sealed(3, 4);  // at 100 s
  sealed(5, 6);  // at 200 s
  entry("agent", "agent.retention", R"({"before":")" + base::to_iso(Timestamp{50 * second}) + R"("})");
  for (const std::uint64_t n : {5, 6}) stored(n);
  EXPECT_THAT(result(), ElementsAre(2, 0, 2, 2));
  EXPECT_THAT(first_wrong(), HasSubstr("batches 3 to 4"));
}

TEST_F(BatchProofTest, APurgeOfEverythingExplainsWhatWasBeforeIt) {
  sealed(1, 2);
  entry("uid:0 (asserted by agent)", "agent.store_purge", R"({"before":null})");
  sealed(3, 3);
  stored(3);
  EXPECT_THAT(result(), ElementsAre(1, 0, 2, 0));
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
