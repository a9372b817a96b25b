// process_events: the store's blocks and tail.
#include <sqlite3.h>

#include "sql/push_down.h"
#include "sql/runtime.h"
#include "sql/virtual_table.h"

namespace daemoneye::sql {
namespace {

class EventsCursor : public Cursor {
 public:
  explicit EventsCursor(Runtime& runtime) : runtime_(runtime) {}
  ~EventsCursor() override { finish(); }
  EventsCursor(const EventsCursor&) = delete;
  EventsCursor& operator=(const EventsCursor&) = delete;

  Result<void> filter(int plan, const char* detail, std::span<sqlite3_value*> values) override {
    finish();
    if (runtime_.reader() == nullptr) return fail(Errc::unavailable, "there is no store");
    auto wanted = read_filter(detail, values, all_columns());
    store::ScanRequest request;
    request.time = runtime_.clamp(wanted.time);
    const bool empty_range = request.time.from && request.time.to && *request.time.from > *request.time.to;
    if (wanted.nothing || empty_range) return {};
    runtime_.touch(request.time);
    request.first_event = wanted.first_event;
    request.last_event = wanted.last_event;
    request.conditions = std::move(wanted.conditions);
    request.columns = read_columns(detail, all_columns());
    request.newest_first = (plan & plan_newest_first) != 0;
    runtime_.expect_blocks(request.time);
    DE_TRY(scan_, runtime_.reader()->scan(request, [this] {
      runtime_.pass_block();
      return runtime_.should_stop();
    }));
    return {};
  }

  Result<bool> next() override {
    if (!scan_) return false;
    return scan_->next();
  }

  void column(sqlite3_context* out, int index) override {
    const auto column = static_cast<event::Column>(index);
    if (column == event::Column::event_id)
      sqlite3_result_int64(out, scan_->event_id());
    else
      give(out, scan_->value(column));
  }

  std::int64_t rowid() override { return scan_->event_id(); }

 private:
  void finish() {
    if (scan_) runtime_.add(scan_->stats(), step());
    scan_.reset();
  }

  Runtime& runtime_;
  std::unique_ptr<store::EventScan> scan_;
};

class EventsTable : public VirtualTable {
 public:
  using VirtualTable::VirtualTable;
  [[nodiscard]] std::string name() const override { return "process_events"; }
  [[nodiscard]] std::string columns() const override { return declare_event_columns(false); }
  int plan(sqlite3_index_info& info) override { return plan_scan(info, all_columns(), true); }
  std::unique_ptr<Cursor> open() override { return std::make_unique<EventsCursor>(runtime()); }
};

}  // namespace

std::unique_ptr<VirtualTable> make_events_table(Runtime& runtime) { return std::make_unique<EventsTable>(runtime); }

}  // namespace daemoneye::sql
