// audit_ledger: read from the collector's own file.
#include <sqlite3.h>

#include <deque>
#include <limits>

#include "ledger/ledger.h"
#include "sql/runtime.h"
#include "sql/virtual_table.h"

namespace daemoneye::sql {
namespace {

enum LedgerColumn : int {
  col_seq,
  col_time,
  col_actor,
  col_action,
  col_payload,
  col_payload_digest,
  col_previous_hash,
  col_entry_hash
};
constexpr std::uint64_t entries_read_at_once = 256;
constexpr int plan_low = 1, plan_high = 2, plan_equal = 4;

class LedgerCursor : public Cursor {
 public:
  explicit LedgerCursor(Runtime& runtime) : runtime_(runtime) {}

  Result<void> filter(int plan, const char*, std::span<sqlite3_value*> values) override {
    entries_.clear();
    from_ = 0;
    to_ = std::numeric_limits<std::uint64_t>::max();
    std::size_t next_value = 0;
    const auto bound = [&](int bit) -> sqlite3_value* {
      return (plan & bit) != 0 && next_value < values.size() ? values[next_value++] : nullptr;
    };
    // Other types are left to SQLite, which checks every row again.
    auto* const equal = bound(plan_equal);
    auto* const low = equal != nullptr ? equal : bound(plan_low);
    auto* const high = equal != nullptr ? equal : bound(plan_high);
    if (low != nullptr && sqlite3_value_type(low) == SQLITE_INTEGER) {
      from_ = static_cast<std::uint64_t>(std::max<std::int64_t>(0, sqlite3_value_int64(low)));
    }
    if (high != nullptr && sqlite3_value_type(high) == SQLITE_INTEGER) {
      const std::int64_t most = sqlite3_value_int64(high);
      if (most < 0) {
        to_ = 0;
        from_ = 1;
      } else {
        to_ = static_cast<std::uint64_t>(most);
      }
    }
    if (reader_) return {};
    if (runtime_.audit_path().empty()) return fail(Errc::unavailable, "audit_ledger: no ledger is configured here");
    auto opened = ledger::LedgerReader::open(runtime_.audit_path());
    if (!opened) return fail(opened.error().code, "audit_ledger: " + opened.error().message);
    reader_ = *std::move(opened);
    return {};
  }

  Result<bool> next() override {
    if (!entries_.empty()) entries_.pop_front();
    if (entries_.empty() && from_ <= to_) {
      const std::uint64_t left = to_ - from_;
      const std::uint64_t count = left < entries_read_at_once ? left + 1 : entries_read_at_once;
      DE_CHECK(reader_->read(from_, count, [&](const ledger::Entry& entry) {
        entries_.push_back(entry);
        return true;
      }));
      if (!entries_.empty()) from_ = entries_.back().sequence + 1;
    }
    return !entries_.empty();
  }

  void column(sqlite3_context* out, int index) override {
    const auto& entry = entries_.front();
    const auto text = [&](std::string_view value) { give(out, store::ValueView(value)); };
    switch (index) {
      case col_seq: sqlite3_result_int64(out, static_cast<std::int64_t>(entry.sequence)); return;
      case col_time: sqlite3_result_int64(out, entry.time.ns); return;
      case col_actor: text(entry.actor); return;
      case col_action: text(entry.action); return;
      case col_payload: text(entry.payload); return;
      case col_payload_digest: text(base::to_hex(entry.payload_digest)); return;
      case col_previous_hash: text(base::to_hex(entry.previous_hash)); return;
      case col_entry_hash: text(base::to_hex(entry.entry_hash)); return;
      default: return;
    }
  }

  std::int64_t rowid() override { return static_cast<std::int64_t>(entries_.front().sequence); }

 private:
  Runtime& runtime_;
  std::unique_ptr<ledger::LedgerReader> reader_;
  std::deque<ledger::Entry> entries_;
  std::uint64_t from_ = 0, to_ = 0;
};

class LedgerTable : public VirtualTable {
 public:
  using VirtualTable::VirtualTable;
  [[nodiscard]] std::string name() const override { return "audit_ledger"; }
  [[nodiscard]] std::string columns() const override {
    return "seq INTEGER, time INTEGER, actor TEXT, action TEXT, payload TEXT, payload_digest TEXT, previous_hash TEXT, "
           "entry_hash TEXT";
  }

  int plan(sqlite3_index_info& info) override {
    int equal = -1, low = -1, high = -1;
    for (int i = 0; i < info.nConstraint; ++i) {
      const auto& constraint = info.aConstraint[i];
      if (constraint.usable == 0 || constraint.iColumn != col_seq) continue;
      if (constraint.op == SQLITE_INDEX_CONSTRAINT_EQ) equal = i;
      if (constraint.op == SQLITE_INDEX_CONSTRAINT_GE || constraint.op == SQLITE_INDEX_CONSTRAINT_GT) low = i;
      if (constraint.op == SQLITE_INDEX_CONSTRAINT_LE || constraint.op == SQLITE_INDEX_CONSTRAINT_LT) high = i;
    }
    int argument = 1;
    if (equal >= 0) {
      low = high = -1;
      info.aConstraintUsage[equal].argvIndex = argument++;
    }
    if (low >= 0) info.aConstraintUsage[low].argvIndex = argument++;
    if (high >= 0) info.aConstraintUsage[high].argvIndex = argument++;
    info.idxNum = (equal >= 0 ? plan_equal : 0) | (low >= 0 ? plan_low : 0) | (high >= 0 ? plan_high : 0);
    info.estimatedCost = equal >= 0 ? 10.0 : 100'000.0 / argument;
    info.estimatedRows = equal >= 0 ? 1 : 10'000 / argument;
    if (info.nOrderBy == 1 && info.aOrderBy[0].iColumn == col_seq && info.aOrderBy[0].desc == 0)
      info.orderByConsumed = 1;
    return SQLITE_OK;
  }

  std::unique_ptr<Cursor> open() override { return std::make_unique<LedgerCursor>(runtime()); }
};

}  // namespace

std::unique_ptr<VirtualTable> make_ledger_table(Runtime& runtime) { return std::make_unique<LedgerTable>(runtime); }

}  // namespace daemoneye::sql
