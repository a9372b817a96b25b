#include "ledger/format.h"

#include <algorithm>

#include "base/bytes.h"
#include "ledger/merkle.h"

namespace daemoneye::ledger {
namespace {

constexpr std::string_view leaf_magic = "DEL\x01";

Result<base::Sha256Digest> read_digest(const db::Statement& row, int column, std::string_view name) {
  base::Sha256Digest digest{};
  const auto bytes = row.blob(column);
  if (bytes.size() != digest.size()) return fail(Errc::corrupt, std::string(name) + " is not 32 bytes");
  std::copy(bytes.begin(), bytes.end(), digest.begin());
  return digest;
}

}  // namespace

const std::vector<std::string>& schema_steps() {
  // The triggers are no wall against whoever may write the file; they catch slips of a person at a SQLite prompt.
  static const std::vector<std::string> steps = {R"sql(
    CREATE TABLE entries (
      sequence INTEGER PRIMARY KEY, time INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
      payload TEXT NOT NULL, payload_digest BLOB NOT NULL, previous_hash BLOB NOT NULL, entry_hash BLOB NOT NULL
    ) STRICT;
    CREATE TABLE head (
      only_row INTEGER PRIMARY KEY CHECK (only_row = 1), size INTEGER NOT NULL, last_hash BLOB NOT NULL
    ) STRICT;
    INSERT INTO head VALUES (1, 0, zeroblob(32));
    CREATE TABLE batch_journal (
      epoch BLOB NOT NULL, sequence INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (epoch, sequence)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER entries_never_change BEFORE UPDATE ON entries
      BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    CREATE TRIGGER entries_never_go BEFORE DELETE ON entries
      BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
  )sql"};
  return steps;
}

std::string encode_leaf(const Entry& entry) {
  std::string leaf;
  base::ByteWriter out(leaf);
  out.raw(leaf_magic);
  out.u64(entry.sequence);
  out.u64(static_cast<std::uint64_t>(entry.time.ns));
  out.bytes(entry.actor);
  out.bytes(entry.action);
  out.raw(base::as_bytes(entry.payload_digest));
  out.raw(base::as_bytes(entry.previous_hash));
  return leaf;
}

Result<Entry> read_entry(const db::Statement& row) {
  Entry entry;
  if (row.integer(0) < 0) return fail(Errc::corrupt, "the sequence is negative");
  entry.sequence = static_cast<std::uint64_t>(row.integer(0));
  entry.time.ns = row.integer(1);
  const auto actor = row.text(2), action = row.text(3), payload = row.text(4);
  if (actor.size() > max_actor_bytes) return fail(Errc::corrupt, "the actor is too long");
  if (action.size() > max_action_bytes) return fail(Errc::corrupt, "the action is too long");
  if (payload.size() > max_payload_bytes) return fail(Errc::corrupt, "the payload is too long");
  entry.actor = actor;
  entry.action = action;
  entry.payload = payload;
  DE_TRY(entry.payload_digest, read_digest(row, 5, "the payload digest"));
  DE_TRY(entry.previous_hash, read_digest(row, 6, "the previous hash"));
  DE_TRY(entry.entry_hash, read_digest(row, 7, "the entry hash"));
  return entry;
}

std::string fault_of(const Entry& entry, const Entry* previous) {
  if (base::sha256(entry.payload) != entry.payload_digest) return "the payload does not have its digest";
  if (leaf_hash(encode_leaf(entry)) != entry.entry_hash) return "the entry does not have its hash";
  const base::Sha256Digest none{};
  if (entry.previous_hash != (previous != nullptr ? previous->entry_hash : none)) {
    return "the previous hash is not that of the entry before";
  }
  if (previous != nullptr && entry.time < previous->time) return "the time is before that of the entry before";
  return {};
}

Result<Head> read_head(db::Database& database) {
  DE_TRY(auto row, database.prepare("SELECT size, last_hash FROM head"));
  DE_TRY(const bool found, row.step());
  if (!found || row.integer(0) < 0) return fail(Errc::corrupt, database.path() + ": the head of the ledger is missing");
  Head head;
  head.size = static_cast<std::uint64_t>(row.integer(0));
  DE_TRY(head.last_hash, read_digest(row, 1, "the head's hash"));
  return head;
}

}  // namespace daemoneye::ledger
