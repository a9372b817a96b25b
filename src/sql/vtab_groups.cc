// _event_groups(what, value…): process_events, its events grouped beforehand; only rewritten statements name it.
#include <sqlite3.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "db/account.h"
#include "predicate/value.h"
#include "sql/catalog.h"
#include "sql/group_spec.h"
#include "sql/push_down.h"
#include "sql/runtime.h"
#include "sql/virtual_table.h"
#include "store/group_scan.h"

namespace daemoneye::sql {
namespace {

using event::Column;
using predicate::Operator;

constexpr int count_column = static_cast<int>(event::column_count);
constexpr int first_argument = count_column + 1;
constexpr int plan_whole = 1;

std::string_view text_of(sqlite3_value* value) {
  const auto* const text = reinterpret_cast<const char*>(sqlite3_value_text(value));
  return text == nullptr ? std::string_view()
                         : std::string_view(text, static_cast<std::size_t>(sqlite3_value_bytes(value)));
}

class GroupsCursor : public Cursor {
 public:
  explicit GroupsCursor(Runtime& runtime) : runtime_(runtime) {}
  ~GroupsCursor() override { finish(); }
  GroupsCursor(const GroupsCursor&) = delete;
  GroupsCursor& operator=(const GroupsCursor&) = delete;

  Result<void> filter(int plan, const char*, std::span<sqlite3_value*> values) override {
    finish();
    if (runtime_.reader() == nullptr) return fail(Errc::unavailable, "there is no store");
    if (values.empty()) return fail(Errc::internal, "a grouped reading of nothing");
    arguments_.clear();
    for (auto* const value : values) arguments_.emplace_back(sqlite3_value_dup(value));
    DE_TRY(spec_, decode_group_spec(text_of(values[0])));
    ScanFilter filter;
    std::size_t next_value = 1;
    for (auto& condition : spec_.conditions) {
      DE_CHECK(add(filter, condition, values, next_value));
      if (filter.nothing) break;
    }
    note_step();
    store::GroupRequest request;
    request.time = runtime_.clamp(filter.time);
    const bool empty_range = request.time.from && request.time.to && *request.time.from > *request.time.to;
    if (filter.nothing || empty_range) return {};
    runtime_.touch(request.time);
    request.first_event = filter.first_event;
    request.last_event = filter.last_event;
    request.conditions = std::move(filter.conditions);
    request.by = spec_.by;
    request.extremes = spec_.extremes;
    request.whole = spec_.whole || (plan & plan_whole) != 0;
    if (const auto* const account = db::Account::current(); account != nullptr && account->memory_limit() != 0)
      request.max_bytes = std::min<std::size_t>(request.max_bytes, account->memory_limit() / 4);
    runtime_.expect_blocks(request.time);
    DE_TRY(scan_, store::GroupScan::open(*runtime_.reader(), std::move(request), [this] {
             runtime_.pass_block();
             return runtime_.should_stop();
           }));
    return {};
  }

  Result<bool> next() override {
    if (!scan_) return false;
    ++row_;
    // With extremes each group is two rows: the first has the least values and the count, the second the most.
    if (!spec_.extremes.empty() && !second_ && row_ > 1) {
      second_ = true;
      return true;
    }
    second_ = false;
    DE_TRY(const bool more, scan_->next());
    DE_CHECK(charge(scan_->bytes()));
    return more;
  }

  void column(sqlite3_context* out, int index) override {
    // Of many constraints SQLite checks some again although it was told not to.
    if (index >= first_argument) {
      const auto argument = static_cast<std::size_t>(index - first_argument);
      if (argument < arguments_.size()) sqlite3_result_value(out, arguments_[argument].get());
      return;
    }
    if (index == count_column)
      return sqlite3_result_int64(out, second_ ? 0 : static_cast<std::int64_t>(scan_->count()));
    const auto column = static_cast<Column>(index);
    if (const auto found = std::ranges::find(spec_.by, column); found != spec_.by.end())
      return give(out, scan_->by(static_cast<std::size_t>(found - spec_.by.begin())));
    if (const auto found = std::ranges::find(spec_.extremes, column); found != spec_.extremes.end()) {
      const auto place = static_cast<std::size_t>(found - spec_.extremes.begin());
      return give(out, second_ ? scan_->most(place) : scan_->least(place));
    }
  }

  std::int64_t rowid() override { return row_; }

 private:
  // As SQLite would compare the column with the value: what the predicates do not know is worked out here.
  static Result<void> add(ScanFilter& filter, const GroupCondition& wanted, std::span<sqlite3_value*> values,
                          std::size_t& next_value) {
    predicate::Condition condition{wanted.column, wanted.op, {}, wanted.negated};
    for (const auto& given : wanted.values) {
      if (given) {
        condition.values.push_back(*given);
        continue;
      }
      if (next_value >= values.size()) return fail(Errc::internal, "a grouped reading without its value");
      auto* const value = values[next_value++];
      switch (sqlite3_value_type(value)) {
        case SQLITE_NULL: filter.nothing = true; return {};  // a comparison with NULL is never true
        case SQLITE_INTEGER: condition.values.emplace_back(std::int64_t{sqlite3_value_int64(value)}); break;
        case SQLITE_FLOAT: condition.values.emplace_back(sqlite3_value_double(value)); break;
        case SQLITE_TEXT: condition.values.emplace_back(std::string(text_of(value))); break;
        default: return fail(Errc::invalid_input, "a blob cannot be compared with a column");
      }
    }
    const auto* const real = condition.values.size() == 1 ? std::get_if<double>(&condition.values.front()) : nullptr;
    if (real != nullptr && std::isinf(*real)) {
      if (event::info(wanted.column).type == event::ColumnType::text) {
        condition.values.front() = predicate::to_text(*real);
      } else {
        const bool is_less = wanted.op == Operator::less || wanted.op == Operator::less_equal;
        const bool is_greater = wanted.op == Operator::greater || wanted.op == Operator::greater_equal;
        if (wanted.op == Operator::not_equal || (*real > 0 ? is_less : is_greater))
          condition = {wanted.column, Operator::is_not_null, {}, false};
        else
          filter.nothing = true;
      }
    }
    add_condition(filter, std::move(condition));
    return {};
  }

