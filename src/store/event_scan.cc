// One pass over events: the blocks first and the tail after them, or the other way round.
#include <algorithm>

#include "store/reader_impl.h"
#include "store/tail_columns.h"

namespace daemoneye::store {
namespace {

constexpr const char* select_blocks =
    "SELECT block_id, first_event, events, first_time, last_time FROM blocks WHERE events>0 AND last_event>=?1 AND "
    "first_event<=?2 AND last_time>=?3 AND first_time<=?4 ORDER BY block_id";
constexpr const char* select_tail =
    "SELECT batch_no, first_event, events, first_time, last_time FROM tail WHERE events>0 AND first_event+events>?1 "
    "AND "
    "first_event<=?2 AND last_time>=?3 AND first_time<=?4 ORDER BY batch_no";

void bind_range(db::Statement& select, const ScanRequest& request) {
  select.bind(1, request.first_event.value_or(INT64_MIN)).bind(2, request.last_event.value_or(INT64_MAX));
  select.bind(3, request.time.from.value_or(Timestamp{INT64_MIN}).ns);
  select.bind(4, request.time.to.value_or(Timestamp{INT64_MAX}).ns);
}

bool is_empty(const predicate::Predicate& predicate) { return predicate.conditions().empty(); }

}  // namespace

struct EventScan::Impl {
  enum class Part { blocks, tail, end };

  // From the first block to the last batch: a seal between the two would move events past the scan.
  std::unique_ptr<Snapshot> snapshot;
  Reader::Impl& reader;
  ScanRequest request;
  predicate::Predicate predicate;
  ScanConditions conditions{predicate};
  Reader::ShouldStop stop;
  ScanStats stats;
  Part part;
  std::optional<db::Statement> statement;  // the rows of `part` still to come

  // Where the scan stands: in a block, or in a batch of the tail.
  BlockRow row;
  std::unique_ptr<Block> block;
  std::shared_ptr<TailBatch> batch;         // shared with what the reader keeps
  std::span<const std::uint32_t> selected;  // in the order of delivery; of one of the next two
  std::vector<std::uint32_t> rows_met;
  std::vector<std::uint32_t> every_row;  // 0, 1, 2 …
  std::size_t next_selected = 0;
  std::size_t current_place = 0;  // in `selected`
  std::uint32_t current = 0;
  std::array<std::optional<FewValues>, event::column_count> few_values;  // of the rows selected, when they are few
  std::unique_ptr<TailColumns> tail_columns;                             // of the batch, when asked for
  std::array<IntegerColumn, event::column_count> integers{};             // of the block; none: ask the block
  std::optional<event::ProcessEvent> tail_event;                         // the tail's current one, once asked for
  std::array<std::optional<event::Value>, event::column_count> values;   // of it

  Impl(std::unique_ptr<Snapshot> held, Reader::Impl& owner, ScanRequest asked, predicate::Predicate compiled,
       Reader::ShouldStop should_stop)
      : snapshot(std::move(held)),
        reader(owner),
        request(std::move(asked)),
        predicate(std::move(compiled)),
        stop(std::move(should_stop)),
        part(request.newest_first ? Part::tail : Part::blocks) {}

