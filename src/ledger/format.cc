#include "ledger/format.h"

#include <sqlite3.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/text.h"

namespace daemoneye::ledger {
namespace {

using base::Sha256Digest;

constexpr std::string_view leaf_magic = "DEL\x01";
constexpr char packed_batches = 1, packed_recovered_batches = 2, packed_acknowledged_batches = 3;
constexpr std::uint64_t max_batches = std::uint64_t{1} << 32;  // in one entry

Result<Sha256Digest> digest_from(std::string_view bytes, std::string_view name) {
  Sha256Digest digest{};
  if (bytes.size() != digest.size()) return fail(Errc::corrupt, std::string(name) + " is not 32 bytes");
  std::copy(bytes.begin(), bytes.end(), digest.begin());
  return digest;
}

void encode_leaf_into(std::string& out, std::uint64_t sequence, Timestamp time, std::string_view actor,
                      std::string_view action, const Sha256Digest& payload_digest, const Sha256Digest& previous_hash) {
  out.clear();
  base::ByteWriter leaf(out);
  leaf.raw(leaf_magic);
  leaf.u64(sequence);
  leaf.u64(static_cast<std::uint64_t>(time.ns));
  leaf.bytes(actor);
  leaf.bytes(action);
  leaf.raw(base::as_bytes(payload_digest));
  leaf.raw(base::as_bytes(previous_hash));
}

void append_hex(std::string& out, std::string_view bytes) {
  constexpr char digits[] = "0123456789abcdef";
  for (const char byte : bytes) {
    const auto value = static_cast<unsigned char>(byte);
    const char pair[2] = {digits[value >> 4], digits[value & 15]};
    out.append(pair, 2);
  }
}

std::string_view as_text(const event::Epoch& epoch) {
  return {reinterpret_cast<const char*>(epoch.data()), epoch.size()};
}

Result<void> check_range(const SealedBatches& batches) {
  if (batches.first == 0 || batches.count == 0 || batches.count > max_batches || batches.first > INT64_MAX ||
      batches.last() > INT64_MAX || batches.acknowledged.value_or(0) > INT64_MAX) {
    return fail(Errc::corrupt, "the range of batches is none");
  }
  return {};
}

}  // namespace

const std::vector<std::string>& schema_steps() {
  // The triggers are no wall against whoever may write the file; they catch slips of a person at a SQLite prompt.
  static const std::vector<std::string> steps = {
      R"sql(
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
  )sql",
      // What can be computed from the entries is left out of them: a third of the size. batch_journal goes when what it
      // holds is sealed, which is the writer's work.
      R"sql(
    DROP TRIGGER entries_never_change;
    DROP TRIGGER entries_never_go;
    CREATE TABLE entries_2 (
      sequence INTEGER PRIMARY KEY, time INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
      payload ANY NOT NULL, entry_hash BLOB NOT NULL
    ) STRICT;
    INSERT INTO entries_2 SELECT sequence, time, actor, action, payload, entry_hash FROM entries ORDER BY sequence;
    DROP TABLE entries;
    ALTER TABLE entries_2 RENAME TO entries;
    CREATE TRIGGER entries_never_change BEFORE UPDATE ON entries
      BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    CREATE TRIGGER entries_never_go BEFORE DELETE ON entries
      BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    CREATE TABLE subtrees (
      level INTEGER NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT;
    CREATE TABLE segment (
      only_row INTEGER PRIMARY KEY CHECK (only_row = 1), number INTEGER NOT NULL, first INTEGER NOT NULL,
      previous_hash BLOB NOT NULL, previous_time INTEGER NOT NULL, peaks BLOB NOT NULL, tail BLOB NOT NULL,
      origin TEXT NOT NULL
    ) STRICT;
    INSERT INTO segment VALUES (1, 0, 0, zeroblob(32), -9223372036854775808, x'', x'', '');
    CREATE TABLE head_2 (
      only_row INTEGER PRIMARY KEY CHECK (only_row = 1), size INTEGER NOT NULL, last_hash BLOB NOT NULL,
      generation INTEGER NOT NULL, running INTEGER NOT NULL, boot TEXT NOT NULL, key TEXT NOT NULL,
      subtrees INTEGER NOT NULL, continued INTEGER NOT NULL
    ) STRICT;
    INSERT INTO head_2 SELECT 1, size, last_hash, 1, 0, '', '', size < 256, 0 FROM head;
    DROP TABLE head;
    ALTER TABLE head_2 RENAME TO head;
  )sql"};
  return steps;
}

std::string encode_leaf(const Entry& entry) {
  std::string leaf;
  encode_leaf_into(leaf, entry.sequence, entry.time, entry.actor, entry.action, entry.payload_digest,
                   entry.previous_hash);
  return leaf;
}

void SealedBatches::json(std::string& out) const {
  out = "{";
  if (acknowledged) {
    out += R"("acknowledged":)";
    out += std::to_string(*acknowledged);
    out += ',';
  }
  out += R"("count":)";
  out += std::to_string(count);
  out += R"(,"epoch":")";
  append_hex(out, as_text(epoch));
  out += R"(","first":)";
  out += std::to_string(first);
  out += R"(,"last":)";
  out += std::to_string(last());
  out += recovered ? R"(,"recovered":true,"root":")" : R"(,"root":")";
  append_hex(out, base::as_bytes(root));
  out += R"("})";
}

