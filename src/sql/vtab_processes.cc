// processes: the live ones, and the ended ones, which are the exit events: of each instance one row, by instances.h.
#include <sqlite3.h>

#include <algorithm>

#include "sql/kept_rows.h"
#include "sql/push_down.h"
#include "sql/runtime.h"
#include "sql/virtual_table.h"

namespace daemoneye::sql {
namespace {

using event::Column;
using predicate::Operator;

// Of an ended process these are what its end says, whatever the event holds.
event::Value ended_value(const event::Value& stored, Column column, Timestamp time) {
  if (column == Column::status) return std::string("exited");
  if (column == Column::exit_time && std::holds_alternative<std::monostate>(stored)) return time.ns;
  return stored;
}

struct Which {
  bool live = true, ended = true;
};

// What conditions on status and exit_time leave. They are not passed on to the scan of exit events: see ended_value().
Which which_rows(const ScanFilter& filter) {
  Which which;
  for (const auto& condition : filter.conditions) {
    const auto names_exited = [&] {
      return std::ranges::any_of(condition.values,
                                 [](const event::Value& value) { return value == event::Value("exited"); });
    };
    if (condition.column == Column::status) {
      if (condition.op == Operator::equal || condition.op == Operator::in) {
        if (!names_exited())
          which.ended = false;
        else if (condition.values.size() == 1)
          which.live = false;
      } else if (condition.op == Operator::not_equal && names_exited()) {
        which.ended = false;
      }
    } else if (condition.column == Column::exit_time) {
      if (condition.op == Operator::is_null)
        which.ended = false;
      else
        which.live = false;  // a comparison with NULL is never true
    }
  }
  return which;
}

class ProcessesCursor : public KeepingCursor {
 public:
  explicit ProcessesCursor(Runtime& runtime) : KeepingCursor(runtime), runtime_(runtime) {}
  ~ProcessesCursor() override { end(runtime_.kept_rows(step_number())); }
  ProcessesCursor(const ProcessesCursor&) = delete;
  ProcessesCursor& operator=(const ProcessesCursor&) = delete;

 protected:
  Result<void> begin(int, const PushedPlan& plan, std::span<sqlite3_value*> values, const LeftOut& without) override {
    rows_.clear();
    position_ = 0;
    at_row_ = false;
    if (runtime_.reader() == nullptr) return fail(Errc::unavailable, "there is no store");
    const auto wanted = read_filter(plan, values, process_columns(), without);
    if (wanted.nothing) return {};
    used_ = plan.used(process_columns());
    const Which which = which_rows(wanted);
    if (const auto* const key = wanted.find(Column::process_key, Operator::equal)) {
      looked_up_ = true;
      return look_up(std::get<std::string>(key->values.front()), which);
    }
    std::optional<std::int64_t> pid;
    if (const auto* const condition = wanted.find(Column::pid, Operator::equal)) {
      pid = std::get<std::int64_t>(condition->values.front());
    }
    if (which.live) DE_CHECK(read_live({}, pid));
    if (!which.ended) {
      runtime_.touch({runtime_.now(), runtime_.now()});
      return {};
    }
    return scan_ended(wanted);
  }

  Result<bool> advance() override {
    if (at_row_ && position_ < rows_.size()) ++position_;
    at_row_ = true;
    if (position_ < rows_.size()) return true;
    if (!scan_) return false;
    for (;;) {
      DE_TRY(const bool more, scan_->next());
      if (!more) return false;
      DE_TRY(const bool is_row, runtime_.instances().is_row(key_text(), scan_->event_id(), step()));
      if (is_row) return true;
    }
  }

  store::ValueView value(int index) override {
    if (position_ < rows_.size()) {
      return std::visit([](const auto& held) -> store::ValueView { return held; },
                        rows_[position_].values[static_cast<std::size_t>(index)]);
    }
    const Column column = process_columns()[static_cast<std::size_t>(index)];
    if (column == Column::status) return "exited";
    const auto value = scan_->value(column);
    if (column == Column::exit_time && std::holds_alternative<std::monostate>(value)) return scan_->value(Column::time);
    return value;
  }

  std::int64_t row_number() override {
    if (position_ < rows_.size()) return rows_[position_].rowid;
    const auto key = event::parse_process_key(key_text());
    return key ? rowid_of(*key) : scan_->event_id();
  }

