#include "store/block.h"

#include <algorithm>

#include "store/column_kinds.h"

namespace daemoneye::store {
namespace {

using event::Column;

constexpr std::size_t at(Column column) { return static_cast<std::size_t>(column); }

}  // namespace

Block::Block(Load load, Fetch fetch, BlockHeader header)
    : load_(std::move(load)), fetch_(std::move(fetch)), header_(std::move(header)) {
  if (header_.gap_rows.empty()) return;
  gap_.resize(header_.rows);
  for (const std::uint32_t row : header_.gap_rows) gap_[row] = true;
}

Result<std::unique_ptr<Block>> Block::open(Load load, std::uint32_t rows, Fetch fetch) {
  DE_TRY(const std::string body, load(header_chunk));
  DE_TRY(auto header, decode_header(body));
  if (header.rows != rows) return fail(Errc::corrupt, "block header: another number of events than the catalog has");
  return std::unique_ptr<Block>(new Block(std::move(load), std::move(fetch), std::move(header)));
}

Result<const ColumnData*> Block::opened(Column column, const ColumnData* times) {
  auto& slot = columns_[at(column)];
  if (slot) return slot.get();
  auto& later = later_[at(column)];
  DE_TRY(auto body, later ? later() : load_(static_cast<std::uint8_t>(column)));
  later = {};
  DE_TRY(slot, decode_column(column, std::move(body), header_.rows, times, Codes::left));
  return slot.get();
}

Result<const ColumnData*> Block::stored(Column column) {
  if (const auto& slot = columns_[at(column)]; slot && slot->is_whole()) return slot.get();
  const ColumnData* times = nullptr;
  if (encoding_of(column) == Encoding::time_based) {
    DE_TRY(times, stored(Column::time));
  }
  DE_CHECK(opened(column, times));
  auto& data = *columns_[at(column)];
  DE_CHECK(read_left_codes(column, data, header_.rows));
  return &data;
}

Result<void> Block::need(Column column) {
  if (column == Column::event_id) return {};
  DE_CHECK(stored(home_of(column)));
  return {};
}

Result<void> Block::need_later(Column column) {
  if (column == Column::event_id || is_decoded(column)) return {};
  if (!fetch_) return need(column);
  const Column home = home_of(column);
  if (encoding_of(home) == Encoding::time_based) DE_CHECK(need_later(Column::time));
  auto& later = later_[at(home)];
  if (later || columns_[at(home)]) return {};
  DE_TRY(later, fetch_(static_cast<std::uint8_t>(home)));
  return {};
}

bool Block::is_decoded(Column column) const {
  const auto& slot = columns_[at(home_of(column))];
  return slot && slot->is_whole();
}

bool Block::has_entries(Column column) {
  const auto encoding = encoding_of(home_of(column));
  return encoding == Encoding::text || encoding == Encoding::key;
}

Result<void> Block::entries_of(Column column, std::span<const std::uint32_t> rows, std::vector<std::uint32_t>& out) {
  DE_TRY(const auto* data, opened(home_of(column), nullptr));
  if (!data->is_whole()) {
    find_entries(*data, rows, out);
    return {};
  }
  out.clear();
  for (const std::uint32_t row : rows) out.push_back(data->rows[row]);
  return {};
}

const ColumnData& Block::data(Column column) const { return *columns_[at(home_of(column))]; }

std::string_view Block::stored_text(Column column, std::uint32_t entry) {
  const auto& column_data = data(column);
  const bool derived =
      column == Column::command_line || column == Column::arguments || encoding_of(column) == Encoding::key;
  if (!derived) return column_data.entries[entry];
  auto& texts = texts_[at(column)];
  if (texts.views.empty()) {
    const std::size_t count = std::max(column_data.entries.size(), column_data.keys.size());
    texts.views.resize(count);
    texts.made.resize(count);
  }
  if (!texts.made[entry]) {
    std::string made;
    if (encoding_of(column) == Encoding::key) {
      made = to_string(column_data.keys[entry]);
    } else if (column == Column::arguments) {
      made = event::Arguments::from_nul_separated(column_data.entries[entry]).json();
    } else {
      // As Arguments::command_line(), without the copies in between: this is what searches in text spend their time on.
      const auto bytes = column_data.entries[entry];
      made = bytes.substr(0, bytes.ends_with('\0') ? bytes.size() - 1 : bytes.size());
      std::replace(made.begin(), made.end(), '\0', ' ');
    }
    texts.views[entry] = texts.storage.emplace_back(std::move(made));
    texts.made[entry] = true;
  }
  return texts.views[entry];
}

std::optional<Block::Searchable> Block::searchable(Column column) const {
  if (column == Column::arguments || encoding_of(home_of(column)) != Encoding::text) return std::nullopt;
  return Searchable{data(column).body, data(column).entries, column == Column::command_line};
}

ValueView Block::value(std::size_t row, Column column, event::EventId first_event) {
  if (column == Column::event_id) return first_event + static_cast<event::EventId>(row);
  if (is_gap(row) && is_process_column(column)) return {};
  const auto& column_data = data(column);
  if (column == Column::pid) return value_of(row, column, column_data.rows[row]);
  switch (encoding_of(column)) {
    case Encoding::integer:
    case Encoding::time_based: return column_data.is_present(row) ? ValueView(column_data.integers[row]) : ValueView();
    case Encoding::enumerator:
      return column_data.rows[row] == null_entry ? ValueView()
                                                 : ValueView(enumerator_name(column, column_data.rows[row]));
    case Encoding::real: return column_data.is_present(row) ? ValueView(column_data.reals[row]) : ValueView();
    default: return value_of(row, column, column_data.rows[row]);
  }
}

ValueView Block::value_of(std::size_t row, Column column, std::uint32_t entry) {
  if (entry == null_entry || (is_gap(row) && is_process_column(column))) return {};
  if (column == Column::pid) return std::int64_t{data(column).keys[entry].pid};
  const auto view = stored_text(column, entry);
  if (view.empty() && is_null_if_empty(column)) return {};
  return view;
}

std::size_t Block::bytes() const {
  std::size_t sum = 0;
  for (const auto& column : columns_) sum += column ? column->bytes() : 0;
  for (const auto& texts : texts_) {
    for (const auto& text : texts.storage) sum += sizeof text + text.capacity();
  }
  for (const auto& shown : shown_) {
    if (!shown) continue;
    sum += shown->integers.capacity() * sizeof(std::int64_t) + shown->present.capacity() +
           shown->entries.capacity() * sizeof(std::uint32_t);
  }
  return sum;
}

Result<std::vector<std::uint32_t>> Block::rows_of(const event::ProcessKey& key) {
  DE_TRY(const auto* column, stored(Column::process_key));
  std::vector<std::uint32_t> found;
  const auto entry = std::find(column->keys.begin(), column->keys.end(), key);
  if (entry == column->keys.end()) return found;
  const auto number = static_cast<std::uint32_t>(entry - column->keys.begin());
  for (std::uint32_t row = 0; row < header_.rows; ++row) {
    if (column->rows[row] == number && !is_gap(row)) found.push_back(row);
  }
  return found;
}

}  // namespace daemoneye::store