  // To the next row of the block or batch; false when there is none.
  bool step() {
    if (next_selected >= selected.size()) return false;
    current_place = next_selected;
    current = selected[next_selected++];
    if (part == Part::tail) forget_tail_event();
    ++stats.rows;
    return true;
  }
  void forget_tail_event() {
    if (!tail_event) return;
    tail_event.reset();
    for (auto& value : values) value.reset();
  }
  Result<bool> next();
  Result<bool> open_part();
  Result<void> enter_block();
  Result<void> enter_batch();
  void note_integers(event::Column column);
  void damaged();
  ValueView other_value(event::Column column);
  // Nothing when the whole column is to be decoded.
  std::optional<ValueView> value_of_few(event::Column column);
  Result<TailColumns*> columns_of_batch();
  [[nodiscard]] std::pair<std::uint32_t, std::uint32_t> wanted_rows() const;
  [[nodiscard]] event::TimeRange time_left() const;
};

Result<bool> EventScan::Impl::next() {
  while (true) {
    if (step()) return true;
    selected = {};
    next_selected = 0;
    if (part == Part::end) return false;
    if (stop && stop()) return fail(Errc::cancelled, "the scan was stopped");
    if (!statement) {
      DE_TRY(const bool opened, open_part());
      if (!opened) continue;
    }
    auto stepped = statement->step();
    if (!stepped && stepped.error().code == Errc::corrupt) {
      // A page of the catalogue itself: which events its rows stand for is not known any more.
      stats.damage.push_back({"corrupt_block", {}, {}, {}});
      stepped = false;
    }
    DE_TRY(const bool found, std::move(stepped));
    if (!found) {
      statement.reset();
      const Part last = request.newest_first ? Part::blocks : Part::tail;
      part = part == last ? Part::end : last;
      continue;
    }
    row = read_block_row(*statement);
    const auto entered = part == Part::blocks ? enter_block() : enter_batch();
    if (!entered) {
      if (entered.error().code != Errc::corrupt) return std::unexpected(entered.error());
      damaged();
    }
    if (request.newest_first && !selected.empty()) {
      if (selected.data() != rows_met.data()) rows_met.assign(selected.begin(), selected.end());
      std::reverse(rows_met.begin(), rows_met.end());
      selected = rows_met;
    }
  }
}

Result<bool> EventScan::Impl::open_part() {
  std::string sql = part == Part::blocks ? select_blocks : select_tail;
  if (request.newest_first) sql += " DESC";
  DE_TRY(statement, reader.database->prepare(sql));
  bind_range(*statement, request);
  return true;
}

std::pair<std::uint32_t, std::uint32_t> EventScan::Impl::wanted_rows() const {
  const auto first = std::max(request.first_event.value_or(row.first_event), row.first_event);
  const auto end = row.first_event + static_cast<event::EventId>(row.events) - 1;
  const auto last = std::min(request.last_event.value_or(end), end);
  return {static_cast<std::uint32_t>(first - row.first_event), static_cast<std::uint32_t>(last - row.first_event)};
}

// No bound when the whole block lies within it: then its times need not be decoded.
event::TimeRange EventScan::Impl::time_left() const {
  const auto& time = request.time;
  const bool inside = row.first_time && row.last_time && (!time.from || *time.from <= *row.first_time) &&
                      (!time.to || *row.last_time <= *time.to);
  return inside ? event::TimeRange{} : time;
}

Result<void> EventScan::Impl::enter_block() {
  block.reset();
  integers.fill({});
  for (auto& one : few_values) one.reset();
  if (!reader.filters.may_match(row.id, row.first_event, conditions)) {
    ++stats.blocks_skipped;
    return {};
  }
  if (auto known = reader.filters.header(row.id, row.first_event, conditions)) {
    block = reader.open_block(row.id, *std::move(known));
  } else {
    DE_TRY(block, reader.open_block(row));
    reader.filters.keep(row.id, row.first_event, block->header(), conditions);
  }
  if (!conditions.may_match(block->header())) {
    ++stats.blocks_skipped;
    return {};
  }
  ++stats.blocks_read;
  const auto [first, last] = wanted_rows();
  const auto time = time_left();
  std::span<const std::uint32_t> found;
  if (is_empty(predicate) && !time.from && !time.to) {
    for (auto next = static_cast<std::uint32_t>(every_row.size()); next < row.events; ++next) every_row.push_back(next);
    if (first <= last) found = std::span(every_row).subspan(first, last - first + 1);
  } else {
    DE_CHECK(block->select(conditions, time, row.first_event, first, last, rows_met));
    found = rows_met;
  }
  if (found.empty()) return {};
  for (std::size_t i = 0; i < event::column_count; ++i) {
    if (!request.columns[i]) continue;
    // What the rows that are wanted need is not known yet: of a join or a subquery that drops most of them, little.
    const auto column = static_cast<event::Column>(i);
    DE_CHECK(block->need_later(column));
    if (block->is_decoded(column)) note_integers(column);
  }
  selected = found;
  return {};
}

// Where value() looks first.
void EventScan::Impl::note_integers(event::Column column) {
  if (!has_number(encoding_of(column))) return;
  integers[static_cast<std::size_t>(column)] = block->integers(column, row.first_event);
}

Result<void> EventScan::Impl::enter_batch() {
  tail_columns.reset();
  integers.fill({});
  rows_met.clear();
  DE_TRY(batch, reader.tail_batch(row.id, predicate));
  if (!batch) return {};
  ++stats.tail_batches_read;
  if (batch->size() != row.events) return fail(Errc::corrupt, "tail: the row disagrees with the batch");
  const auto [first, last] = wanted_rows();
  DE_CHECK(batch->select(conditions, time_left(), row.first_event, first, last, rows_met));
  selected = rows_met;
  return {};
}

void EventScan::Impl::damaged() {
  integers.fill({});
  selected = {};
  next_selected = 0;
  stats.damage.push_back(damage_of(row));
}

event::Value to_value(const ValueView& view) {
  return std::visit(
      [](const auto& held) -> event::Value {
        if constexpr (std::is_same_v<std::decay_t<decltype(held)>, std::string_view>)
          return std::string(held);
        else
          return held;
      },
      view);
}

EventScan::EventScan(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
EventScan::~EventScan() = default;
Result<bool> EventScan::next() {
  // Most rows lie where the scan stands, and for those the way through the blocks is long.
  if (impl_->step()) return true;
  return impl_->next();
}
event::EventId EventScan::event_id() const { return impl_->row.first_event + impl_->current; }
const ScanStats& EventScan::stats() const { return impl_->stats; }

ValueView EventScan::value(event::Column column) const {
  const auto& integers = impl_->integers[static_cast<std::size_t>(column)];
  if (integers.values == nullptr) return impl_->other_value(column);
  const ValueView value = integers.values[impl_->current];
  if (integers.present == nullptr) return value;
  // Chosen without a branch: which rows have a value is no pattern that could be guessed.
  const std::array<ValueView, 2> choices{ValueView(), value};
  return choices[integers.present[impl_->current]];
}

ValueView EventScan::Impl::other_value(event::Column column) {
  if (part == Part::blocks) {
    if (column != event::Column::event_id && !block->is_decoded(column)) {
      if (const auto few = value_of_few(column)) return *few;
      if (!block->need(column)) {
        damaged();
        return {};
      }
      note_integers(column);
    }
    return block->value(current, column, row.first_event);
  }
  if (!tail_event) {
    auto event = batch->event(current);
    if (!event) {
      damaged();
      return {};
    }
    tail_event = *std::move(event);
  }
  auto& value = values[static_cast<std::size_t>(column)];
  const auto id = row.first_event + static_cast<event::EventId>(current);
  if (!value) value = event::column_value(*tail_event, id, column);
  return std::visit([](const auto& held) -> ValueView { return held; }, *value);
}

std::optional<ValueView> EventScan::Impl::value_of_few(event::Column column) {
  constexpr std::size_t few = 16;  // one row of so many
  if (selected.size() * few > row.events || !Block::has_entries(column)) return std::nullopt;
  auto& known = few_values[static_cast<std::size_t>(column)];
  if (!known) {
    std::vector<std::uint32_t> ascending(selected.begin(), selected.end());
    if (request.newest_first) std::ranges::reverse(ascending);
    FewValues found;
    if (!block->few_of(column, ascending, found)) return std::nullopt;  // need() says what is wrong
    known = std::move(found);
  }
  return block->value_of(column, *known, request.newest_first ? selected.size() - 1 - current_place : current_place);
}

Result<event::ProcessEvent> EventScan::take_event() {
  if (impl_->part == Impl::Part::blocks) return impl_->block->event(impl_->current);
  if (!impl_->tail_event) return impl_->batch->event(impl_->current);
  auto event = *std::move(impl_->tail_event);
  impl_->forget_tail_event();
  return event;
}

Result<std::uint64_t> Reader::blocks_in(const event::TimeRange& range) {
  DE_TRY(auto* select, impl_->statements->get(
                           "SELECT (SELECT count(*) FROM blocks WHERE events>0 AND last_time>=?1 AND first_time<=?2) + "
                           "(SELECT count(*) FROM tail WHERE events>0 AND last_time>=?1 AND first_time<=?2)"));
  const db::StatementReset reset(*select);
  select->bind(1, range.from.value_or(Timestamp{INT64_MIN}).ns).bind(2, range.to.value_or(Timestamp{INT64_MAX}).ns);
  DE_TRY(const bool row, select->step());
  return row ? static_cast<std::uint64_t>(select->integer(0)) : 0;
}

Result<std::vector<Reader::Place>> Reader::places(const ScanRequest& request) {
  DE_TRY(const auto snapshot, Snapshot::open(*this));
  std::vector<Place> places;
  for (const auto* const sql : {select_blocks, select_tail}) {
    DE_TRY(auto* select, impl_->statements->get(sql));
    const db::StatementReset reset(*select);
    bind_range(*select, request);
    while (true) {
      DE_TRY(const bool found, select->step());
      if (!found) break;
      const auto row = read_block_row(*select);
      places.push_back({row.first_event, row.first_event + static_cast<event::EventId>(row.events) - 1,
                        row.first_time.value_or(Timestamp{INT64_MIN}), row.last_time.value_or(Timestamp{INT64_MAX})});
    }
  }
  return places;
}

Result<std::size_t> Reader::overlapping_places() {
  DE_TRY(const auto all, places({}));
  // Each begins at a time and ends at one: as many lie over a moment as have begun and not ended.
  std::vector<std::pair<std::int64_t, int>> changes;
  for (const auto& place : all) {
    changes.emplace_back(place.first_time.ns, -1);  // before the ends at the same moment
    changes.emplace_back(place.last_time.ns, 1);
  }
  std::ranges::sort(changes);
  std::size_t now = 0, most = 0;
  for (const auto& [time, end] : changes) {
    now = end > 0 ? now - 1 : now + 1;
    most = std::max(most, now);
  }
  return most;
}

Result<ValueView> Reader::value_of(event::EventId id, event::Column column, ScanStats& stats) {
  DE_TRY(const auto snapshot, Snapshot::open(*this));
  DE_TRY(const auto* rows, impl_->all_blocks());
  const auto row =
      std::partition_point(rows->begin(), rows->end(), [&](const auto& one) { return one.first_event > id; });
  if (row == rows->end() || id - row->first_event >= static_cast<event::EventId>(row->events)) return ValueView();
  const auto opened = impl_->blocks_opened;
  const auto look = [&]() -> Result<ValueView> {
    DE_TRY(auto* block, impl_->cached_block(*row));
    DE_CHECK(block->need(column));
    return block->value(static_cast<std::size_t>(id - row->first_event), column, row->first_event);
  };
  auto found = look();
  stats.blocks_read += impl_->blocks_opened - opened;
  if (found || found.error().code != Errc::corrupt) return found;
  stats.damage.push_back(damage_of(*row));
  return ValueView();
}

Result<bool> EventScan::next_block() {
  impl_->next_selected = impl_->selected.size();
  DE_TRY(const bool found, impl_->next());
  if (!found) return false;
  impl_->stats.rows += impl_->selected.size() - impl_->next_selected;
  impl_->next_selected = impl_->selected.size();
  return true;
}

Result<TailColumns*> EventScan::Impl::columns_of_batch() {
  if (!tail_columns) {
    DE_TRY(const auto* events, batch->events());
    tail_columns = std::make_unique<TailColumns>(*events, row.first_event);
  }
  return tail_columns.get();
}

std::span<const std::uint32_t> EventScan::rows() const { return impl_->selected; }
void EventScan::go_to(std::size_t place) {
  impl_->current_place = place;
  impl_->current = impl_->selected[place];
  impl_->forget_tail_event();
}
bool EventScan::has_all_rows() const { return impl_->selected.size() == impl_->row.events; }
bool EventScan::in_tail() const { return impl_->part == Impl::Part::tail; }
event::EventId EventScan::first_event() const { return impl_->row.first_event; }

Result<IntegerColumn> EventScan::integers(event::Column column) {
  if (impl_->part == Impl::Part::tail) {
    DE_TRY(auto* const columns, impl_->columns_of_batch());
    return columns->integers(column);
  }
  DE_CHECK(impl_->block->need(column));
  return impl_->block->integers(column, impl_->row.first_event);
}
Result<RealColumn> EventScan::reals(event::Column column) {
  if (impl_->part == Impl::Part::tail) {
    DE_TRY(auto* const columns, impl_->columns_of_batch());
    return columns->reals(column);
  }
  DE_CHECK(impl_->block->need(column));
  return impl_->block->reals(column);
}
Result<TextColumn> EventScan::texts(event::Column column) {
  if (impl_->part == Impl::Part::tail) {
    DE_TRY(auto* const columns, impl_->columns_of_batch());
    return columns->texts(column);
  }
  DE_CHECK(impl_->block->need(column));
  return impl_->block->texts(column);
}
std::string_view EventScan::text(event::Column column, std::uint32_t entry) {
  if (impl_->part == Impl::Part::tail) return impl_->tail_columns->text(column, entry);
  return impl_->block->text(column, entry);
}

std::optional<IntegerBounds> EventScan::range(event::Column column) const {
  if (impl_->part == Impl::Part::tail) return std::nullopt;
  const auto& header = impl_->block->header();
  const auto& range = header.ranges[static_cast<std::size_t>(column)];
  // The ranges of blocks with gaps hold values that SQL does not show.
  if (!range.any || !header.gap_rows.empty()) return std::nullopt;
  return IntegerBounds{range.min, range.max};
}

void EventScan::leave_damaged_block() {
  impl_->stats.rows -= std::min<std::uint64_t>(impl_->stats.rows, impl_->selected.size());
  impl_->damaged();
}

Result<std::unique_ptr<EventScan>> Reader::scan(const ScanRequest& request, ShouldStop stop) {
  DE_TRY(auto compiled, predicate::Predicate::compile(request.conditions));
  DE_TRY(auto snapshot, Snapshot::open(*this));
  return std::unique_ptr<EventScan>(new EventScan(
      std::make_unique<EventScan::Impl>(std::move(snapshot), *impl_, request, std::move(compiled), std::move(stop))));
}

}  // namespace daemoneye::store
