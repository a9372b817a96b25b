#include "store/tail_batch.h"

#include <algorithm>

#include "event/event_codec.h"

namespace daemoneye::store {
namespace {

using event::Column;

// Those that a view shows without making anything, and that conditions mostly are of.
bool is_at_hand(Column column) {
  switch (column) {
    case Column::kind:
    case Column::pid:
    case Column::ppid:
    case Column::name:
    case Column::comm:
    case Column::executable_path:
    case Column::parent_name: return true;
    default: return false;
  }
}

// As event::column_value(); the string of `out` is used again.
void show(const event::EventView& event, Column column, event::Value& out) {
  const auto text = [&](std::string_view value) {
    if (auto* const held = std::get_if<std::string>(&out))
      held->assign(value);
    else
      out = std::string(value);
  };
  const auto text_or_null = [&](const std::optional<std::string_view>& value) {
    if (value)
      text(*value);
    else
      out = event::Value();
  };
  if (column == Column::kind) return text(to_string(event.kind));
  if (event.kind == event::EventKind::gap) {
    out = event::Value();
    return;
  }
  const auto& process = event.process;
  switch (column) {
    case Column::pid: out = std::int64_t{process.key.pid}; return;
    case Column::ppid: out = process.ppid ? event::Value(std::int64_t{*process.ppid}) : event::Value(); return;
    case Column::name: return text_or_null(process.name.empty() ? std::nullopt : std::optional(process.name));
    case Column::comm: return text_or_null(process.comm);
    case Column::executable_path: return text_or_null(process.executable_path);
    default: return text_or_null(event.parent_name);
  }
}

}  // namespace

Result<std::shared_ptr<TailBatch>> TailBatch::open(std::string bytes) {
  std::shared_ptr<TailBatch> opened(new TailBatch(std::move(bytes)));
  DE_CHECK(event::decode_batch(opened->bytes_, opened->batch_));
  return opened;
}

Result<event::ProcessEvent> TailBatch::event(std::size_t row) const {
  event::ProcessEvent event;
  base::ByteReader in(batch_.events[row].bytes);
  DE_CHECK(event::decode_event(in, event));
  return event;
}

Result<const std::vector<event::ProcessEvent>*> TailBatch::events() {
  if (!events_) {
    std::vector<event::ProcessEvent> made;
    made.reserve(size());
    for (std::size_t row = 0; row < size(); ++row) {
      DE_TRY(auto one, event(row));
      made.push_back(std::move(one));
    }
    events_ = std::move(made);
  }
  return &*events_;
}

Result<void> TailBatch::select(const ScanConditions& conditions, const event::TimeRange& time,
                               event::EventId first_event, std::uint32_t first, std::uint32_t last,
                               std::vector<std::uint32_t>& rows) {
  rows.clear();
  const auto& predicate = conditions.predicate();
  const auto& list = predicate.conditions();
  const bool all_at_hand = std::ranges::all_of(list, [](const auto& one) { return is_at_hand(one.column); });
  event::Value value;
  for (std::uint32_t row = first; row <= last && row < size(); ++row) {
    const auto& view = batch_.events[row];
    if (!time.overlaps(view.time, view.time)) continue;
    if (!conditions.may_match(view.process.key, view.process.parent_key)) continue;
    bool wanted = true;
    for (std::size_t i = 0; wanted && i < list.size(); ++i) {
      if (!is_at_hand(list[i].column)) continue;
      show(view, list[i].column, value);
      wanted = predicate.matches_value(i, value);
    }
    if (wanted && !all_at_hand) {
      DE_TRY(const auto whole, event(row));
      wanted = predicate.matches(whole, first_event + row);
    }
    if (wanted) rows.push_back(row);
  }
  return {};
}

}  // namespace daemoneye::store
