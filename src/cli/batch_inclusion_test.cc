#include "cli/batch_inclusion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/text.h"
#include "ledger/ledger.h"
#include "store/testing/temp_store.h"

namespace daemoneye::cli {
namespace {

using State = BatchInclusion::State;
using store::testing::make_batch;
using store::testing::make_event;
using testing::ElementsAre;
using testing::HasSubstr;

// A store and a ledger; batches of one event each.
class BatchInclusionTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(folder_.path() + "/state");
    auto writer = store::Writer::open(folder_.options());
    ASSERT_TRUE(writer) << writer.error().message;
    writer_ = std::move(*writer);
    ledger::Ledger::Options options;
    options.path = audit_path();
    options.key_path = folder_.path() + "/audit/checkpoint.key";
    options.name = "host.example";
    auto ledger = ledger::Ledger::open(options);
    ASSERT_TRUE(ledger) << ledger.error().message;
    ledger_ = std::move(*ledger);
  }

  [[nodiscard]] std::string audit_path() const { return folder_.path() + "/audit/audit.redb"; }

  static event::Batch batch(std::uint64_t sequence) {
    return make_batch(sequence, {make_event(event::EventKind::exec, static_cast<event::Pid>(sequence),
                                            base::wall_now().ns / 1'000'000'000 * 1'000'000'000)});
  }
  // Digests of what is sent, and the events as they are stored: of an altered batch another one.
  void journal(std::uint64_t sequence, std::uint64_t as = 0) {
    const auto canonical = event::encode_batch(
        batches_.try_emplace(as == 0 ? sequence : as, batch(as == 0 ? sequence : as)).first->second);
    ASSERT_TRUE(canonical);
    ASSERT_TRUE(ledger_->journal_batches({{batch(sequence).id.epoch, sequence, event::batch_digest(*canonical)}}));
  }
  void store(std::uint64_t sequence) {
    const auto commit = store::testing::commit(*writer_, batches_.try_emplace(sequence, batch(sequence)).first->second);
    ASSERT_TRUE(commit) << commit.error().message;
  }
  void seal() { ASSERT_TRUE(ledger_->seal_batches()); }
  void sign() { ASSERT_TRUE(ledger_->checkpoint()); }

  Inclusion prove(std::vector<event::EventId> events) {
    const auto reader = store::Reader::open(folder_.file());
    const auto ledger = ledger::LedgerReader::open(audit_path());
    EXPECT_TRUE(reader && ledger);
    std::vector<AskedEvent> asked;
    for (const auto id : events) asked.push_back({id, base::wall_now()});
    auto inclusion = prove_inclusion(**reader, **ledger, asked, [] { return false; });
    EXPECT_TRUE(inclusion) << inclusion.error().message;
    return inclusion ? *std::move(inclusion) : Inclusion();
  }

  store::testing::TempFolder folder_;
  std::unique_ptr<store::Writer> writer_;
  std::unique_ptr<ledger::Ledger> ledger_;
  std::map<std::uint64_t, event::Batch> batches_;
};

TEST_F(BatchInclusionTest, LeadsFromEventsToASignedCheckpoint) {
  for (std::uint64_t n = 1; n <= 5; ++n) {
    journal(n);
    store(n);
  }
  seal();
  sign();
  const auto found = prove({2, 4, 4});
  ASSERT_EQ(found.batches.size(), 2U);
  const auto key_text = base::read_file(folder_.path() + "/audit/checkpoint.key.pub", 4096);
  ASSERT_TRUE(key_text);
  const auto key = ledger::PublicKey::parse(base::trim(*key_text));
  ASSERT_TRUE(key);
  for (const auto& batch : found.batches) {
    EXPECT_EQ(batch.state, State::proven) << batch.why;
    ASSERT_TRUE(batch.sealed);
    const auto& sealed = *batch.sealed;
    EXPECT_TRUE(ledger::proves_inclusion(batch.id.sequence - sealed.first, sealed.count,
                                         ledger::leaf_hash(base::as_bytes(batch.digest)), batch.path, sealed.root));
    ASSERT_TRUE(found.proofs.contains(batch.entry));
    const auto& proof = found.proofs.at(batch.entry);
    EXPECT_TRUE(ledger::verify_proof(proof, *key));
    EXPECT_THAT(proof.payload, HasSubstr(base::to_hex(sealed.root)));
  }
  EXPECT_THAT(found.batches[0].events, ElementsAre(2));
  EXPECT_THAT(found.origin, HasSubstr("host.example"));
}

TEST_F(BatchInclusionTest, NamesWhatWasAltered) {
  for (std::uint64_t n = 1; n <= 3; ++n) {
    journal(n, n == 2 ? 20 : n);  // what was sent as 2 is not what is stored as 2
    store(n);
  }
  seal();
  sign();
  const auto found = prove({1, 2});
  ASSERT_EQ(found.batches.size(), 2U);
  EXPECT_EQ(found.batches[1].state, State::altered);
  EXPECT_THAT(found.batches[1].why, HasSubstr("root"));
  EXPECT_TRUE(found.altered());
}

TEST_F(BatchInclusionTest, TellsWhatIsNotProvenYet) {
  journal(1);
  store(1);
  EXPECT_EQ(prove({1}).batches.at(0).state, State::pending);
  seal();
  EXPECT_EQ(prove({1}).batches.at(0).state, State::unsigned_);
  sign();
  EXPECT_EQ(prove({1}).batches.at(0).state, State::proven);
  store(2);  // and the ledger knows nothing of it
  const auto found = prove({2});
  EXPECT_EQ(found.batches.at(0).state, State::unproven);
  EXPECT_THAT(found.batches.at(0).why, HasSubstr("no root"));
  EXPECT_FALSE(found.altered());
}

TEST_F(BatchInclusionTest, SaysThatABatchBesideItIsGone) {
  for (std::uint64_t n = 1; n <= 3; ++n) journal(n);
  seal();
  sign();
  store(2);
  store(3);
  const auto found = prove({2});
  ASSERT_EQ(found.batches.size(), 1U);
  EXPECT_EQ(found.batches[0].state, State::unproven);
  EXPECT_THAT(found.batches[0].why, HasSubstr("batch 1"));
}

TEST_F(BatchInclusionTest, ShowsAtMostSoManyBatches) {
  std::vector<event::EventId> events;
  for (std::uint64_t n = 1; n <= max_included_batches + 3; ++n) {
    journal(n);
    store(n);
    events.push_back(static_cast<event::EventId>(n));
  }
  seal();
  sign();
  const auto found = prove(events);
  EXPECT_EQ(found.batches.size(), max_included_batches);
  EXPECT_EQ(found.more_batches, 3U);
  EXPECT_TRUE(prove({999}).batches.empty()) << "an event that is not kept";
}

}  // namespace
}  // namespace daemoneye::cli
