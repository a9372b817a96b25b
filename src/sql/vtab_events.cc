// process_events: the store's blocks and tail.
#include <sqlite3.h>

#include "sql/kept_rows.h"
#include "sql/push_down.h"
#include "sql/runtime.h"
#include "sql/virtual_table.h"
#include "store/time_ordered_scan.h"

namespace daemoneye::sql {
namespace {

class EventsCursor : public KeepingCursor {
 public:
  explicit EventsCursor(Runtime& runtime) : KeepingCursor(runtime) {}
  ~EventsCursor() override { end(runtime().kept_rows(step_number())); }
  EventsCursor(const EventsCursor&) = delete;
  EventsCursor& operator=(const EventsCursor&) = delete;

 protected:
  Result<void> begin(int flags, const PushedPlan& plan, std::span<sqlite3_value*> values,
                     const LeftOut& without) override {
    if (runtime().reader() == nullptr) return fail(Errc::unavailable, "there is no store");
    auto wanted = read_filter(plan, values, all_columns(), without);
    store::ScanRequest request;
    request.time = runtime().clamp(wanted.time);
    const bool empty_range = request.time.from && request.time.to && *request.time.from > *request.time.to;
    if (wanted.nothing || empty_range) return {};
    runtime().touch(request.time);
    request.first_event = wanted.first_event;
    request.last_event = wanted.last_event;
    request.conditions = std::move(wanted.conditions);
    request.columns = plan.used(all_columns());
    request.newest_first = (flags & plan_newest_first) != 0;
    note_keys(request.conditions);
    runtime().expect_blocks(request.time);
    const auto stop = [this] {
      runtime().pass_block();
      return runtime().should_stop();
    };
    if ((flags & plan_by_time) != 0) {
      DE_TRY(ordered_, store::TimeOrderedScan::open(*runtime().reader(), std::move(request), stop));
    } else {
      DE_TRY(scan_, runtime().reader()->scan(request, stop));
    }
    return {};
  }

  Result<bool> advance() override {
    if (!ordered_) return scan_ ? scan_->next() : Result<bool>(false);
    return ordered_->next();
  }

  store::ValueView value(int index) override {
    const auto column = static_cast<event::Column>(index);
    return column == event::Column::event_id ? store::ValueView(at().event_id()) : at().value(column);
  }

  std::int64_t row_number() override { return at().event_id(); }

  void end(KeptRows* kept) override {
    if (!scan_ && !ordered_) return;
    const auto stats = stats_so_far();
    runtime().add(stats, step());
    // To look at a block's filters costs a fraction of reading it.
    constexpr std::uint64_t cost_of_reading = 20;
    const auto read = stats.blocks_read + stats.tail_batches_read;
    if (kept != nullptr) {
      kept->spend(read * cost_of_reading + stats.blocks_skipped, (read + stats.blocks_skipped) * cost_of_reading);
    }
    scan_.reset();
    ordered_.reset();
  }

  [[nodiscard]] std::span<const event::Column> table_columns() const override { return all_columns(); }

  // Nearly each event has a text of its own: to unpack those of all rows would cost more than all the rest.
  [[nodiscard]] bool can_be_late(int index) const override {
    switch (static_cast<event::Column>(index)) {
      case event::Column::command_line:
      case event::Column::arguments:
      case event::Column::parent_command_line:
      case event::Column::detail: return true;
      default: return false;
    }
  }
  [[nodiscard]] bool is_at_hand() const override { return at().in_tail(); }
  Result<store::ValueView> late_value(std::int64_t rowid, int index, KeptRows& kept) override {
    store::ScanStats stats;
    DE_TRY(const auto value, runtime().reader()->value_of(rowid, static_cast<event::Column>(index), stats));
    kept.late(stats.blocks_read);
    runtime().add(stats, step());
    return value;
  }
  [[nodiscard]] std::uint64_t cost_of_late_values() const override { return stats_so_far().blocks_read; }

 private:
  // Keys that come from elsewhere in the statement: from the other side of a join.
  void note_keys(const std::vector<predicate::Condition>& conditions) {
    for (const auto& condition : conditions) {
      const bool is_key =
          condition.column == event::Column::process_key || condition.column == event::Column::parent_key;
      if (condition.op != predicate::Operator::in || !is_key || condition.negated) continue;
      step().rewrite = "only " + std::to_string(condition.values.size()) + " values of " +
                       std::string(event::info(condition.column).name);
    }
  }
  // Where the scan stands.
  store::EventScan& at() const { return ordered_ ? ordered_->at() : *scan_; }
  store::ScanStats stats_so_far() const {
    return ordered_ ? ordered_->stats() : scan_ ? scan_->stats() : store::ScanStats();
  }

  std::unique_ptr<store::EventScan> scan_;  // or
  std::unique_ptr<store::TimeOrderedScan> ordered_;
};

class EventsTable : public VirtualTable {
 public:
  using VirtualTable::VirtualTable;
  [[nodiscard]] std::string name() const override { return "process_events"; }
  [[nodiscard]] std::string columns() const override { return declare_event_columns(false); }
  int plan(sqlite3_index_info& info) override {
    return plan_scan(info, all_columns(),
                     runtime().times_are_in_order() ? Orders::by_event_id_or_time : Orders::by_event_id);
  }
  std::unique_ptr<Cursor> open() override { return std::make_unique<EventsCursor>(runtime()); }
};

}  // namespace

std::unique_ptr<VirtualTable> make_events_table(Runtime& runtime) { return std::make_unique<EventsTable>(runtime); }

}  // namespace daemoneye::sql
