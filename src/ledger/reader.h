// Reading, verifying and proving: while the ledger is written, and when it is not.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "ledger/ledger.h"
#include "ledger/merkle.h"
#include "ledger/note.h"
#include "ledger/proof.h"

namespace daemoneye::ledger {

class LedgerReader {
 public:
  // not_found: there is none. unavailable: a file of version 1, which procmond brings forward when it starts.
  static Result<std::unique_ptr<LedgerReader>> open(const std::string& path);
  ~LedgerReader();

  // Entries [from, from+count) in order until `each` returns false.
  Result<void> read(std::uint64_t from, std::uint64_t count, const std::function<bool(const Entry&)>& each) const;
  Result<std::uint64_t> size() const;

  // The newest that covers `size` entries or more; nothing: there is none.
  Result<std::optional<std::string>> checkpoint_covering(std::uint64_t size) const;
  // O(log size) hashes read. invalid_input: no such entry, or it is not under a checkpoint yet.
  Result<Proof> prove_entry(std::uint64_t sequence) const;
  Result<Proof> prove_consistency(std::uint64_t from) const;
  Result<base::Sha256Digest> root(std::uint64_t size) const;
  Result<MerkleTree> tree(std::uint64_t size) const;  // over the first `size` entries

  // Digests that were journaled before their batches were sent and that no root covers yet.
  Result<std::vector<Ledger::BatchDigest>> journaled() const;

  struct Bad {
    std::uint64_t sequence = 0;
    std::string what;
  };
  struct VerifyOptions {
    // Checkpoints must be signed by it, or by keys that it handed over to. None: by the keys that the ledger names.
    std::optional<PublicKey> key = std::nullopt;
    std::vector<Note> against = {};  // checkpoints that were kept elsewhere
    // How often the writer signs: what should have been signed since, and is not, is no entry of the writer's.
    std::chrono::milliseconds checkpoint_interval{300'000};
    std::uint64_t checkpoint_entries = 10'000;
    std::function<void(std::uint64_t done, std::uint64_t total)> progress = {};
    std::function<bool()> stop = {};
  };
  struct Report {
    std::uint64_t entries = 0;  // good ones, from the first on
    std::optional<Bad> first_bad;
    base::Sha256Digest root{};  // Merkle root over all good entries' leaves
    std::uint64_t checkpoints = 0;
    std::uint64_t signed_until = 0;           // entries under the last valid checkpoint
    std::uint64_t unsigned_entries = 0;       // after that checkpoint and its record
    std::optional<Timestamp> unsigned_since;  // of the first of them
    std::string origin;                       // of the checkpoints
    std::vector<std::string> keys;            // in order of use
    std::vector<PublicKey> trusted;           // the given key and those that it handed over to
    // What is no fault of the log, and worth knowing: a key that was replaced without the old one's signature.
    std::vector<std::string> notices;
  };
  // Walks every entry: sequence, time order, digests, chain, stored subtrees, checkpoints, signatures. cancelled: was
  // told to stop.
  Result<Report> verify(const VerifyOptions& options) const;
  Result<Report> verify() const { return verify(VerifyOptions()); }

  struct State;  // for this room's own sources

 private:
  explicit LedgerReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace daemoneye::ledger
