// Entries, their tree, heads and checkpoints into the segment, and from one segment to the next.
#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>

#include "db/sole_writer.h"
#include "ledger/ledger_state.h"
#include "ledger/signed_head.h"
#include "observe/log.h"

namespace daemoneye::ledger {

using Json = nlohmann::json;
using base::Sha256Digest;
using observe::Level;

namespace {

constexpr std::uint64_t row_bytes = 75;  // of an entry without its payload, about
constexpr std::uint64_t retry_rotation_bytes = 64 * 1024;

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

}  // namespace daemoneye::ledger
