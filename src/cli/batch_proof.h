// What the ledger says of batches, and what a store's batches are held against: each is proven, pending, explained or
// wrong.
#pragma once

#include <cstdint>
#include <limits>
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
    // Of the explained ones: by the agent's word alone, which whoever owns the store may have, or sent in the last
    // second before a crash of the machine, where no root could tell them from forged ones.
    std::uint64_t claimed = 0;
    std::uint64_t wrong = 0;
  };
  struct Options {
    // What is older than this the configuration in force has removed, whoever says so. Nothing is by default.
    Timestamp kept_since{std::numeric_limits<std::int64_t>::min()};
  };
  static constexpr std::size_t max_told = 20, max_unknown = 100'000;

  BatchProof() = default;
  explicit BatchProof(Options options) : options_(options) {}

  // The ledger's entries in order, then the journal, then the store's batches in order. Then what came meanwhile: after
  // end_of_store() the journal again and the ledger's newer entries. Then the end.
  void on_entry(const ledger::Entry& entry);
  void on_journal(const std::vector<ledger::Ledger::BatchDigest>& journaled);
  // `recomputed`: from the events as they stand; nothing when they cannot be read, with the reason in `problem`.
  // `newest`: the latest time among its events, asked for where wants_time() says so.
  void on_batch(const store::Reader::BatchRow& batch, const std::optional<base::Sha256Digest>& recomputed,
                const std::string& problem, std::optional<Timestamp> newest = std::nullopt);
  [[nodiscard]] bool wants_time(const event::BatchId& id) const;
  void end_of_store();
  void finish();

  [[nodiscard]] const Counts& counts() const { return counts_; }
  [[nodiscard]] const std::vector<std::string>& wrong() const { return wrong_; }  // the first of them, in words
  // What the claimed ones rest on, an entry of the ledger each, in words.
  [[nodiscard]] const std::vector<std::string>& claims() const { return told_claims_; }

 private:
  struct Range {
    std::uint64_t entry = 0, first = 0, count = 0;
    Timestamp time;
    base::Sha256Digest root{};
    std::uint64_t found = 0;    // of its batches, in the store
    std::uint64_t altered = 0;  // of them, and named
    std::uint64_t first_found = 0, last_found = 0;
    bool late = false;  // of batches that came while the store was read
    [[nodiscard]] std::uint64_t last() const { return first + count - 1; }
  };
  struct Epoch {
    std::vector<Range> ranges;                // in order
    std::uint64_t newest_stored = 0;          // batch
    bool named = false;                       // by an entry of its own, before its first batch
    bool tells_acknowledged = false;          // since then what the agent acknowledged is recorded, too
    std::uint64_t acknowledged = 0;           // batch
    bool ended = false, ended_whole = false;  // whole: the agent had acknowledged all of it
    // The machine crashed: what was sent in its last second may have no root.
    std::optional<std::uint64_t> lost_second_entry;
    Timestamp ended_at;
  };
  enum class Cause : std::uint8_t { rolled_back, purged, set_aside, retention };
  struct Removal {
    Cause cause = Cause::retention;
    std::uint64_t entry = 0;
    Timestamp from{std::numeric_limits<std::int64_t>::min()}, to;  // of what was removed
    // The oldest batch that retention left, where it is told: no clock has a say in what came before it.
    std::optional<std::pair<event::Epoch, std::uint64_t>> oldest;
    std::optional<std::uint64_t> oldest_entry = std::nullopt;  // of its root
    std::uint64_t claimed = 0;
  };
  // Neither a root nor the journal knew them when they were met.
  struct Unknown {
    std::uint64_t sequence = 0;
    base::Sha256Digest digest{};
    std::string name;
    std::optional<Timestamp> newest;
  };

  void wrong(std::uint64_t batches, std::string what);
  void tell_claim(std::string what);
  void merge_removals();
  void end_range();
  [[nodiscard]] const Range* range_of(const event::Epoch& epoch, std::uint64_t sequence) const;
  void account(const Epoch& epoch, const event::Epoch& id, const Range& range);
  // Missing, and acknowledged: something must have removed them.
  void account_removed(const event::Epoch& id, const Range& range, std::uint64_t missing, bool oldest_of_all);
  [[nodiscard]] static bool explains(const Removal& removal, const Range& range, bool oldest_of_all);
  void account_unknown(const event::Epoch& id, const std::vector<Unknown>& batches);
  [[nodiscard]] bool is_lost_second(const Epoch& epoch, const std::vector<Unknown>& batches) const;
  void on_batches(const ledger::Entry& entry);
  void on_own(const ledger::Entry& entry);
  void on_agents(const ledger::Entry& entry);
  Epoch& begin_epoch(const event::Epoch& id);

  Options options_;
  std::map<event::Epoch, Epoch> epochs_;
  event::Epoch newest_epoch_{};
  bool any_epoch_ = false;
  std::map<std::pair<event::Epoch, std::uint64_t>, base::Sha256Digest> journal_;
  std::vector<Removal> removals_;
  std::uint64_t oldest_stored_entry_ = UINT64_MAX;  // the first root of which a batch is stored

  Range* current_ = nullptr;  // the range whose batches come in now
  event::Epoch current_epoch_{};
  ledger::MerkleTree tree_;
  std::uint64_t next_ = 0;
  bool whole_ = true;

  Counts counts_;
  std::vector<std::string> wrong_, told_claims_;
  std::map<event::Epoch, std::vector<Unknown>> unknown_;
  std::size_t unknown_count_ = 0;
  std::uint64_t more_unknown_ = 0;
  bool store_ended_ = false;
};

}  // namespace daemoneye::cli