 private:
  std::string_view key_text() const {
    const auto value = scan_->value(Column::process_key);
    const auto* const text = std::get_if<std::string_view>(&value);
    return text == nullptr ? std::string_view() : *text;
  }

  struct Buffered {
    std::int64_t rowid = 0;
    std::vector<event::Value> values;  // of the columns used; the rest stay NULL
  };

  void buffer(const event::ProcessEvent& event, bool ended) {
    Buffered row{rowid_of(event.process.key), {}};
    row.values.reserve(process_columns().size());
    for (const auto column : process_columns()) {
      event::Value value;
      if (used_.test(static_cast<std::size_t>(column))) {
        value = event::column_value(event, 0, column);
        if (ended) value = ended_value(value, column, event.time);
      }
      row.values.push_back(std::move(value));
    }
    rows_.push_back(std::move(row));
  }

  Result<void> read_live(const std::optional<std::string>& key, const std::optional<std::int64_t>& pid) {
    DE_CHECK(runtime_.reader()->live(key, pid, [&](const event::ProcessEvent& event) {
      buffer(event, false);
      return !runtime_.should_stop();
    }));
    if (auto stopped = runtime_.stopped()) return std::unexpected(*std::move(stopped));
    return {};
  }

  Result<void> look_up(const std::string& text, const Which& which) {
    const auto key = event::parse_process_key(text);
    if (!key) return {};  // no process has it
    DE_TRY(const auto found, runtime_.find_instance(*key, step()));
    if (!found) return {};
    const bool ended = found->exit_id.has_value();
    if (ended ? which.ended : which.live) buffer(found->event, ended);
    return {};
  }

  Result<void> scan_ended(const ScanFilter& wanted) {
    store::ScanRequest request;
    request.time = runtime_.clamp({});
    const bool empty_range = request.time.from && request.time.to && *request.time.from > *request.time.to;
    if (empty_range) return {};
    runtime_.touch(request.time);
    request.columns = used_;
    request.columns.set(static_cast<std::size_t>(Column::process_key));
    request.columns.set(static_cast<std::size_t>(Column::time));
    for (const auto& condition : wanted.conditions) {
      if (condition.column != Column::status && condition.column != Column::exit_time)
        request.conditions.push_back(condition);
    }
    request.conditions.push_back({Column::kind, Operator::equal, {std::string("exit")}, false});
    runtime_.expect_blocks(request.time);
    DE_TRY(scan_, runtime_.reader()->scan(request, [this] {
      runtime_.pass_block();
      return runtime_.should_stop();
    }));
    return {};
  }

  void end(KeptRows* kept) override {
    // A process looked up by its key costs filters, and mostly a block.
    constexpr std::uint64_t lookups_as_dear_as_all = 64;
    if (kept != nullptr && looked_up_) kept->spend(1, lookups_as_dear_as_all);
    looked_up_ = false;
    if (!scan_) return;
    const auto& stats = scan_->stats();
    runtime_.add(stats, step());
    if (kept != nullptr)
      kept->spend(stats.blocks_read * 20 + stats.blocks_skipped, (stats.blocks_read + stats.blocks_skipped) * 20);
    scan_.reset();
  }

  [[nodiscard]] std::span<const Column> table_columns() const override { return process_columns(); }

  Runtime& runtime_;
  store::ColumnSet used_;
  std::vector<Buffered> rows_;
  std::size_t position_ = 0;
  bool at_row_ = false, looked_up_ = false;
  std::unique_ptr<store::EventScan> scan_;
};

class ProcessesTable : public VirtualTable {
 public:
  using VirtualTable::VirtualTable;
  [[nodiscard]] std::string name() const override { return "processes"; }
  [[nodiscard]] std::string columns() const override { return declare_event_columns(true); }
  int plan(sqlite3_index_info& info) override { return plan_scan(info, process_columns(), Orders::none); }
  std::unique_ptr<Cursor> open() override { return std::make_unique<ProcessesCursor>(runtime()); }
};

}  // namespace

std::unique_ptr<VirtualTable> make_processes_table(Runtime& runtime) {
  return std::make_unique<ProcessesTable>(runtime);
}

}  // namespace daemoneye::sql
