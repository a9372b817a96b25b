#include "ledger/ledger.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json_depth.h"
#include "base/text.h"
#include "db/sole_writer.h"
#include "db/statement_cache.h"
#include "ledger/checkpoint_copy.h"
#include "ledger/files.h"
#include "ledger/format.h"
#include "ledger/journal.h"
#include "ledger/keys.h"
#include "ledger/segment.h"
#include "ledger/signed_head.h"
#include "observe/log.h"

namespace daemoneye::ledger {

using Json = nlohmann::json;
using base::Sha256Digest;
using observe::Level;

namespace {

constexpr std::uint64_t largest_sql_integer = std::numeric_limits<std::int64_t>::max();
// Checked when the ledger is opened; everything is checked by LedgerReader::verify().
constexpr std::uint64_t checked_at_open = 64;
constexpr std::uint64_t row_bytes = 75;  // of an entry without its payload, about
constexpr std::uint64_t retry_rotation_bytes = 64 * 1024;
// Nobody else writes; what waits here keeps the collector from reading its events.
constexpr std::uint32_t busy_timeout_ms = 100;

std::unexpected<Error> too_long(std::size_t bytes) {
  return fail(Errc::limit_exceeded,
              "ledger: payload of " + std::to_string(bytes) + " bytes, at most " + std::to_string(max_payload_bytes));
}

// Keys sorted, no blanks: one text for equal objects.
Result<std::string> canonical_object(const std::string& payload) {
  if (payload.size() > max_payload_bytes) return too_long(payload.size());
  if (is_canonical_json(payload)) return payload;
  // Parser and printer follow each level on the stack.
  if (base::json_nests_deeper_than(payload, max_payload_depth)) {
    return fail(Errc::invalid_input, "ledger: the payload nests deeper than " + std::to_string(max_payload_depth));
  }
  const auto json = Json::parse(payload, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return fail(Errc::invalid_input, "ledger: the payload is not a JSON object");
  auto text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > max_payload_bytes) return too_long(text.size());
  return text;
}

Result<void> check_name(std::string_view what, const std::string& name, std::size_t max_bytes) {
  if (!name.empty() && name.size() <= max_bytes && name.find('\0') == std::string::npos) return {};
  return fail(Errc::invalid_input, "ledger: " + std::string(what) + " of " + std::to_string(name.size()) +
                                       " bytes, wanted 1 to " + std::to_string(max_bytes) + " without NUL");
}

// Journaled digests of one epoch without a hole.
struct Range {
  event::Epoch epoch{};
  std::uint64_t first = 0, last = 0;
  MerkleTree tree;
};

std::vector<Range> ranges_of(std::vector<Ledger::BatchDigest> batches) {
  // A total order: what the root is made of must not depend on how the batches came.
  std::ranges::sort(batches, [](const auto& a, const auto& b) {
    return std::tie(a.epoch, a.sequence, a.digest) < std::tie(b.epoch, b.sequence, b.digest);
  });
  std::vector<Range> ranges;
  for (const auto& batch : batches) {
    if (ranges.empty() || ranges.back().epoch != batch.epoch || ranges.back().last + 1 != batch.sequence) {
      ranges.push_back({batch.epoch, batch.sequence, batch.sequence, {}});
    }
    ranges.back().last = batch.sequence;
    ranges.back().tree.add(leaf_hash(base::as_bytes(batch.digest)));
  }
  return ranges;
}

}  // namespace

struct Ledger::State {
  // Where the log ends: in memory, and in the transaction under way.
  struct Tip {
    MerkleTree tree;
    Sha256Digest last_hash{};
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

Result<void> Ledger::State::in_place() const {
  for (const auto& identity : identities) {
    if (!identity.is_still_there()) {
      return fail(Errc::corrupt, options.path + ": the ledger's file was replaced or removed while it was written");
    }
  }
  if (journal_identity && !journal_identity->is_still_there()) {
    return fail(Errc::corrupt, journal_path(options.path) + ": was replaced or removed while it was written");
  }
  return {};
}

// What `work(tip)` inserts becomes durable, and ours, in one transaction.
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

Result<void> Ledger::State::write_head(const Tip& at) {
  DE_TRY(auto* row, statements->get("UPDATE head SET size = ?, last_hash = ?, generation = ?, running = ?, boot = ?, "
                                    "key = ?, subtrees = ?"));
  row->bind(1, static_cast<std::int64_t>(at.tree.size())).bind_blob(2, base::as_bytes(at.last_hash));
  row->bind(3, static_cast<std::int64_t>(head.generation)).bind(4, std::int64_t{head.running});
  row->bind_text(5, head.boot).bind_text(6, head.key).bind(7, std::int64_t{head.subtrees});
  return row->run();
}

// Inside the caller's transaction. `packed`: what stands in the file for the payload.
Result<void> Ledger::State::insert(Tip& at, std::string_view actor, std::string_view action, std::string payload,
                                   const std::string* packed) {
  StoredEntry entry;
  entry.sequence = at.tree.size();
  entry.time = std::max(base::wall_now(), at.last_time);
  entry.actor = actor;
  entry.action = action;
  entry.payload = payload;
  entry.hash = entry.expected_hash(at.last_hash, leaf);
  static const std::string insert_entry =
      "INSERT INTO entries (" + std::string(entry_columns) + ") VALUES (?, ?, ?, ?, ?, ?)";
  DE_TRY(auto* row, statements->get(insert_entry));
  row->bind(1, static_cast<std::int64_t>(entry.sequence)).bind(2, entry.time.ns);
  row->bind_text(3, actor).bind_text(4, action);
  if (packed != nullptr)
    row->bind_blob_static(5, *packed);
  else
    row->bind_text(5, payload);
  row->bind_blob_static(6, base::as_bytes(entry.hash));
  DE_CHECK(row->run());
  Result<void> stored;
  at.tree.add(entry.hash, [&](unsigned level, std::uint64_t number, const Sha256Digest& hash) {
    if (level < stored_level || !stored) return;
    auto node = statements->get("INSERT INTO subtrees VALUES (?, ?, ?)");
    if (!node) {
      stored = std::unexpected(node.error());
      return;
    }
    (*node)->bind(1, std::int64_t{level}).bind(2, static_cast<std::int64_t>(number));
    (*node)->bind_blob(3, base::as_bytes(hash));
    stored = (*node)->run();
  });
  DE_CHECK(stored);
  at.bytes += row_bytes + (packed != nullptr ? packed->size() : payload.size());
  if (!at.last) at.last.emplace();
  at.last->sequence = entry.sequence;
  at.last->time = entry.time;
  at.last->actor = actor;
  at.last->action = action;
  at.last->payload = std::move(payload);
  at.last->previous_hash = at.last_hash;
  at.last->entry_hash = entry.hash;
  at.last_hash = entry.hash;
  at.last_time = entry.time;
  return {};
}

Result<void> Ledger::State::insert_ranges(Tip& at, const std::vector<BatchDigest>& batches, bool recovered,
                                          std::optional<std::uint64_t> acknowledged) {
  std::string json;
  for (const auto& range : ranges_of(batches)) {
    SealedBatches sealed{range.epoch, range.first, range.tree.size(), range.tree.root(), recovered};
    if (range.epoch == batch_epoch) sealed.acknowledged = acknowledged;
    sealed.json(json);
    const auto packed = sealed.packed();
    DE_CHECK(insert(at, own_actor, batches_action, json, &packed));
  }
  return {};
}

// Whoever may read the folder may hold a new file's first lock for a while: the segment goes on then, and is too long.
Result<void> Ledger::State::rotate_when_possible() {
  const auto path = segment_path(options.path, start.number + 1);
  const auto prepared = [&]() -> Result<std::unique_ptr<db::Database>> {
    const db::SoleWriter sole_writer;
    DE_CHECK(files->claim_file(path));
    DE_TRY(auto made, db::Database::open(path, {.mode = db::Database::Mode::create_or_write,
                                                .busy_timeout_ms = busy_timeout_ms,
                                                .application_id = application_id}));
    DE_CHECK(db::migrate(*made, schema_steps()));
    return made;
  };
  auto made = prepared();
  if (made) return rotate(path, std::move(*made));
  // One that may have been begun counts from then on: what went on in this one would be lost.
  if (made.error().code != Errc::unavailable || maybe_begun) return std::unexpected(made.error());
  segment_full_at = tip.bytes + retry_rotation_bytes;
  observe::log(Level::warn, "ledger", "the next segment cannot be made yet", {{"error", made.error().message}});
  return {};
}

// A new file goes on where this one ends. Until its first commit it does not count.
Result<void> Ledger::State::rotate(const std::string& path, std::unique_ptr<db::Database> made) {
  SegmentStart next{.number = start.number + 1,
                    .first = tip.tree.size(),
                    .previous_hash = tip.last_hash,
                    .previous_time = tip.last_time,
                    .peaks = {},
                    .tail = {},
                    .origin = start.origin};
  const std::uint64_t blocks = next.first & ~(stored_leaves - 1);
  DE_TRY(next.tail, read_leaf_hashes(*database, start, blocks, next.first));
  next.peaks.assign(tip.tree.peaks().begin(), tip.tree.peaks().begin() + std::popcount(blocks));
  auto made_statements = std::make_unique<db::StatementCache>(*made);
  files->give_beside(path);
  DE_TRY(auto made_identities, identities_of(path));
  {
    DE_TRY(auto transaction, db::Transaction::begin(*made));
    DE_CHECK(made->execute("DROP TABLE IF EXISTS batch_journal"));
    DE_TRY(auto* row, made_statements->get("UPDATE segment SET number = ?, first = ?, previous_hash = ?, "
                                           "previous_time = ?, peaks = ?, tail = ?, origin = ?"));
    row->bind(1, static_cast<std::int64_t>(next.number)).bind(2, static_cast<std::int64_t>(next.first));
    row->bind_blob(3, base::as_bytes(next.previous_hash)).bind(4, next.previous_time.ns);
    row->bind_blob(5, to_bytes(next.peaks)).bind_blob(6, to_bytes(next.tail)).bind_text(7, next.origin);
    DE_CHECK(row->run());
    std::swap(statements, made_statements);
    auto headed = write_head(tip);
    std::swap(statements, made_statements);
    DE_CHECK(headed);
    maybe_begun = true;
    DE_CHECK(transaction.commit());
  }
  maybe_begun = false;
  // From here on the new file is the ledger's end, and nothing may fail. The old one says so, that its loss may be
  // noticed; when it cannot, the next start does.
  if (auto marked = database->execute("UPDATE head SET continued = 1"); !marked) {
    observe::log(Level::warn, "ledger", "a finished segment could not be marked", {{"error", marked.error().message}});
  }
  statements.reset();
  database = std::move(made);
  statements = std::move(made_statements);
  start = std::move(next);
  tip.bytes = 0;
  segment_full_at = options.segment_bytes;
  identities = std::move(made_identities);
  observe::log(Level::info, "ledger", "a new segment was begun", {{"path", path}, {"first", start.first}});
  return {};
}

Result<std::vector<FileIdentity>> Ledger::State::identities_of(const std::string& path) const {
  std::vector<FileIdentity> found;
  for (const auto* suffix : {"", "-wal"}) {
    DE_TRY(auto identity, FileIdentity::of(path + suffix));
    found.push_back(std::move(identity));
  }
  return found;
}

// For writing: what a crash left in a rollback journal is played back.
Result<bool> Ledger::State::is_begun(std::uint64_t number) const {
  const auto path = segment_path(options.path, number);
  DE_CHECK(files->claim_file(path));
  DE_TRY(const auto opened,
         db::Database::open(path, {.mode = db::Database::Mode::create_or_write, .application_id = application_id}));
  DE_TRY(const auto begins, read_segment_start(*opened));
  return begins && begins->number == number;
}

Result<void> Ledger::State::open_segment(std::uint64_t number) {
  const auto path = segment_path(options.path, number);
  DE_CHECK(files->claim_file(path));
  statements.reset();
  DE_TRY(database,
         db::Database::open(path, {.mode = db::Database::Mode::create_or_write, .application_id = application_id}));
  statements = std::make_unique<db::StatementCache>(*database);
  DE_CHECK(db::migrate(*database, schema_steps(), [&](std::int64_t version) {
    const auto stem = path.ends_with(".redb") ? path.substr(0, path.size() - 5) : path;
    return stem + ".schema-" + std::to_string(version) + ".redb";
  }));
  DE_TRY(auto found, read_segment_start(*database));
  if (!found || found->number != number) return fail(Errc::corrupt, path + ": is another part of a ledger");
  start = std::move(*found);
  files->give_beside(path);
  DE_TRY(identities, identities_of(path));
  segment_full_at = options.segment_bytes;
  if (number == 0) return {};
  // A crash between the next one's first commit and this mark would let the loss of all later ones pass unseen.
  const auto before_path = segment_path(options.path, number - 1);
  DE_CHECK(files->claim_file(before_path));
  DE_TRY(const auto before, db::Database::open(before_path, {.mode = db::Database::Mode::create_or_write,
                                                             .application_id = application_id}));
  DE_TRY(const auto head_before, read_head(*before));
  return head_before.continued ? Result<void>() : before->execute("UPDATE head SET continued = 1");
}

Result<void> Ledger::State::load() {
  DE_TRY(head, read_head(*database));
  if (head.continued) {
    return fail(Errc::corrupt, segment_path(options.path, start.number + 1) + ": is missing: the ledger goes on there");
  }
  if (head.size < start.first) return fail(Errc::corrupt, database->path() + ": the head is before the segment begins");
  if (!head.subtrees) DE_CHECK(build_subtrees());
  tip.last_hash = start.previous_hash;
  tip.last_time = start.previous_time;
  DE_CHECK(check_last_entries());
  DE_TRY(tip.tree, tree_of(*database, start, head.size));
  DE_TRY(auto* pages, statements->get("SELECT (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM "
                                      "pragma_page_size), (SELECT coalesce(max(size), 0) FROM checkpoints)"));
  const db::StatementReset reset(*pages);
  DE_CHECK(pages->step());
  tip.bytes = static_cast<std::uint64_t>(pages->integer(0));
  checkpointed = static_cast<std::uint64_t>(pages->integer(1));
  return {};
}

// Before anything of it is signed again. How it is another log than the one that was signed becomes an entry, which
// verification tells as a fault: to refuse would leave the machine without a record.
Result<void> Ledger::State::check_signed_past() {
  if (options.key_path.empty()) return {};
  std::optional<PublicKey> recorded, own;
  if (auto parsed = PublicKey::parse(head.key)) recorded = std::move(*parsed);
  DE_TRY(const auto found, read_key(options.key_path));
  if (found) own = found->public_key();
  DE_TRY(auto past, ledger::check_signed_past(options.path, tip.tree.size(), options.key_path, recorded, own));
  if (past.tree && past.tree->root() != tip.tree.root()) {
    return fail(Errc::corrupt, database->path() + ": a stored hash is not that of its entries");
  }
  if (past.replaced.empty()) return {};
  const auto& last = *past.signed_head;
  const auto payload =
      Json{{"entries", tip.tree.size()},
           {"how", past.replaced},
           {"signed", {{"origin", last.origin}, {"root", base::to_hex(last.root)}, {"size", last.size}}}}
          .dump();
  observe::log(Level::error, "ledger", "this is not the ledger that was signed last", {{"details", payload}});
  return commit([&](Tip& at) { return insert(at, own_actor, replaced_action, payload); });
}

Result<void> Ledger::State::check_last_entries() {
  const auto corrupt = [&](std::uint64_t sequence, const std::string& what) {
    return fail(Errc::corrupt, database->path() + ": entry " + std::to_string(sequence) + ": " + what);
  };
  std::uint64_t expected = head.size > start.first + checked_at_open ? head.size - checked_at_open : start.first;
  DE_TRY(auto rows, database->prepare("SELECT " + std::string(entry_columns) +
                                      " FROM entries WHERE sequence >= ? ORDER BY sequence"));
  rows.bind(1, static_cast<std::int64_t>(expected > start.first ? expected - 1 : expected));
  bool anchor = expected > start.first;  // the one before the first that is checked
  StoredEntry entry;
  for (;;) {
    DE_TRY(const bool found, rows.step());
    if (!found) break;
    if (auto read = entry.read(rows); !read) return corrupt(expected, read.error().message);
    if (anchor) {
      if (entry.sequence + 1 != expected) return corrupt(expected - 1, "missing or not in its place");
      anchor = false;
      tip.last_hash = entry.hash;
      tip.last_time = entry.time;
      continue;
    }
    if (entry.sequence != expected || expected >= head.size) return corrupt(expected, "missing or not in its place");
    if (const auto fault = fault_of(entry, tip.last_hash, tip.last_time, leaf); !fault.empty()) {
      return corrupt(expected, fault);
    }
    tip.last = entry.entry(tip.last_hash);
    tip.last_hash = entry.hash;
    tip.last_time = entry.time;
    ++expected;
  }
  if (expected != head.size)
    return corrupt(expected, "missing: the ledger had " + std::to_string(head.size) + " entries");
  if (tip.last_hash != head.last_hash) return corrupt(head.size - 1, "is not the one that was written last");
  return {};
}

// Of a file of version 1, whose entries are all there is.
Result<void> Ledger::State::build_subtrees() {
  DE_TRY(auto transaction, db::Transaction::begin(*database));
  DE_CHECK(database->execute("DELETE FROM subtrees"));
  DE_TRY(auto rows, database->prepare("SELECT entry_hash FROM entries ORDER BY sequence"));
  DE_TRY(auto store, database->prepare("INSERT INTO subtrees VALUES (?, ?, ?)"));
  MerkleTree tree;
  Result<void> stored;
  for (;;) {
    DE_TRY(const bool found, rows.step());
    if (!found) break;
    DE_TRY(const auto hashes, hashes_of(rows.blob(0)));
    if (hashes.size() != 1) return fail(Errc::corrupt, database->path() + ": an entry's hash is not 32 bytes");
    tree.add(hashes.front(), [&](unsigned level, std::uint64_t number, const Sha256Digest& hash) {
      if (level < stored_level || !stored) return;
      store.bind(1, std::int64_t{level}).bind(2, static_cast<std::int64_t>(number));
      stored = store.bind_blob(3, base::as_bytes(hash)).run();
    });
    DE_CHECK(stored);
  }
  DE_CHECK(database->execute("UPDATE head SET subtrees = 1"));
  DE_CHECK(transaction.commit());
  head.subtrees = true;
  return {};
}

Result<std::vector<Ledger::BatchDigest>> Ledger::State::batches_of_version_1() {
  std::vector<BatchDigest> batches;
  {
    DE_TRY(auto tables, database->prepare("SELECT count(*) FROM sqlite_schema WHERE name = 'batch_journal'"));
    DE_CHECK(tables.step());
    if (tables.integer(0) == 0) return batches;
  }
  DE_TRY(auto rows, database->prepare("SELECT epoch, sequence, digest FROM batch_journal ORDER BY epoch, sequence"));
  for (;;) {
    DE_TRY(const bool found, rows.step());
    if (!found) return batches;
    BatchDigest batch;
    const auto epoch = rows.blob(0), digest = rows.blob(2);
    batch.sequence = static_cast<std::uint64_t>(rows.integer(1));
    if (epoch.size() != batch.epoch.size() || digest.size() != batch.digest.size()) {
      return fail(Errc::corrupt, database->path() + ": a journal row is not a batch digest");
    }
    std::ranges::copy(epoch, batch.epoch.begin());
    std::ranges::copy(digest, batch.digest.begin());
    batches.push_back(batch);
  }
}

// What a crash left behind becomes entries; from here on, until close(), whatever ends this process is one.
Result<void> Ledger::State::recover(const std::optional<Files::KeptAside>& torn) {
  const auto path = journal_path(options.path);
  DE_TRY(auto journal_file, files->claim_file(path));
  DE_TRY(auto found, Journal::read(journal_file.get(), head.generation));
  DE_TRY(journal, Journal::open(std::move(journal_file), path));
  DE_TRY(journal_identity, FileIdentity::of(path));
  DE_TRY(auto older, batches_of_version_1());
  found.batches.insert(found.batches.begin(), older.begin(), older.end());
  // Frames that were rolled back lie behind the last commit of a log that was closed in order, too.
  const bool crashed = head.running || !found.batches.empty() || found.torn > 0;
  Json payload = {{"batches", found.batches.size()}};
  if (crashed) {
    payload["machine"] = head.boot.empty() || options.boot.empty() ? "unknown"
                         : head.boot == options.boot               ? "went on"
                                                                   : "was started anew";
    if (torn && head.running) payload["torn_log"] = {{"bytes", torn->bytes}, {"kept_as", torn->path}};
    if (found.torn > 0) payload["torn_batches"] = found.torn;
  }
  if (torn && !head.running) ::unlink(torn->path.c_str());  // rolled back, and no crash
  ++head.generation;
  head.running = true;
  head.boot = options.boot;
  const auto recorded = commit([&](Tip& at) -> Result<void> {
    DE_CHECK(database->execute("DROP TABLE IF EXISTS batch_journal"));
    DE_CHECK(insert_ranges(at, found.batches, /*recovered=*/true));
    return crashed ? insert(at, own_actor, crash_action, payload.dump()) : Result<void>();
  });
  DE_CHECK(recorded);
  if (crashed) {
    observe::log(Level::warn, "ledger", "the last writer did not end in order",
                 {{"batches", std::uint64_t{found.batches.size()}}, {"details", payload.dump()}});
  }
  return journal->clear();
}

Result<void> Ledger::State::record_key(Tip& at, const PublicKey& public_key, std::string_view how) {
  Json payload = {{"how", how}, {"id", public_key.id()}, {"key", public_key.text()}};
  if (!head.key.empty()) payload["replaces"] = head.key;
  head.key = public_key.text();
  return insert(at, own_actor, key_action, payload.dump());
}

Result<void> Ledger::State::open_key() {
  if (options.key_path.empty()) return {};
  const auto next_path = next_key_path(options.key_path);
  DE_TRY(auto found, read_key(options.key_path));
  DE_TRY(auto next, read_key(next_path));
  if (next) {  // a rotation that was interrupted: it counts when it was recorded
    if (next->public_key().text() == head.key) {
      DE_CHECK(write_key(options.key_path, *next));
      found = std::move(next);
    }
    ::unlink(next_path.c_str());
    ::unlink((next_path + ".pub").c_str());
  }
  const bool was_there = found.has_value();
  if (!found) {
    if (start.origin.empty()) {
      start.origin = key_name_of(options.name.empty() ? "host" : options.name) + "/daemoneye/" +
                     base::to_hex(base::random_bytes(4));
    }
    DE_TRY(auto made, PrivateKey::generate(start.origin));
    DE_CHECK(write_key(options.key_path, made));
    found = std::move(made);
  }
  if (start.origin.empty()) start.origin = found->public_key().name();
  if (found->public_key().name() != start.origin) {
    return fail(Errc::invalid_input, options.key_path + ": is the key of another ledger, '" +
                                         found->public_key().name() + "'; this one is '" + start.origin + "'");
  }
  key = std::move(found);
  DE_CHECK(keep_public_key());
  if (head.key == key->public_key().text()) return {};
  const auto before = head.key;
  auto recorded = commit([&](Tip& at) -> Result<void> {
    DE_TRY(auto* row, statements->get("UPDATE segment SET origin = ?"));
    DE_CHECK(row->bind_text(1, start.origin).run());
    return record_key(at, key->public_key(), !before.empty() ? "replaced" : was_there ? "kept" : "first");
  });
  if (!recorded) head.key = before;
  return recorded;
}

// A crash between the two renames of the first start, or a person, may have taken it.
Result<void> Ledger::State::keep_public_key() {
  const auto there = base::read_file(options.key_path + ".pub", 4096);
  if (there && base::trim(*there) == key->public_key().text()) return {};
  return write_key(options.key_path, *key);
}

Result<void> Ledger::State::insert_checkpoint(Tip& at, const std::vector<const PrivateKey*>& keys, std::string& note) {
  const std::uint64_t size = at.tree.size();
  Note made{.text = Checkpoint{start.origin, size, at.tree.root()}.text(), .signatures = {}};
  for (const auto* signer : keys) DE_CHECK(made.sign(*signer));
  note = made.bytes();
  DE_TRY(auto* row, statements->get("INSERT INTO checkpoints VALUES (?, ?)"));
  DE_CHECK(row->bind(1, static_cast<std::int64_t>(size)).bind_text(2, note).run());
  // That there was one, and which, stands in the log as well: one that is taken away is missed.
  return insert(at, own_actor, checkpoint_action, Json{{"note", base::to_hex(digest_of(note))}, {"size", size}}.dump());
}

void Ledger::State::hand_on(const std::string& note, std::uint64_t size) {
  checkpointed = size;
  checkpoint_time = base::wall_now();
  checkpoint_problem.clear();
  if (auto kept = keep_signed_head(options.key_path, note); !kept) {
    checkpoint_problem = "what was signed cannot be kept: " + kept.error().message;
    observe::log(Level::error, "ledger", "what was signed cannot be kept beside the key",
                 {{"error", kept.error().message}});
  }
  observe::log(Level::info, "ledger", "checkpoint", {{"size", size}, {"note", note}});
  copy.append(note);
}

Ledger::Ledger(std::unique_ptr<State> state) : state_(std::move(state)) {}
Ledger::~Ledger() = default;

Result<std::unique_ptr<Ledger>> Ledger::open(const Options& options) {
  const db::SoleWriter sole_writer;  // by the lock that Files has
  auto state = std::make_unique<State>();
  state->options = options;
  DE_TRY(auto files, Files::claim(options));
  state->files.emplace(std::move(files));
  std::uint64_t number = state->files->segments() - 1;
  DE_TRY(auto torn, state->files->keep_torn_tail(segment_path(options.path, number)));
  if (number > 0) {
    // A segment that was made and never begun goes on being one that is not there.
    DE_TRY(const bool begun, state->is_begun(number));
    if (!begun) {
      DE_TRY(torn, state->files->keep_torn_tail(segment_path(options.path, --number)));
    }
  }
  DE_CHECK(state->open_segment(number));
  DE_CHECK(state->load());
  DE_CHECK(state->recover(torn));
  DE_CHECK(state->check_signed_past());
  DE_CHECK(state->open_key());
  state->copy = CheckpointCopy(options.checkpoint_copy);
  DE_CHECK(state->database->execute("PRAGMA busy_timeout=" + std::to_string(busy_timeout_ms)));
  return std::unique_ptr<Ledger>(new Ledger(std::move(state)));
}

Result<std::uint64_t> Ledger::append(const std::string& actor, const std::string& action, const std::string& payload) {
  const NewEntry entry{actor, action, payload};
  return append({&entry, 1});
}

Result<std::uint64_t> Ledger::append(std::span<const NewEntry> entries) {
  const std::uint64_t first = state_->tip.tree.size();
  if (entries.empty()) return first;
  std::vector<std::string> payloads;
  payloads.reserve(entries.size());
  for (const auto& entry : entries) {
    DE_CHECK(check_name("actor", entry.actor, max_actor_bytes));
    DE_CHECK(check_name("action", entry.action, max_action_bytes));
    DE_TRY(auto canonical, canonical_object(entry.payload));
    payloads.push_back(std::move(canonical));
  }
  const auto appended = state_->commit([&](State::Tip& at) -> Result<void> {
    for (std::size_t i = 0; i < entries.size(); ++i) {
      DE_CHECK(state_->insert(at, entries[i].actor, entries[i].action, std::move(payloads[i])));
    }
    return {};
  });
  DE_CHECK(appended);
  return first;
}

Result<void> Ledger::journal_batches(const std::vector<BatchDigest>& batches) {
  if (batches.empty()) return {};
  if (state_->seal_error) return std::unexpected(*state_->seal_error);
  event::Epoch epoch = state_->batch_epoch;
  std::uint64_t highest = state_->highest_batch;
  for (const auto& batch : batches) {
    if (batch.epoch != epoch) highest = 0;
    epoch = batch.epoch;
    // A number that comes again would be a second batch under the name of one that is already proven.
    if (batch.sequence <= highest || batch.sequence > largest_sql_integer) {
      return fail(Errc::invalid_input, "ledger: batch " + std::to_string(batch.sequence) + " after batch " +
                                           std::to_string(highest) + " of the same epoch");
    }
    highest = batch.sequence;
  }
  DE_CHECK(state_->journal->append(batches, state_->head.generation));
  state_->unsealed.insert(state_->unsealed.end(), batches.begin(), batches.end());
  state_->batch_epoch = epoch;
  state_->highest_batch = highest;
  return {};
}

Result<void> Ledger::seal_batches(std::optional<std::uint64_t> acknowledged) {
  if (state_->unsealed.empty()) {
    // A batch that waits for the ledger to take roots again is not among them.
    if (state_->seal_error) {
      auto again = state_->commit([](State::Tip&) -> Result<void> { return {}; });
      if (!again) return again;
      state_->seal_error.reset();
    }
    return {};
  }
  ++state_->head.generation;
  auto sealed = state_->commit(
      [&](State::Tip& at) { return state_->insert_ranges(at, state_->unsealed, /*recovered=*/false, acknowledged); });
  if (!sealed) {
    --state_->head.generation;
    state_->seal_error = sealed.error();
    return sealed;
  }
  state_->seal_error.reset();
  state_->unsealed.clear();
  state_->journal->begin_anew();
  return {};
}

Result<void> Ledger::checkpoint() {
  if (!state_->key) return {};
  state_->checkpoint_tried = base::SteadyClock::now();
  state_->checkpoint_tried_wall = base::wall_now();
  const std::uint64_t size = state_->tip.tree.size();
  // The record of the last checkpoint alone is nothing new.
  if (size == 0 || (state_->checkpointed > 0 && size <= state_->checkpointed + 1)) return {};
  std::string note;
  std::uint64_t signed_size = 0;
  auto made = state_->commit([&](State::Tip& at) {
    signed_size = at.tree.size();
    return state_->insert_checkpoint(at, {&*state_->key}, note);
  });
  if (!made) {
    state_->checkpoint_problem = made.error().message;
    return made;
  }
  state_->hand_on(note, signed_size);
  return {};
}

Result<void> Ledger::checkpoint_when_due() {
  const std::uint64_t since = state_->tip.tree.size() - std::min(state_->tip.tree.size(), state_->checkpointed);
  // A machine that slept wakes with entries that are older than the steady clock knows.
  const bool late = base::SteadyClock::now() - state_->checkpoint_tried >= state_->options.checkpoint_interval ||
                    base::wall_now().ns - state_->checkpoint_tried_wall.ns >=
                        std::chrono::nanoseconds(state_->options.checkpoint_interval).count();
  return late || since >= state_->options.checkpoint_entries ? checkpoint() : Result<void>();
}

Result<std::string> Ledger::rotate_key() {
  if (!state_->key) return fail(Errc::unavailable, "the ledger has no key: audit.key_path is not set");
  auto& state = *state_;
  const auto next_path = next_key_path(state.options.key_path);
  // A rotation whose last step failed: the key in force lies in the place of the next one only.
  DE_TRY(const auto on_disk, read_key(state.options.key_path));
  if (!on_disk || on_disk->public_key() != state.key->public_key()) {
    DE_CHECK(write_key(state.options.key_path, *state.key));
  }
  DE_TRY(auto made, PrivateKey::generate(state.start.origin));
  DE_CHECK(write_key(next_path, made));
  const auto before = state.head.key;
  std::string note;
  std::uint64_t signed_size = 0;
  auto recorded = state.commit([&](State::Tip& at) -> Result<void> {
    DE_CHECK(state.record_key(at, made.public_key(), "rotated"));
    signed_size = at.tree.size();
    return state.insert_checkpoint(at, {&*state.key, &made}, note);
  });
  if (!recorded) {
    state.head.key = before;
    return std::unexpected(recorded.error());
  }
  state.hand_on(note, signed_size);
  state.key = std::move(made);
  // When this fails the next start finds the new key where it lies.
  DE_CHECK(write_key(state.options.key_path, *state.key));
  ::unlink(next_path.c_str());
  ::unlink((next_path + ".pub").c_str());
  return state.key->public_key().text();
}

Result<void> Ledger::close() {
  if (state_->closed) return {};
  DE_CHECK(seal_batches());
  DE_CHECK(checkpoint());
  state_->head.running = false;
  if (auto ended = state_->commit([](State::Tip&) -> Result<void> { return {}; }); !ended) {
    state_->head.running = true;
    return ended;
  }
  state_->closed = true;
  return {};
}

std::uint64_t Ledger::size() const { return state_->tip.tree.size(); }
std::optional<Entry> Ledger::last() const {
  auto last = state_->tip.last;
  if (last) last->payload_digest = digest_of(last->payload);
  return last;
}

Ledger::Status Ledger::status() const {
  return {.segments = state_->start.number + 1,
          .checkpointed = state_->checkpointed,
          .checkpoint_time = state_->checkpoint_time,
          .key_id = state_->key ? state_->key->public_key().id() : "",
          .copy_problem = state_->copy.problem(),
          .checkpoint_problem = state_->checkpoint_problem};
}

}  // namespace daemoneye::ledger
