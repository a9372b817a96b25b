// What the ledger says of batches, and what a store's batches are held against: each is proven, pending, explained or
// wrong.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ledger/ledger.h"
#include "ledger/merkle.h"
#include "store/reader.h"

namespace daemoneye::cli {

class BatchProof {
 public:
  struct Counts {
    std::uint64_t proven = 0;     // under the root that the ledger has for them
    std::uint64_t pending = 0;    // journaled or sent, not yet under a root or not yet acknowledged
    std::uint64_t explained = 0;  // gone, or beyond proof, for a reason that the ledger records
    std::uint64_t wrong = 0;
  };
  static constexpr std::size_t max_told = 20, max_unknown = 100'000;

  // The ledger's entries in order, then the journal, then the store's batches in order. Then what came meanwhile: after
  // end_of_store() the journal again and the ledger's newer entries. Then the end.
  void on_entry(const ledger::Entry& entry);
  void on_journal(const std::vector<ledger::Ledger::BatchDigest>& journaled);
  // `recomputed`: from the events as they stand; nothing when they cannot be read, with the reason in `problem`.
  void on_batch(const store::Reader::BatchRow& batch, const std::optional<base::Sha256Digest>& recomputed,
                const std::string& problem);
  void end_of_store();
  void finish();

  [[nodiscard]] const Counts& counts() const { return counts_; }
  [[nodiscard]] const std::vector<std::string>& wrong() const { return wrong_; }  // the first of them, in words

 private:
  struct Range {
    std::uint64_t entry = 0, first = 0, count = 0;
    Timestamp time;
    base::Sha256Digest root{};
    std::uint64_t found = 0;    // of its batches, in the store
    std::uint64_t altered = 0;  // of them, and named
    bool late = false;          // of batches that came while the store was read
    [[nodiscard]] std::uint64_t last() const { return first + count - 1; }
  };
  struct Epoch {
    std::vector<Range> ranges;        // in order
    std::uint64_t last_entry = 0;     // of the last range
    std::uint64_t newest_stored = 0;  // batch
    // How it ended, when it did: what was not acknowledged may be missing; after a crash of the machine what was sent
    // in its last second may have no root.
    std::optional<std::uint64_t> ended_by;
    bool may_miss = false, may_lack_root = false;
  };
  struct Removal {
    std::uint64_t entry = 0;
    Timestamp before;
  };

  void wrong(std::uint64_t batches, std::string what);
  void end_range();
  void account(const Epoch& epoch, const event::Epoch& id, const Range& range);
  [[nodiscard]] bool removed(const Range& range) const;
  void on_batches(const ledger::Entry& entry);
  void on_end_of_epoch(const ledger::Entry& entry, bool may_miss, bool may_lack_root);

  std::map<event::Epoch, Epoch> epochs_;
  event::Epoch newest_epoch_{};
  bool any_epoch_ = false;
  std::map<std::pair<event::Epoch, std::uint64_t>, base::Sha256Digest> journal_;
  std::vector<Removal> removals_;
  bool machine_crashed_ = false;  // ever

  Range* current_ = nullptr;  // the range whose batches come in now
  event::Epoch current_epoch_{};
  ledger::MerkleTree tree_;
  std::uint64_t next_ = 0;
  bool whole_ = true;

  Counts counts_;
  std::vector<std::string> wrong_;
  // Neither a root nor the journal knew them when they were met.
  struct Unknown {
    event::Epoch epoch;
    std::uint64_t sequence = 0;
    base::Sha256Digest digest{};
    std::string name;
  };
  std::vector<Unknown> unknown_;
  std::uint64_t more_unknown_ = 0;
  bool store_ended_ = false;
};

}  // namespace daemoneye::cli
