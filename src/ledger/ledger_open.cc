// From files to a ledger that goes on: what is checked, what a crash left, which key signs.
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/text.h"
#include "db/sole_writer.h"
#include "ledger/ledger_state.h"
#include "ledger/signed_head.h"
#include "observe/log.h"

namespace daemoneye::ledger {

using Json = nlohmann::json;
using base::Sha256Digest;
using observe::Level;

namespace {

// Checked when the ledger is opened; everything is checked by LedgerReader::verify().
constexpr std::uint64_t checked_at_open = 64;

}  // namespace

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

}  // namespace daemoneye::ledger
