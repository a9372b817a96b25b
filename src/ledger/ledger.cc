#include "ledger/ledger.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "db/statement_cache.h"
#include "ledger/files.h"
#include "ledger/format.h"
#include "ledger/merkle.h"

namespace daemoneye::ledger {

using Json = nlohmann::json;

namespace {

constexpr std::string_view batches_actor = "procmond", batches_action = "batches";
constexpr std::uint64_t largest_sql_integer = std::numeric_limits<std::int64_t>::max();

// Keys sorted, no blanks: one text for equal objects.
Result<std::string> canonical_object(const std::string& payload) {
  const auto json = Json::parse(payload, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return fail(Errc::invalid_input, "ledger: the payload is not a JSON object");
  auto text = json.dump();
  if (text.size() > max_payload_bytes) {
    return fail(Errc::limit_exceeded, "ledger: payload of " + std::to_string(text.size()) + " bytes, at most " +
                                          std::to_string(max_payload_bytes));
  }
  return text;
}

Result<void> check_name(std::string_view what, const std::string& name, std::size_t max_bytes) {
  if (!name.empty() && name.size() <= max_bytes && name.find('\0') == std::string::npos) return {};
  return fail(Errc::invalid_input, "ledger: " + std::string(what) + " of " + std::to_string(name.size()) +
                                       " bytes, wanted 1 to " + std::to_string(max_bytes) + " without NUL");
}

// Journal rows of one epoch without a hole.
struct Range {
  event::Epoch epoch{};
  std::uint64_t first = 0, last = 0;
  MerkleTree tree;
};

}  // namespace

struct Ledger::State {
  UniqueFd lock;
  std::unique_ptr<db::Database> database;
  std::unique_ptr<db::StatementCache> statements;  // a batch's digest is recorded on the way of every event
  std::uint64_t size = 0;
  std::optional<Entry> last;
  // The highest batch journaled in this run; numbers only rise in an epoch.
  event::Epoch batch_epoch{};
  std::uint64_t highest_batch = 0;

