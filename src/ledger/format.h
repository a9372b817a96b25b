// What writer and reader of the ledger's files must agree on; docs/formats/ledger.md says it in words.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "db/database.h"
#include "event/batch.h"
#include "ledger/ledger.h"
#include "ledger/merkle.h"

namespace daemoneye::ledger {

inline constexpr std::uint32_t application_id = 0x44454c47;  // "DELG"
const std::vector<std::string>& schema_steps();

// Hashes of complete subtrees are stored from this level on; those below come from the entries' own hashes.
inline constexpr unsigned stored_level = 8;
inline constexpr std::uint64_t stored_leaves = std::uint64_t{1} << stored_level;

// What procmond itself says, and what verification looks at.
inline constexpr std::string_view own_actor = "procmond";
inline constexpr std::string_view batches_action = "batches", checkpoint_action = "checkpoint", key_action = "key",
                                  crash_action = "crash_recovery", epoch_action = "epoch",
                                  acknowledged_action = "acknowledged", replaced_action = "ledger_replaced";

// The payload of a "batches" entry: its JSON text in the leaf, 55 bytes or so in the file.
struct SealedBatches {
  event::Epoch epoch{};
  std::uint64_t first = 0, count = 0;
  base::Sha256Digest root{};
  bool recovered = false;  // by the next start, after a crash
  // Up to which batch of the epoch the agent had acknowledged when this was written; nothing: it was not asked.
  std::optional<std::uint64_t> acknowledged = std::nullopt;

  [[nodiscard]] std::uint64_t last() const { return first + count - 1; }
  void json(std::string& out) const;  // replaces `out`
  [[nodiscard]] std::string packed() const;
  static Result<SealedBatches> unpack(std::string_view bytes);
  static Result<SealedBatches> parse(std::string_view json);
  bool operator==(const SealedBatches&) const = default;
};

// An entry as it stands in the file. Views into the row, or into `text` where the payload was packed.
struct StoredEntry {
  std::uint64_t sequence = 0;
  Timestamp time;
  std::string_view actor, action, payload;
  base::Sha256Digest hash{};
  std::string text;  // reused from row to row

  // The current row of a statement over `entry_columns`; corrupt (without the sequence in the text) when it is none.
  Result<void> read(const db::Statement& row);
  // The hash that it should have after an entry with `previous_hash`. `leaf` is reused.
  [[nodiscard]] base::Sha256Digest expected_hash(const base::Sha256Digest& previous_hash, std::string& leaf) const;
  [[nodiscard]] Entry entry(const base::Sha256Digest& previous_hash) const;
};
inline constexpr std::string_view entry_columns = "sequence, time, actor, action, payload, entry_hash";

// What is wrong with `entry` after an entry of that hash and time; empty when nothing is.
std::string fault_of(const StoredEntry& entry, const base::Sha256Digest& previous_hash, Timestamp previous_time,
                     std::string& leaf);

// The one row of `head`.
struct Head {
  std::uint64_t size = 0;  // how many entries there are said to be: a tail that was cut off shows here
  base::Sha256Digest last_hash{};
  std::uint64_t generation = 1;  // of what counts in the batch journal
  bool running = false;          // a writer has it, or crashed
  std::string boot;              // of that writer
  std::string key;               // the public key that was recorded last; empty: none
  bool continued = false;        // the log goes on in the next segment
  bool subtrees = true;          // false: to be built from the entries (a file of version 1)
};
Result<Head> read_head(db::Database& database);

// The one row of `segment`: where this file begins.
struct SegmentStart {
  std::uint64_t number = 0, first = 0;
  base::Sha256Digest previous_hash{};
  Timestamp previous_time{INT64_MIN};
  std::vector<base::Sha256Digest> peaks;  // complete subtrees of the entries before, down to stored_level
  std::vector<base::Sha256Digest> tail;   // hashes of the entries before that are in none of them
  std::string origin;                     // of checkpoints; empty until there is a key
};
Result<std::optional<SegmentStart>> read_segment_start(db::Database& database);  // nothing: the file was not begun

// True only of a JSON object whose text is already the one that counts: keys sorted, no blanks, and in it nothing but
// plain ASCII texts, short integers, true, false and null. Most are; the others are parsed.
bool is_canonical_json(std::string_view text);

std::string to_bytes(const std::vector<base::Sha256Digest>& hashes);
Result<std::vector<base::Sha256Digest>> hashes_of(std::string_view bytes);

// audit.redb, audit.000001.redb, audit.000002.redb, …
std::string segment_path(const std::string& path, std::uint64_t number);
// Of the first, and those that follow it without a hole.
Result<std::uint64_t> count_segments(const std::string& path);
std::string journal_path(const std::string& path);

}  // namespace daemoneye::ledger