std::string SealedBatches::packed() const {
  std::string bytes(1, recovered      ? packed_recovered_batches
                       : acknowledged ? packed_acknowledged_batches
                                      : packed_batches);
  base::ByteWriter out(bytes);
  out.raw(as_text(epoch));
  out.varint(first);
  out.varint(count);
  if (acknowledged && !recovered) out.varint(*acknowledged);
  out.raw(base::as_bytes(root));
  return bytes;
}

Result<SealedBatches> SealedBatches::unpack(std::string_view bytes) {
  SealedBatches batches;
  base::ByteReader in(bytes);
  const auto kind = static_cast<char>(in.u8());
  if (kind != packed_batches && kind != packed_recovered_batches && kind != packed_acknowledged_batches) {
    return fail(Errc::corrupt, "the payload is packed in a way that is not known");
  }
  batches.recovered = kind == packed_recovered_batches;
  const auto epoch = in.raw(batches.epoch.size());
  batches.first = in.varint();
  batches.count = in.varint();
  if (kind == packed_acknowledged_batches) batches.acknowledged = in.varint();
  const auto root = in.raw(batches.root.size());
  if (!in.at_end()) return fail(Errc::corrupt, "the packed payload has the wrong length");
  std::copy(epoch.begin(), epoch.end(), batches.epoch.begin());
  std::copy(root.begin(), root.end(), batches.root.begin());
  DE_CHECK(check_range(batches));
  // One form for one content, so that nothing hides in the other.
  if (batches.packed() != bytes) return fail(Errc::corrupt, "the packed payload is not in its shortest form");
  return batches;
}

Result<SealedBatches> SealedBatches::parse(std::string_view json) {
  const auto object = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  const auto bad = [] { return fail(Errc::corrupt, "the payload is not that of batches"); };
  if (!object.is_object()) return bad();
  const auto text = [&](const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? base::from_hex(found->get_ref<const std::string&>())
                                                       : Result<std::string>(std::string());
  };
  const auto number = [&](const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
  };
  SealedBatches batches;
  const auto epoch = text("epoch"), root = text("root");
  if (!epoch || epoch->size() != batches.epoch.size() || !root || root->size() != batches.root.size()) return bad();
  std::copy(epoch->begin(), epoch->end(), batches.epoch.begin());
  std::copy(root->begin(), root->end(), batches.root.begin());
  batches.first = number("first");
  batches.count = number("count");
  const auto recovered = object.find("recovered");
  batches.recovered = recovered != object.end() && *recovered == true;
  DE_CHECK(check_range(batches));
  if (number("last") != batches.last()) return bad();
  if (object.contains("acknowledged")) batches.acknowledged = number("acknowledged");
  return batches;
}

