// What Ledger's parts share: ledger.cc (its callers' side), ledger_open.cc, ledger_write.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "db/database.h"
#include "db/statement_cache.h"
#include "ledger/checkpoint_copy.h"
#include "ledger/files.h"
#include "ledger/format.h"
#include "ledger/journal.h"
#include "ledger/keys.h"
#include "ledger/ledger.h"
#include "ledger/segment.h"

namespace daemoneye::ledger {

// Nobody else writes; what waits here keeps the collector from reading its events.
constexpr std::uint32_t busy_timeout_ms = 100;

struct Ledger::State {
  // Where the log ends: in memory, and in the transaction under way.
  struct Tip {
    MerkleTree tree;
    base::Sha256Digest last_hash{};
    Timestamp last_time{INT64_MIN};
    std::optional<Entry> last;  // its payload's digest is taken when somebody asks
    std::uint64_t bytes = 0;    // of the segment, about
  };

  Options options;
  std::optional<Files> files;
  std::unique_ptr<db::Database> database;
  std::unique_ptr<db::StatementCache> statements;
  std::vector<FileIdentity> identities;  // of the database and its write-ahead log
  std::optional<FileIdentity> journal_identity;
  SegmentStart start;
  Head head;
  Tip tip;
  std::optional<Journal> journal;
  std::vector<BatchDigest> unsealed;
  // The highest batch journaled in this run; numbers only rise in an epoch.
  event::Epoch batch_epoch{};
  std::uint64_t highest_batch = 0;
  std::optional<Error> seal_error;  // what keeps the last root from being written

  std::optional<PrivateKey> key;
  std::uint64_t checkpointed = 0;
  base::SteadyClock::time_point checkpoint_tried = base::SteadyClock::now();
  Timestamp checkpoint_tried_wall = base::wall_now();
  std::optional<Timestamp> checkpoint_time;
  CheckpointCopy copy;
  std::string checkpoint_problem;
  std::string leaf;  // reused
  std::uint64_t segment_full_at = 0;
  bool maybe_begun = false;  // the next segment, by a commit that failed
  bool closed = false;

  Result<void> open_segment(std::uint64_t number);
  Result<bool> is_begun(std::uint64_t number) const;
  Result<void> load();
  Result<void> check_last_entries();
  Result<void> build_subtrees();
  Result<void> recover(const std::optional<Files::KeptAside>& torn);
  Result<std::vector<BatchDigest>> batches_of_version_1();
  Result<void> open_key();
  Result<void> check_signed_past();
  Result<void> keep_public_key();
  Result<std::vector<FileIdentity>> identities_of(const std::string& path) const;

  Result<void> in_place() const;
  template <class Work>
  Result<void> commit(const Work& work);
  Result<void> rotate(const std::string& path, std::unique_ptr<db::Database> made);
  Result<void> rotate_when_possible();
  Result<void> insert(Tip& at, std::string_view actor, std::string_view action, std::string payload,
                      const std::string* packed = nullptr);
  Result<void> insert_ranges(Tip& at, const std::vector<BatchDigest>& batches, bool recovered,
                             std::optional<std::uint64_t> acknowledged = std::nullopt);
  Result<void> insert_checkpoint(Tip& at, const std::vector<const PrivateKey*>& keys, std::string& note);
  Result<void> record_key(Tip& at, const PublicKey& public_key, std::string_view how);
  Result<void> write_head(const Tip& at);
  void hand_on(const std::string& note, std::uint64_t size);
};

template <class Work>
Result<void> Ledger::State::commit(const Work& work) {
  DE_CHECK(in_place());
  if (tip.bytes >= segment_full_at && tip.tree.size() > start.first) DE_CHECK(rotate_when_possible());
  Tip next = tip;
  DE_TRY(auto transaction, db::Transaction::begin(*database));
  DE_CHECK(work(next));
  DE_CHECK(write_head(next));
  DE_CHECK(transaction.commit());
  tip = std::move(next);
  return {};
}

}  // namespace daemoneye::ledger
