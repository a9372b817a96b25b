#include <algorithm>
#include <limits>

#include "ledger/format.h"
#include "ledger/ledger.h"
#include "ledger/merkle.h"

namespace daemoneye::ledger {

struct LedgerReader::State {
  std::unique_ptr<db::Database> database;
};

LedgerReader::LedgerReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
LedgerReader::~LedgerReader() = default;

Result<std::unique_ptr<LedgerReader>> LedgerReader::open(const std::string& path) {
  auto state = std::make_unique<State>();
  DE_TRY(state->database, db::Database::open(path, {.application_id = application_id}));
  return std::unique_ptr<LedgerReader>(new LedgerReader(std::move(state)));
}

Result<std::uint64_t> LedgerReader::size() const {
  DE_TRY(auto row, state_->database->prepare("SELECT max(sequence) FROM entries"));
  DE_TRY(const bool found, row.step());
  if (!found || row.is_null(0)) return 0;
  return static_cast<std::uint64_t>(row.integer(0)) + 1;
}

Result<void> LedgerReader::read(std::uint64_t from, std::uint64_t count,
                                const std::function<bool(const Entry&)>& each) const {
  // In pieces, so that a slow receiver holds no snapshot of the file (and so no space) while it works.
  constexpr std::uint64_t piece = 256;
  constexpr std::uint64_t largest = std::numeric_limits<std::int64_t>::max();
  while (count > 0 && from <= largest) {
    std::vector<Entry> entries;
    {
      DE_TRY(auto rows, state_->database->prepare("SELECT " + std::string(entry_columns) +
                                                  " FROM entries WHERE sequence >= ? ORDER BY sequence LIMIT ?"));
      rows.bind(1, static_cast<std::int64_t>(from)).bind(2, static_cast<std::int64_t>(std::min(count, piece)));
      for (;;) {
        DE_TRY(const bool found, rows.step());
        if (!found) break;
        auto entry = read_entry(rows);
        if (!entry) {
          return fail(Errc::corrupt, state_->database->path() + ": entry " + std::to_string(rows.integer(0)) + ": " +
                                         entry.error().message);
        }
        entries.push_back(*std::move(entry));
      }
    }
    for (const auto& entry : entries) {
      // Beyond a hole [from, from+count) may end earlier than the rows do.
      if (entry.sequence - from >= count) return {};
      if (!each(entry)) return {};
    }
    if (entries.size() < std::min(count, piece)) return {};
    const std::uint64_t next = entries.back().sequence + 1;
    count -= std::min(count, next - from);
    from = next;
  }
  return {};
}

Result<LedgerReader::Report> LedgerReader::verify() const {
  Report report;
  MerkleTree tree;
  DE_CHECK(state_->database->execute("BEGIN"));  // one snapshot for entries and head; only reads, nothing to commit
  struct End {
    db::Database& database;
    ~End() { static_cast<void>(database.execute("ROLLBACK")); }  // of a read nothing can be lost
  } const end{*state_->database};
  DE_TRY(auto rows,
         state_->database->prepare("SELECT " + std::string(entry_columns) + " FROM entries ORDER BY sequence"));
  std::optional<Entry> previous;
  const auto bad = [&](std::string what) {
    report.first_bad = Bad{report.entries, std::move(what)};
    report.root = tree.root();
    return report;
  };
  for (;;) {
    DE_TRY(const bool found, rows.step());
    if (!found) break;
    auto entry = read_entry(rows);
    if (!entry) return bad(entry.error().message);
    if (entry->sequence != report.entries) return bad("missing: the next one is " + std::to_string(entry->sequence));
    if (auto fault = fault_of(*entry, previous ? &*previous : nullptr); !fault.empty()) return bad(std::move(fault));
    tree.add(entry->entry_hash);
    ++report.entries;
    previous = *std::move(entry);
  }
  auto head = read_head(*state_->database);
  if (!head && head.error().code == Errc::corrupt) return bad(head.error().message);
  if (!head) return std::unexpected(head.error());
  if (report.entries < head->size) return bad("missing: the ledger had " + std::to_string(head->size) + " entries");
  if (report.entries > head->size) {
    report.entries = head->size;
    return bad("was not written by the ledger's writer");
  }
  if (previous && previous->entry_hash != head->last_hash) {
    report.entries -= 1;
    return bad("is not the one that was written last");
  }
  report.root = tree.root();
  return report;
}

}  // namespace daemoneye::ledger
