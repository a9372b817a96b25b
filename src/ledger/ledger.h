// The audit ledger: an append-only Merkle log of hash-chained entries, in database files of its own in a folder of its
// own. Written by procmond alone, read by anyone in its group. Layouts: docs/formats/ledger.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
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
struct NewEntry {
  std::string actor, action, payload;  // the payload must be a JSON object
};

inline constexpr std::size_t max_actor_bytes = 256, max_action_bytes = 64, max_payload_bytes = 64 * 1024;
inline constexpr int max_payload_depth = 64;  // of nested lists and objects
// So many batches wait for their root at the most; more are not sent.
inline constexpr std::size_t max_journaled_batches = 8192;

// The documented leaf bytes that entry_hash is taken over (with RFC 6962's 0x00 prefix).
std::string encode_leaf(const Entry& entry);
// RFC 6962 Merkle tree hash over leaf data; of an empty list SHA-256 of nothing.
base::Sha256Digest merkle_root(const std::vector<std::string>& leaves);

// The only writer. Not thread-safe: one thread of procmond owns it.
class Ledger {
 public:
  struct Options {
    std::string path;
    std::string reader_group;   // group given to folder and files when we may; empty: leave as it is
    std::string boot = {};      // names this start of the machine: after a crash it tells whether the machine crashed
    std::string key_path = {};  // signs checkpoints, made when missing; empty: no checkpoints
    std::string name = {};      // of the machine, for the origin of a new ledger's checkpoints
    std::chrono::milliseconds checkpoint_interval{300'000};
    std::uint64_t checkpoint_entries = 10'000;
    std::string checkpoint_copy = {};  // each checkpoint is appended to this file, too; empty: none
    std::uint64_t segment_bytes = 256 * 1024 * 1024;
  };
  // Creates what is missing. Takes the single-writer lock (unavailable when held). Refuses (permission_denied) a
  // folder others can write or that is not ours. Verifies the last entries; brings a file of version 1 forward. After a
  // crash what it left is sealed, kept aside and recorded ("crash_recovery").
  static Result<std::unique_ptr<Ledger>> open(const Options& options);
  ~Ledger();  // without close() it counts as a crash

  // Durable when it returns. Returns the sequence (of the first).
  Result<std::uint64_t> append(const std::string& actor, const std::string& action, const std::string& payload);
  Result<std::uint64_t> append(std::span<const NewEntry> entries);  // all or none

  // Puts down the digests of batches that are about to be sent, so that a crash of this process loses none of them.
  // Fails while their root could not be written.
  struct BatchDigest {
    event::Epoch epoch{};
    std::uint64_t sequence = 0;
    base::Sha256Digest digest{};
  };
  Result<void> journal_batches(const std::vector<BatchDigest>& batches);
  // Turns what was journaled, if anything, into one "batches" entry a contiguous range of an epoch: the Merkle root
  // over its digests, with epoch and range; durable. Called at most once a second. `acknowledged`: up to which batch of
  // the running epoch the agent says that it has committed: what is missing of these later is no crash's doing.
  Result<void> seal_batches(std::optional<std::uint64_t> acknowledged = std::nullopt);

  // Signs the tree head, unless nothing came since the last time. Nothing happens without a key.
  Result<void> checkpoint();
  // The same when it is due by time or number of entries.
  Result<void> checkpoint_when_due();
  // Another interval and number from now on.
  void set_checkpoints(std::chrono::milliseconds interval, std::uint64_t entries);
  // A new key, recorded, under a checkpoint that the old and the new key sign. Its public form.
  Result<std::string> rotate_key();
  // Seals and signs what is left; the end is no crash.
  Result<void> close();

  [[nodiscard]] std::uint64_t size() const;
  [[nodiscard]] std::optional<Entry> last() const;
  struct Status {
    std::uint64_t segments = 1, checkpointed = 0;  // entries under the last checkpoint
    std::optional<Timestamp> checkpoint_time;      // since the start
    std::string key_id, copy_problem, checkpoint_problem;
  };
  [[nodiscard]] Status status() const;

 private:
  struct State;
  explicit Ledger(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace daemoneye::ledger

#include "ledger/reader.h"
