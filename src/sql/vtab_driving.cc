// _driving_events and _driving_processes: the rows a stream rule is shown.
#include <sqlite3.h>

#include <optional>

#include "sql/catalog.h"
#include "sql/push_down.h"
#include "sql/runtime.h"
#include "sql/virtual_table.h"

namespace daemoneye::sql {
namespace {

std::span<const event::Column> columns_of(bool events) { return events ? all_columns() : process_columns(); }

class DrivingCursor : public Cursor {
 public:
  DrivingCursor(Runtime& runtime, bool events) : runtime_(runtime), events_(events) {}

  Result<void> filter(int, const char* detail, std::span<sqlite3_value*> values) override {
    next_ = 0;
    only_ = runtime_.only_rows();
    end_ = only_ == nullptr ? runtime_.driving().size() : only_->size();
    // What could be missing is missing for all of them, whichever rows are looked at.
    if (!runtime_.driving().empty()) runtime_.touch(runtime_.driving_time());
    auto wanted = read_filter(PushedPlan(detail), values, columns_of(events_));
    if (wanted.nothing) end_ = 0;
    DE_TRY(conditions_, predicate::Predicate::compile(std::move(wanted.conditions)));
    return {};
  }

  Result<bool> next() override {
    while (next_ < end_) {
      row_ = only_ == nullptr ? next_ : (*only_)[next_];
      ++next_;
      if (wanted(row_)) return true;
    }
    return false;
  }

  void column(sqlite3_context* out, int index) override {
    const auto list = columns_of(events_);
    const auto place = static_cast<std::size_t>(index);
    if (place >= list.size()) return sqlite3_result_int64(out, rowid());
    const auto& value = runtime_.driving_value(row_, list[place], !events_);
    const auto* const text = std::get_if<std::string>(&value);
    // The text stays where it is while the statement runs. Without a length SQLite need not copy it to end it by a NUL.
    if (text != nullptr && text->find('\0') == std::string::npos)
      sqlite3_result_text(out, text->c_str(), -1, SQLITE_STATIC);
    else
      give(out, value);
  }

  std::int64_t rowid() override { return runtime_.driving()[row_].event_id; }

 private:
  bool wanted(std::size_t row) {
    // What concerns no process is no row of `processes`.
    if (!events_ && runtime_.driving()[row].event->kind == event::EventKind::gap) return false;
    const auto& conditions = conditions_->conditions();
    for (std::size_t i = 0; i < conditions.size(); ++i) {
      if (!conditions_->matches_value(i, runtime_.driving_value(row, conditions[i].column, !events_))) return false;
    }
    return true;
  }

  Runtime& runtime_;
  bool events_;
  const std::vector<std::uint32_t>* only_ = nullptr;  // null: all
  std::size_t next_ = 0, end_ = 0, row_ = 0;
  std::optional<predicate::Predicate> conditions_;  // set by filter(); SQLite checks them again
};

class DrivingTable : public VirtualTable {
 public:
  DrivingTable(Runtime& runtime, bool events) : VirtualTable(runtime), events_(events) {}
  [[nodiscard]] std::string name() const override {
    return std::string(events_ ? driving_events_table : driving_processes_table);
  }
  [[nodiscard]] std::string columns() const override {
    return declare_event_columns(!events_) + ", \"" + std::string(driving_id_column) + "\" INTEGER";
  }
  int plan(sqlite3_index_info& info) override {
    const int outcome = plan_scan(info, columns_of(events_), Orders::none, Regexps::left);
    if (outcome != SQLITE_OK) return outcome;
    constexpr double batch_rows = 100;  // whatever the conditions: this table is to be the outermost
    info.estimatedRows = static_cast<sqlite3_int64>(batch_rows);
    info.estimatedCost = batch_rows;
    return SQLITE_OK;
  }
  std::unique_ptr<Cursor> open() override { return std::make_unique<DrivingCursor>(runtime(), events_); }

 private:
  bool events_;
};

}  // namespace

std::unique_ptr<VirtualTable> make_driving_table(Runtime& runtime, bool events) {
  return std::make_unique<DrivingTable>(runtime, events);
}

}  // namespace daemoneye::sql
