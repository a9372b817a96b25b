// process_events: the store's blocks and tail.
#include <sqlite3.h>

#include "sql/kept_rows.h"
#include "sql/push_down.h"
#include "sql/runtime.h"
#include "sql/virtual_table.h"

namespace daemoneye::sql {
namespace {

class EventsCursor : public KeepingCursor {
 public:
  explicit EventsCursor(Runtime& runtime) : KeepingCursor(runtime) {}
  ~EventsCursor() override { end(runtime().kept_rows(step_number())); }
  EventsCursor(const EventsCursor&) = delete;
  EventsCursor& operator=(const EventsCursor&) = delete;

 protected:
  Result<void> begin(int plan, const char* detail, std::span<sqlite3_value*> values,
                     std::optional<std::size_t> without) override {
    if (runtime().reader() == nullptr) return fail(Errc::unavailable, "there is no store");
    auto wanted = read_filter(detail, values, all_columns(), without);
    store::ScanRequest request;
    request.time = runtime().clamp(wanted.time);
    const bool empty_range = request.time.from && request.time.to && *request.time.from > *request.time.to;
    if (wanted.nothing || empty_range) return {};
    runtime().touch(request.time);
    request.first_event = wanted.first_event;
    request.last_event = wanted.last_event;
    request.conditions = std::move(wanted.conditions);
    request.columns = read_columns(detail, all_columns());
    request.newest_first = (plan & plan_newest_first) != 0;
    runtime().expect_blocks(request.time);
    DE_TRY(scan_, runtime().reader()->scan(request, [this] {
      runtime().pass_block();
      return runtime().should_stop();
    }));
    return {};
  }

  Result<bool> advance() override {
    if (!scan_) return false;
    return scan_->next();
  }

  store::ValueView value(int index) override {
    const auto column = static_cast<event::Column>(index);
    return column == event::Column::event_id ? store::ValueView(scan_->event_id()) : scan_->value(column);
  }

  std::int64_t row_number() override { return scan_->event_id(); }

  void end(KeptRows* kept) override {
    if (!scan_) return;
    const auto& stats = scan_->stats();
    runtime().add(stats, step());
    // To look at a block's filters costs a fraction of reading it.
    constexpr std::uint64_t cost_of_reading = 20;
    const auto read = stats.blocks_read + stats.tail_batches_read;
    if (kept != nullptr) {
      kept->spend(read * cost_of_reading + stats.blocks_skipped, (read + stats.blocks_skipped) * cost_of_reading);
    }
    scan_.reset();
  }

  [[nodiscard]] std::span<const event::Column> table_columns() const override { return all_columns(); }

 private:
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