Result<void> StoredEntry::read(const db::Statement& row) {
  if (row.integer(0) < 0) return fail(Errc::corrupt, "the sequence is negative");
  sequence = static_cast<std::uint64_t>(row.integer(0));
  time.ns = row.integer(1);
  actor = row.text(2);
  action = row.text(3);
  if (actor.size() > max_actor_bytes) return fail(Errc::corrupt, "the actor is too long");
  if (action.size() > max_action_bytes) return fail(Errc::corrupt, "the action is too long");
  if (sqlite3_column_type(row.raw(), 4) == SQLITE_BLOB) {
    DE_TRY(const auto batches, SealedBatches::unpack(row.blob(4)));
    batches.json(text);
    payload = text;
  } else {
    payload = row.text(4);
    if (payload.size() > max_payload_bytes) return fail(Errc::corrupt, "the payload is too long");
  }
  DE_TRY(hash, digest_from(row.blob(5), "the entry hash"));
  return {};
}

Sha256Digest StoredEntry::expected_hash(const Sha256Digest& previous_hash, std::string& leaf) const {
  encode_leaf_into(leaf, sequence, time, actor, action, digest_of(payload), previous_hash);
  return leaf_hash(leaf);
}

Entry StoredEntry::entry(const Sha256Digest& previous_hash) const {
  return {.sequence = sequence,
          .time = time,
          .actor = std::string(actor),
          .action = std::string(action),
          .payload = std::string(payload),
          .payload_digest = digest_of(payload),
          .previous_hash = previous_hash,
          .entry_hash = hash};
}

std::string fault_of(const StoredEntry& entry, const Sha256Digest& previous_hash, Timestamp previous_time,
                     std::string& leaf) {
  if (entry.expected_hash(previous_hash, leaf) != entry.hash) {
    return "it does not have its hash: it, or the one before it, is not what was written";
  }
  if (entry.time < previous_time) return "the time is before that of the entry before";
  return {};
}

Result<Head> read_head(db::Database& database) {
  DE_TRY(auto row,
         database.prepare("SELECT size, last_hash, generation, running, boot, key, subtrees, continued FROM head"));
  DE_TRY(const bool found, row.step());
  if (!found || row.integer(0) < 0) return fail(Errc::corrupt, database.path() + ": the head of the ledger is missing");
  Head head;
  head.size = static_cast<std::uint64_t>(row.integer(0));
  DE_TRY(head.last_hash, digest_from(row.blob(1), "the head's hash"));
  head.generation = static_cast<std::uint64_t>(row.integer(2));
  head.running = row.integer(3) != 0;
  head.boot = row.text(4);
  head.key = row.text(5);
  head.subtrees = row.integer(6) != 0;
  head.continued = row.integer(7) != 0;
  return head;
}

Result<std::optional<SegmentStart>> read_segment_start(db::Database& database) {
  {
    DE_TRY(auto tables, database.prepare("SELECT count(*) FROM sqlite_schema WHERE name = 'segment'"));
    DE_TRY(const bool found, tables.step());
    if (!found || tables.integer(0) == 0) return std::nullopt;
  }
  DE_TRY(auto row,
         database.prepare("SELECT number, first, previous_hash, previous_time, peaks, tail, origin FROM segment"));
  DE_TRY(const bool found, row.step());
  if (!found) return std::nullopt;
  const auto corrupt = [&] { return fail(Errc::corrupt, database.path() + ": where the segment begins is damaged"); };
  SegmentStart start;
  if (row.integer(0) < 0 || row.integer(1) < 0) return corrupt();
  start.number = static_cast<std::uint64_t>(row.integer(0));
  start.first = static_cast<std::uint64_t>(row.integer(1));
  auto previous = digest_from(row.blob(2), "the hash before the segment");
  auto peaks = hashes_of(row.blob(4)), tail = hashes_of(row.blob(5));
  if (!previous || !peaks || !tail) return corrupt();
  start.previous_hash = *previous;
  start.previous_time.ns = row.integer(3);
  start.peaks = std::move(*peaks);
  start.tail = std::move(*tail);
  start.origin = row.text(6);
  if (start.tail.size() != start.first % stored_leaves ||
      start.peaks.size() != static_cast<std::size_t>(std::popcount(start.first >> stored_level))) {
    return corrupt();
  }
  return start;
}