  Result<void> load();
  Result<Entry> insert(const Entry* before, std::string_view actor, std::string_view action, std::string payload);
  Result<std::vector<Range>> journal();
  Result<void> seal(bool recovered);
};

namespace {

// Checked when the ledger is opened; everything is checked by LedgerReader::verify().
constexpr std::uint64_t checked_at_open = 64;

}  // namespace

Result<void> Ledger::State::load() {
  DE_TRY(const auto head, read_head(*database));
  const auto corrupt = [&](std::uint64_t sequence, const std::string& what) {
    return fail(Errc::corrupt, database->path() + ": entry " + std::to_string(sequence) + ": " + what);
  };
  DE_TRY(auto rows, database->prepare("SELECT " + std::string(entry_columns) +
                                      " FROM entries WHERE sequence >= ? ORDER BY sequence"));
  std::uint64_t expected = head.size > checked_at_open ? head.size - checked_at_open : 0;
  rows.bind(1, static_cast<std::int64_t>(expected));
  for (;;) {
    DE_TRY(const bool found, rows.step());
    if (!found) break;
    auto entry = read_entry(rows);
    if (!entry) return corrupt(expected, entry.error().message);
    if (entry->sequence != expected || expected >= head.size) return corrupt(expected, "missing or not in its place");
    // The entry before the first that is looked at is not known here.
    const bool first_looked_at = !last && expected > 0;
    Entry assumed;
    assumed.entry_hash = entry->previous_hash;
    assumed.time = entry->time;
    const auto fault = fault_of(*entry, first_looked_at ? &assumed : last ? &*last : nullptr);
    if (!fault.empty()) return corrupt(expected, fault);
    last = *std::move(entry);
    ++expected;
  }
  if (expected != head.size)
    return corrupt(expected, "missing: the ledger had " + std::to_string(head.size) + " entries");
  if (last && last->entry_hash != head.last_hash)
    return corrupt(last->sequence, "is not the one that was written last");
  size = head.size;
  return {};
}

// Inside the caller's transaction; `before` is what it follows.
Result<Entry> Ledger::State::insert(const Entry* before, std::string_view actor, std::string_view action,
                                    std::string payload) {
  Entry entry;
  entry.time = base::wall_now();
  if (before != nullptr) {
    entry.sequence = before->sequence + 1;
    entry.time = std::max(entry.time, before->time);
    entry.previous_hash = before->entry_hash;
  }
  entry.actor = actor;
  entry.action = action;
  entry.payload = std::move(payload);
  entry.payload_digest = base::sha256(entry.payload);
  entry.entry_hash = leaf_hash(encode_leaf(entry));
  static const std::string insert_entry =
      "INSERT INTO entries (" + std::string(entry_columns) + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
  DE_TRY(auto* cached_row, statements->get(insert_entry));
  db::Statement& row = *cached_row;
  row.bind(1, static_cast<std::int64_t>(entry.sequence)).bind(2, entry.time.ns);
  row.bind_text(3, entry.actor).bind_text(4, entry.action).bind_text(5, entry.payload);
  row.bind_blob(6, base::as_bytes(entry.payload_digest)).bind_blob(7, base::as_bytes(entry.previous_hash));
  row.bind_blob(8, base::as_bytes(entry.entry_hash));
  DE_CHECK(row.run());
  DE_TRY(auto* head, statements->get("UPDATE head SET size = ?, last_hash = ?"));
  head->bind(1, static_cast<std::int64_t>(entry.sequence + 1)).bind_blob(2, base::as_bytes(entry.entry_hash));
  DE_CHECK(head->run());
  return entry;
}

Result<std::vector<Range>> Ledger::State::journal() {
  std::vector<Range> ranges;
  DE_TRY(auto* select, statements->get("SELECT epoch, sequence, digest FROM batch_journal ORDER BY epoch, sequence"));
  const db::StatementReset reset(*select);
  db::Statement& rows = *select;
  for (;;) {
    DE_TRY(const bool found, rows.step());
    if (!found) return ranges;
    event::Epoch epoch{};
    const auto epoch_bytes = rows.blob(0), digest = rows.blob(2);
    const auto sequence = static_cast<std::uint64_t>(rows.integer(1));
    if (epoch_bytes.size() != epoch.size() || digest.size() != sizeof(base::Sha256Digest)) {
      return fail(Errc::corrupt, database->path() + ": a journal row is not a batch digest");
    }
    std::copy(epoch_bytes.begin(), epoch_bytes.end(), epoch.begin());
    if (ranges.empty() || ranges.back().epoch != epoch || ranges.back().last + 1 != sequence) {
      ranges.push_back({epoch, sequence, sequence, {}});
    }
    ranges.back().last = sequence;
    ranges.back().tree.add(leaf_hash(digest));
  }
}

Result<void> Ledger::State::seal(bool recovered) {
  DE_TRY(const auto ranges, journal());
  if (ranges.empty()) return {};
  DE_TRY(auto transaction, db::Transaction::begin(*database));
  std::optional<Entry> newest = last;
  for (const auto& range : ranges) {
    Json payload = {{"count", range.tree.size()},
                    {"epoch", event::to_string(range.epoch)},
                    {"first", range.first},
                    {"last", range.last},
                    {"root", base::to_hex(range.tree.root())}};
    if (recovered) payload["recovered"] = true;
    DE_TRY(newest, insert(newest ? &*newest : nullptr, batches_actor, batches_action, payload.dump()));
  }
  DE_TRY(auto* clear, statements->get("DELETE FROM batch_journal"));
  DE_CHECK(clear->run());
  DE_CHECK(transaction.commit());
  last = std::move(newest);
  size = last->sequence + 1;
  return {};
}

Ledger::Ledger(std::unique_ptr<State> state) : state_(std::move(state)) {}
Ledger::~Ledger() = default;

Result<std::unique_ptr<Ledger>> Ledger::open(const Options& options) {
  auto state = std::make_unique<State>();
  DE_TRY(state->lock, claim_files(options));
  DE_TRY(state->database, db::Database::open(options.path, {.mode = db::Database::Mode::create_or_write,
                                                            .application_id = application_id}));
  state->statements = std::make_unique<db::StatementCache>(*state->database);
  DE_CHECK(db::migrate(*state->database, schema_steps()));
  DE_CHECK(state->load());
  DE_CHECK(state->seal(/*recovered=*/true));
  return std::unique_ptr<Ledger>(new Ledger(std::move(state)));
}

Result<std::uint64_t> Ledger::append(const std::string& actor, const std::string& action, const std::string& payload) {
  DE_CHECK(check_name("actor", actor, max_actor_bytes));
  DE_CHECK(check_name("action", action, max_action_bytes));
  DE_TRY(auto canonical, canonical_object(payload));
  DE_TRY(auto transaction, db::Transaction::begin(*state_->database));
  DE_TRY(auto entry, state_->insert(state_->last ? &*state_->last : nullptr, actor, action, std::move(canonical)));
  DE_CHECK(transaction.commit());
  state_->size = entry.sequence + 1;
  state_->last = std::move(entry);
  return state_->last->sequence;
}

Result<void> Ledger::journal_batches(const std::vector<BatchDigest>& batches) {
  if (batches.empty()) return {};
  event::Epoch epoch = state_->batch_epoch;
  std::uint64_t highest = state_->highest_batch;
  DE_TRY(auto transaction, db::Transaction::begin(*state_->database));
  DE_TRY(auto* row, state_->statements->get("INSERT INTO batch_journal (epoch, sequence, digest) VALUES (?, ?, ?)"));
  for (const auto& batch : batches) {
    if (batch.epoch != epoch) highest = 0;
    epoch = batch.epoch;
    // A number that comes again would be a second batch under the name of one that is already proven.
    if (batch.sequence <= highest || batch.sequence > largest_sql_integer) {
      return fail(Errc::invalid_input, "ledger: batch " + std::to_string(batch.sequence) + " after batch " +
                                           std::to_string(highest) + " of the same epoch");
    }
    highest = batch.sequence;
    row->bind_blob(1, {reinterpret_cast<const char*>(epoch.data()), epoch.size()});
    row->bind(2, static_cast<std::int64_t>(batch.sequence)).bind_blob(3, base::as_bytes(batch.digest));
    DE_CHECK(row->run());
  }
  DE_CHECK(transaction.commit());
  state_->batch_epoch = epoch;
  state_->highest_batch = highest;
  return {};
}

Result<void> Ledger::seal_batches() { return state_->seal(/*recovered=*/false); }

std::uint64_t Ledger::size() const { return state_->size; }
std::optional<Entry> Ledger::last() const { return state_->last; }

}  // namespace daemoneye::ledger
