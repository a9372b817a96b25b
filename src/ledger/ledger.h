// The audit ledger: append-only, hash-chained, its own database file in its own folder. Written by procmond alone,
// read by anyone in its group. Layouts: docs/formats/ledger.md.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/time.h"
#include "event/batch.h"

namespace daemoneye::ledger {

struct Entry {
  std::uint64_t sequence = 0;  // from 0, without holes
  Timestamp time;              // never before the previous entry's
  std::string actor;           // "procmond", "agent", "uid:1000 (asserted by agent)"
  std::string action;          // "start", "stop", "privileges", "batches", "gap", …
  std::string payload;         // canonical JSON object
  base::Sha256Digest payload_digest{}, previous_hash{}, entry_hash{};
};

inline constexpr std::size_t max_actor_bytes = 256, max_action_bytes = 64, max_payload_bytes = 64 * 1024;

// The documented leaf bytes that entry_hash is taken over (with RFC 6962's 0x00 prefix).
std::string encode_leaf(const Entry& entry);
// RFC 6962 Merkle tree hash over leaf data; of an empty list SHA-256 of nothing.
base::Sha256Digest merkle_root(const std::vector<std::string>& leaves);

// The only writer. Not thread-safe: one thread of procmond owns it.
class Ledger {
 public:
  struct Options {
    std::string path;
    std::string reader_group;  // group given to folder and file when we may; empty: leave as it is
  };
  // Creates what is missing. Takes the single-writer lock (unavailable when held). Refuses (permission_denied) a
  // folder others can write or that is not ours. Verifies the last entries and a torn journal; a batch journal left
  // by a crash is sealed into a root entry.
  static Result<std::unique_ptr<Ledger>> open(const Options& options);
  ~Ledger();

  // Durable when it returns. The payload must be a JSON object. Returns the sequence.
  Result<std::uint64_t> append(const std::string& actor, const std::string& action, const std::string& payload);
  // Journals the digest of batches that are about to be sent; durable when it returns.
  struct BatchDigest {
    event::Epoch epoch{};
    std::uint64_t sequence = 0;
    base::Sha256Digest digest{};
  };
  Result<void> journal_batches(const std::vector<BatchDigest>& batches);
  // Turns the journal, if any, into one "batches" entry a contiguous range of an epoch: the Merkle root over its
  // digests, with epoch and range. Called at most once a second.
  Result<void> seal_batches();

  [[nodiscard]] std::uint64_t size() const;
  [[nodiscard]] std::optional<Entry> last() const;

 private:
  struct State;
  explicit Ledger(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Reads while the ledger is written, and when it is not.
class LedgerReader {
 public:
  static Result<std::unique_ptr<LedgerReader>> open(const std::string& path);
  ~LedgerReader();

  // Entries [from, from+count) in order until `each` returns false.
  Result<void> read(std::uint64_t from, std::uint64_t count, const std::function<bool(const Entry&)>& each) const;
  Result<std::uint64_t> size() const;

  struct Bad {
    std::uint64_t sequence = 0;
    std::string what;
  };
  struct Report {
    std::uint64_t entries = 0;
    std::optional<Bad> first_bad;
    base::Sha256Digest root{};  // Merkle root over all entries' leaves
  };
  // Walks every entry: sequence, time order, digests, chain.
  Result<Report> verify() const;

 private:
  struct State;
  explicit LedgerReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace daemoneye::ledger
