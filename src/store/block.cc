#include "store/block.h"

#include <algorithm>

#include "store/column_codes.h"
#include "store/column_kinds.h"

namespace daemoneye::store {
namespace {

using event::Column;

constexpr std::size_t at(Column column) { return static_cast<std::size_t>(column); }

// Whether the text is made of what is stored.
bool is_derived(Column column) {
  return column == Column::command_line || column == Column::arguments || encoding_of(column) == Encoding::key;
}

// Of an entry of `arguments`.
std::string make_text(Column column, std::string_view entry) {
  if (column == Column::arguments) return event::Arguments::from_nul_separated(entry).json();
  // As Arguments::command_line(), without the copies in between: this is what searches in text spend their time on.
  std::string made(entry.substr(0, entry.ends_with('\0') ? entry.size() - 1 : entry.size()));
  std::replace(made.begin(), made.end(), '\0', ' ');
  return made;
}

ValueView as_shown(Column column, std::string_view text) {
  return text.empty() && is_null_if_empty(column) ? ValueView() : ValueView(text);
}

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
  return open(std::move(load), std::move(header), std::move(fetch));
}

std::unique_ptr<Block> Block::open(Load load, BlockHeader header, Fetch fetch) {
  return std::unique_ptr<Block>(new Block(std::move(load), std::move(fetch), std::move(header)));
}

Result<const ColumnData*> Block::opened(Column column, Codes codes) {
  auto& slot = columns_[at(column)];
  if (slot) return slot.get();
  const ColumnData* times = nullptr;
  if (encoding_of(column) == Encoding::time_based) {
    DE_TRY(times, stored(Column::time));
  }
  auto& later = later_[at(column)];
  DE_TRY(auto body, later ? later() : load_(static_cast<std::uint8_t>(column)));
  later = {};
  DE_TRY(slot, decode_column(column, std::move(body), header_.rows, times, codes));
  return slot.get();
}

Result<const ColumnData*> Block::stored(Column column) {
  if (const auto& slot = columns_[at(column)]) {
    if (!slot->is_whole()) DE_CHECK(read_left_codes(column, *slot, header_.rows));
    return slot.get();
  }
  return opened(column, Codes::read);
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

Result<void> Block::few_of(Column column, std::span<const std::uint32_t> rows, FewValues& few) {
  const Column home = home_of(column);
  DE_TRY(const auto* data, opened(home, Codes::left));
  few.rows.assign(rows.begin(), rows.end());
  few.keys.clear();
  few.texts.assign(rows.size(), std::nullopt);
  const bool has_keys = encoding_of(home) == Encoding::key;
  if (!data->is_whole()) {
    find_entries(*data, rows, few.entries);
    if (has_keys && !read_keys_of(*data, few.entries, few.keys))
      return fail(Errc::corrupt, "column " + std::string(event::info(home).name) + ": malformed keys");
    return {};
  }
  few.entries.clear();
  few.keys.resize(has_keys ? rows.size() : 0);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto entry = data->rows[rows[i]];
    few.entries.push_back(entry);
    if (has_keys && entry != null_entry) few.keys[i] = data->keys[entry];
  }
  return {};
}

ValueView Block::value_of(Column column, FewValues& few, std::size_t place) {
  const auto entry = few.entries[place];
  if (entry == null_entry || (is_gap(few.rows[place]) && is_process_column(column))) return {};
  if (column == Column::pid) return std::int64_t{few.keys[place].pid};
  if (!is_derived(column)) return as_shown(column, data(column).entries[entry]);
  auto& text = few.texts[place];
  if (!text) text = few.keys.empty() ? make_text(column, data(column).entries[entry]) : to_string(few.keys[place]);
  return as_shown(column, *text);
}

const ColumnData& Block::data(Column column) const { return *columns_[at(home_of(column))]; }

std::string_view Block::stored_text(Column column, std::uint32_t entry) {
  const auto& column_data = data(column);
  if (!is_derived(column)) return column_data.entries[entry];
  auto& texts = texts_[at(column)];
  if (texts.views.empty()) {
    texts.views.resize(column_data.count());
    texts.made.resize(column_data.count());
  }
  if (!texts.made[entry]) {
    texts.views[entry] = texts.storage.emplace_back(
        column_data.keys.empty() ? make_text(column, column_data.entries[entry]) : to_string(column_data.keys[entry]));
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
  if (column == Column::pid) {
    const std::uint32_t entry = column_data.rows[row];
    return entry == null_entry ? ValueView() : ValueView(std::int64_t{column_data.keys[entry].pid});
  }
  switch (encoding_of(column)) {
    case Encoding::integer:
    case Encoding::time_based: return column_data.is_present(row) ? ValueView(column_data.integers[row]) : ValueView();
    case Encoding::enumerator:
      return column_data.rows[row] == null_entry ? ValueView()
                                                 : ValueView(enumerator_name(column, column_data.rows[row]));
    case Encoding::real: return column_data.is_present(row) ? ValueView(column_data.reals[row]) : ValueView();
    default: {
      const std::uint32_t entry = column_data.rows[row];
      return entry == null_entry ? ValueView() : as_shown(column, stored_text(column, entry));
    }
  }
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