namespace {

// Takes a text without escapes; nothing when there is something to look at more closely.
std::optional<std::string_view> take_plain_text(std::string_view& rest) {
  if (!rest.starts_with('"')) return std::nullopt;
  for (std::size_t end = 1; end < rest.size(); ++end) {
    const char c = rest[end];
    if (c == '"') {
      const auto text = rest.substr(1, end - 1);
      rest.remove_prefix(end + 1);
      return text;
    }
    if (c == '\\' || c < ' ' || c > '~') return std::nullopt;
  }
  return std::nullopt;
}

bool take_plain_value(std::string_view& rest) {
  for (const std::string_view word : {"true", "false", "null"}) {
    if (rest.starts_with(word)) return rest.remove_prefix(word.size()), true;
  }
  if (rest.starts_with('"')) return take_plain_text(rest).has_value();
  std::size_t digits = 0;
  while (digits < rest.size() && rest[digits] >= '0' && rest[digits] <= '9') ++digits;
  constexpr std::size_t most_digits = 18;
  if (digits == 0 || digits > most_digits || (digits > 1 && rest[0] == '0')) return false;
  rest.remove_prefix(digits);  // a fraction or an exponent is neither ',' nor '}'
  return true;
}

}  // namespace

bool is_canonical_json(std::string_view text) {
  if (text == "{}") return true;
  if (!text.starts_with('{')) return false;
  text.remove_prefix(1);
  for (std::string_view before;;) {
    const bool first = before.data() == nullptr;
    const auto key = take_plain_text(text);
    if (!key || (!first && *key <= before) || !text.starts_with(':')) return false;
    before = *key;
    text.remove_prefix(1);
    if (!take_plain_value(text) || text.empty()) return false;
    const char next = text.front();
    text.remove_prefix(1);
    if (next == '}') return text.empty();
    if (next != ',') return false;
  }
}

std::string to_bytes(const std::vector<Sha256Digest>& hashes) {
  std::string bytes;
  for (const auto& hash : hashes) bytes += base::as_bytes(hash);
  return bytes;
}

Result<std::vector<Sha256Digest>> hashes_of(std::string_view bytes) {
  if (bytes.size() % sizeof(Sha256Digest) != 0) return fail(Errc::corrupt, "not a whole number of hashes");
  std::vector<Sha256Digest> hashes(bytes.size() / sizeof(Sha256Digest));
  for (auto& hash : hashes) {
    std::copy_n(bytes.begin(), hash.size(), hash.begin());
    bytes.remove_prefix(hash.size());
  }
  return hashes;
}

std::string segment_path(const std::string& path, std::uint64_t number) {
  if (number == 0) return path;
  constexpr std::string_view suffix = ".redb";
  const bool ends = path.ends_with(suffix);
  char digits[24];
  std::snprintf(digits, sizeof digits, ".%06llu", static_cast<unsigned long long>(number));
  return path.substr(0, path.size() - (ends ? suffix.size() : 0)) + digits + std::string(ends ? suffix : "");
}

std::string journal_path(const std::string& path) { return path + ".batches"; }

}  // namespace daemoneye::ledger