  void note_step() {
    auto& noted = step();
    if (!noted.rewrite.empty()) return;
    std::string by;
    for (const auto column : spec_.by) by += (by.empty() ? "" : ", ") + std::string(event::info(column).name);
    noted.rewrite = by.empty() ? "counted block by block" : "grouped by " + by + " from dictionaries";
    noted.pushed.clear();
    for (const auto& condition : spec_.conditions) noted.pushed.push_back(shown(condition));
  }

  static std::string shown(const GroupCondition& condition) {
    std::string text(event::info(condition.column).name);
    text += condition.negated ? " NOT " : " ";
    text += predicate::to_string(condition.op);
    if (condition.op == Operator::in) return text + " (…)";
    if (condition.values.empty()) return text;
    const auto& value = condition.values.front();
    if (!value) return text + " ?";
    return text + " '" + base::printable(predicate::to_text(*value).substr(0, 60)) + "'";
  }

  // What the groups take counts on the statement's account.
  Result<void> charge(std::size_t bytes) {
    const auto more = static_cast<std::int64_t>(bytes) - charged_;
    auto* const account = db::Account::current();
    if (account == nullptr || more == 0) return {};
    if (!account->take(more)) return fail(Errc::limit_exceeded, "the groups do not fit in the memory for them");
    charged_ += more;
    return {};
  }

  void finish() {
    if (scan_) runtime_.add(scan_->stats(), step());
    scan_.reset();
    (void)charge(0);
    second_ = false;
    row_ = 0;
  }

  struct FreeValue {
    void operator()(sqlite3_value* value) const { sqlite3_value_free(value); }
  };

  Runtime& runtime_;
  GroupSpec spec_;
  std::vector<std::unique_ptr<sqlite3_value, FreeValue>> arguments_;
  std::unique_ptr<store::GroupScan> scan_;
  bool second_ = false;
  std::int64_t row_ = 0, charged_ = 0;
};

class GroupsTable : public VirtualTable {
 public:
  using VirtualTable::VirtualTable;
  [[nodiscard]] std::string name() const override { return std::string(event_groups_table); }
  [[nodiscard]] std::string columns() const override {
    auto sql =
        declare_event_columns(false) + ", \"" + std::string(group_count_column) + "\" INTEGER, _what TEXT HIDDEN";
    for (std::size_t i = 1; i <= max_group_arguments; ++i) sql += ", _value" + std::to_string(i) + " HIDDEN";
    return sql;
  }

  int plan(sqlite3_index_info& info) override {
    std::optional<GroupSpec> spec;
    int arguments = 0;
    for (int i = 0; i < info.nConstraint; ++i) {
      const auto& constraint = info.aConstraint[i];
      if (constraint.iColumn < first_argument || constraint.op != SQLITE_INDEX_CONSTRAINT_EQ) continue;
      if (constraint.usable == 0) return SQLITE_CONSTRAINT;  // its arguments must be known
      info.aConstraintUsage[i].argvIndex = constraint.iColumn - first_argument + 1;
      info.aConstraintUsage[i].omit = 1;
      ++arguments;
      sqlite3_value* value = nullptr;
      if (constraint.iColumn == first_argument && sqlite3_vtab_rhs_value(&info, i, &value) == SQLITE_OK) {
        if (auto decoded = decode_group_spec(text_of(value))) spec = *std::move(decoded);
      }
    }
    if (arguments == 0) return SQLITE_CONSTRAINT;
    info.idxNum = 0;
    if (spec && is_distinct(info, *spec)) {
      info.orderByConsumed = 1;
      info.idxNum = plan_whole;
    }
    info.estimatedRows = 10'000;
    info.estimatedCost = 10'000;
    return SQLITE_OK;
  }

  std::unique_ptr<Cursor> open() override { return std::make_unique<GroupsCursor>(runtime()); }

 private:
  // DISTINCT wants equal rows beside each other: each group is one row, or two. GROUP BY says that it wants no more,
  // but SQLite 3.40 says so also where the order of the groups is that of an ORDER BY.
  static bool is_distinct(sqlite3_index_info& info, const GroupSpec& spec) {
    constexpr int distinct_rows = 2;
    if (sqlite3_vtab_distinct(&info) != distinct_rows || info.nOrderBy == 0) return false;
    std::vector<Column> asked;
    for (int i = 0; i < info.nOrderBy; ++i) {
      const int column = info.aOrderBy[i].iColumn;
      if (column < 0 || column >= count_column) return false;
      const auto one = static_cast<Column>(column);
      if (std::ranges::find(asked, one) == asked.end()) asked.push_back(one);
    }
    return asked.size() == spec.by.size() && std::ranges::all_of(spec.by, [&](Column column) {
             return has_few_values(column) && std::ranges::find(asked, column) != asked.end();
           });
  }
};

}  // namespace

std::unique_ptr<VirtualTable> make_groups_table(Runtime& runtime) { return std::make_unique<GroupsTable>(runtime); }

}  // namespace daemoneye::sql
