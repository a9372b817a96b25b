// _driving_events and _driving_processes: the rows a stream rule is shown.
#include <sqlite3.h>

#include "sql/catalog.h"
#include "sql/push_down.h"
#include "sql/runtime.h"
#include "sql/virtual_table.h"

namespace daemoneye::sql {
namespace {

class DrivingCursor : public Cursor {
 public:
  DrivingCursor(Runtime& runtime, bool events) : runtime_(runtime), events_(events) {}

  Result<void> filter(int, const char*, std::span<sqlite3_value*>) override {
    next_ = 0;
    for (const auto& row : runtime_.driving) runtime_.touch({row.event->time, row.event->time});
    return {};
  }

  Result<bool> next() override {
    // What concerns no process is no row of `processes`.
    while (!events_ && next_ < runtime_.driving.size() && runtime_.driving[next_].event->kind == event::EventKind::gap)
      ++next_;
    if (next_ >= runtime_.driving.size()) return false;
    ++next_;
    return true;
  }

  void column(sqlite3_context* out, int index) override {
    const auto& row = runtime_.driving[next_ - 1];
    const auto list = events_ ? all_columns() : process_columns();
    const auto place = static_cast<std::size_t>(index);
    if (place >= list.size()) return sqlite3_result_int64(out, row.event_id);
    const bool ended = !events_ && row.event->kind == event::EventKind::exit;
    if (ended && list[place] == event::Column::status) return give(out, store::ValueView("exited"));
    const auto value = event::column_value(*row.event, row.event_id, list[place]);
    if (ended && list[place] == event::Column::exit_time && std::holds_alternative<std::monostate>(value)) {
      return sqlite3_result_int64(out, row.event->time.ns);
    }
    give(out, value);
  }

  std::int64_t rowid() override { return runtime_.driving[next_ - 1].event_id; }

 private:
  Runtime& runtime_;
  bool events_;
  std::size_t next_ = 0;
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
    constexpr double batch_rows = 100;
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
