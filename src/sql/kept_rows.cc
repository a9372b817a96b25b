#include "sql/kept_rows.h"

#include <sqlite3.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "db/account.h"
#include "sql/push_down.h"
#include "sql/runtime.h"
#include "store/block_format.h"

namespace daemoneye::sql {
namespace {

constexpr std::size_t recent_texts = 256;
constexpr std::size_t text_room = 64 * 1024;

std::uint64_t hash_of(const store::ValueView& value) {
  if (const auto* const text = std::get_if<std::string_view>(&value)) return store::filter_hash(*text);
  if (const auto* const integer = std::get_if<std::int64_t>(&value)) return store::filter_hash(*integer);
  if (const auto* const real = std::get_if<double>(&value))
    return store::filter_hash(static_cast<std::int64_t>(std::bit_cast<std::uint64_t>(*real)));
  return 0;
}

// Of the set of an IN; nothing when it is too large to be compared each time.
std::optional<std::string> text_of_set(sqlite3_value* set) {
  constexpr std::size_t most_values = 64;
  std::string text;
  std::size_t count = 0;
  sqlite3_value* value = nullptr;
  for (int code = sqlite3_vtab_in_first(set, &value); code == SQLITE_OK && value != nullptr;
       code = sqlite3_vtab_in_next(set, &value)) {
    if (++count > most_values) return std::nullopt;
    // The type before the bytes: 1 is not '1'.
    text += static_cast<char>('0' + sqlite3_value_type(value));
    const auto one = view_of(value);
    if (const auto* const bytes = std::get_if<std::string_view>(&one))
      text.append(std::to_string(bytes->size())).append(":").append(*bytes);
    else
      text += std::to_string(hash_of(one)) + ';';
  }
  return text;
}

// Assigning nothing would keep the memory.
template <class Vector>
void release(Vector& vector) {
  Vector().swap(vector);
}

}  // namespace

store::ValueView view_of(sqlite3_value* value) {
  switch (sqlite3_value_type(value)) {
    case SQLITE_INTEGER: return std::int64_t{sqlite3_value_int64(value)};
    case SQLITE_FLOAT: return sqlite3_value_double(value);
    case SQLITE_TEXT: {
      const auto* const text = reinterpret_cast<const char*>(sqlite3_value_text(value));
      return text == nullptr ? std::string_view()
                             : std::string_view(text, static_cast<std::size_t>(sqlite3_value_bytes(value)));
    }
    default: return {};
  }
}

KeptRows::Given KeptRows::given(const Pushed& pushed, sqlite3_value* value) {
  Given given;
  given.is_in = pushed.is_in;
  if (pushed.is_in) {
    given.set = text_of_set(value);
  } else {
    given.type = sqlite3_value_type(value);
    given.value = store::to_value(view_of(value));
  }
  return given;
}

bool KeptRows::is_same(const Given& before, const Pushed& pushed, sqlite3_value* value) {
  if (pushed.is_in) return before.set == text_of_set(value);
  if (sqlite3_value_type(value) != before.type) return false;
  const auto now = view_of(value);
  if (const auto* const text = std::get_if<std::string>(&before.value)) return std::get<std::string_view>(now) == *text;
  return store::to_value(now) == before.value;
}

std::optional<std::size_t> KeptRows::note(const PushedPlan& plan, std::span<sqlite3_value*> values) {
  if (unsteady_ || state_ != State::none) return std::nullopt;
  const auto pushed = plan.list();
  if (!any_) {
    any_ = true;
    left_out_.assign(values.size(), false);
    for (std::size_t i = 0; i < values.size(); ++i) {
      first_.push_back(given(pushed[i], values[i]));
      left_out_[i] = first_[i].is_in && !first_[i].set;
    }
    return std::nullopt;
  }
  for (std::size_t i = 0; i < values.size() && i < first_.size(); ++i) {
    if (i == varying_ || left_out_[i] || is_same(first_[i], pushed[i], values[i])) continue;
    if (pushed[i].is_in) {
      left_out_[i] = true;
      continue;
    }
    if (varying_) {
      unsteady_ = true;
      return std::nullopt;
    }
    varying_ = i;
  }
  // Begun again with the very same values, it would be kept by nothing.
  const bool worth_it =
      cost_of_all_ > 0 && static_cast<double>(spent_) >= patience_ * static_cast<double>(cost_of_all_);
  if (!varying_ || !worth_it) return std::nullopt;
  left_out_[*varying_] = true;
  return varying_;
}

void KeptRows::spend(std::uint64_t cost, std::uint64_t cost_of_all) {
  spent_ += cost;
  cost_of_all_ = std::max(cost_of_all_, cost_of_all);
}

bool KeptRows::serves(const PushedPlan& plan, std::span<sqlite3_value*> values) const {
  if (state_ != State::filled || values.size() != first_.size()) return false;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!left_out_[i] && !is_same(first_[i], plan.list()[i], values[i])) return false;
  }
  return true;
}

void KeptRows::begin_filling(std::size_t columns) {
  forget();
  columns_ = columns;
  recent_.resize(recent_texts);
}

bool KeptRows::add(const store::ValueView& key, std::int64_t rowid, std::span<const store::ValueView> values,
                   bool whole) {
  if ((keys_ + 1) * 3 > slots_.size() * 2) grow();
  const auto hash = hash_of(key);
  auto& slot = slots_[slot_of(key, hash)];
  const auto row = static_cast<std::uint32_t>(rowids_.size());
  if (slot.first == no_row) {
    slot = {hash, held(key), row, row};
    ++keys_;
  } else {
    next_[slot.last] = row;
    slot.last = row;
  }
  rowids_.push_back(rowid);
  next_.push_back(no_row);
  whole_.push_back(whole);
  for (const auto& value : values) values_.push_back(held(value));
  return charge();
}

std::size_t KeptRows::slot_of(const store::ValueView& key, std::uint64_t hash) const {
  std::size_t place = hash & (slots_.size() - 1);
  while (slots_[place].first != no_row && (slots_[place].hash != hash || slots_[place].key != key))
    place = (place + 1) & (slots_.size() - 1);
  return place;
}

void KeptRows::grow() {
  constexpr std::size_t least = 64;
  auto before = std::exchange(slots_, std::vector<Slot>(std::max(least, slots_.size() * 2)));
  for (const auto& slot : before) {
    if (slot.first != no_row) slots_[slot_of(slot.key, slot.hash)] = slot;
  }
}

store::ValueView KeptRows::held(const store::ValueView& value) {
  const auto* const text = std::get_if<std::string_view>(&value);
  if (text == nullptr) return value;
  auto& recent = recent_[store::filter_hash(*text) % recent_texts];
  if (recent.data() != nullptr && recent == *text) return recent;
  if (text->size() > room_left_) {
    room_left_ = std::max(text_room, text->size());
    texts_.push_back(std::make_unique_for_overwrite<char[]>(room_left_));
    room_ = texts_.back().get();
    text_bytes_ += room_left_;
  }
  std::ranges::copy(*text, room_);
  recent = {room_, text->size()};
  room_ += text->size();
  room_left_ -= text->size();
  return recent;
}

// False when there is no room.
bool KeptRows::charge() {
  const std::size_t bytes = text_bytes_ + values_.capacity() * sizeof(store::ValueView) +
                            rowids_.capacity() * sizeof(std::int64_t) + next_.capacity() * sizeof(std::uint32_t) +
                            whole_.capacity() / 8 + slots_.capacity() * sizeof(Slot);
  if (bytes == charged_) return true;
  if (bytes > max_kept_bytes) return false;
  // Not from the last half of what the statement may take: it is only to make it faster.
  auto* const account = db::Account::current();
  const auto more = static_cast<std::int64_t>(bytes) - static_cast<std::int64_t>(charged_);
  if (account != nullptr && (account->has_taken_half() || !account->take(more))) return false;
  charged_ = bytes;
  return true;
}

void KeptRows::end_filling(std::uint64_t cost_of_whole) {
  state_ = State::filled;
  late_ = 0;
  cost_of_whole_ = cost_of_whole;
}

void KeptRows::give_up() {
  state_ = State::given_up;
  forget();
}

void KeptRows::forget() {
  if (auto* const account = db::Account::current(); account != nullptr)
    account->take(-static_cast<std::int64_t>(charged_));
  charged_ = text_bytes_ = room_left_ = keys_ = 0;
  room_ = nullptr;
  release(values_);
  release(rowids_);
  release(next_);
  release(whole_);
  release(slots_);
  release(texts_);
  release(recent_);
}

std::uint32_t KeptRows::find(const store::ValueView& key) const {
  return slots_.empty() ? no_row : slots_[slot_of(key, hash_of(key))].first;
}

Result<void> KeepingCursor::filter(int flags, const char* detail, std::span<sqlite3_value*> values) {
  if (plan_.text() != detail) {
    plan_ = PushedPlan(detail);
    places_.clear();
    for (std::size_t place = 0; place < table_columns().size(); ++place) {
      if (plan_.uses(place)) places_.push_back(static_cast<int>(place));
    }
  }
  KeptRows* const kept = runtime_.kept_rows(step_number());
  end(kept);
  serving_ = nullptr;
  row_ = next_row_ = KeptRows::no_row;
  if (kept == nullptr || !plan_.has_equality()) return begin(flags, plan_, values, {});
  if (kept->note(plan_, values))
    DE_CHECK(fill(*kept, flags, values, false));
  else if (kept->should_be_whole() && kept->serves(plan_, values))
    DE_CHECK(fill(*kept, flags, values, true));
  if (!kept->serves(plan_, values) || !is_plain(values[kept->by()], kept->by())) return begin(flags, plan_, values, {});
  serving_ = kept;
  next_row_ = kept->find(view_of(values[kept->by()]));
  return {};
}

// A value of another type than the column's is compared by rules of SQLite's own.
bool KeepingCursor::is_plain(sqlite3_value* value, std::size_t constraint) const {
  const auto type = event::info(plan_.column(constraint, table_columns())).type;
  const int given = sqlite3_value_type(value);
  return (given == SQLITE_TEXT && type == event::ColumnType::text) ||
         (given == SQLITE_INTEGER && type == event::ColumnType::integer);
}

Result<void> KeepingCursor::fill(KeptRows& kept, int flags, std::span<sqlite3_value*> values, bool whole) {
  const auto by = kept.by();
  const auto column = event::info(plan_.column(by, table_columns()));
  DE_TRY(const bool filled, plan_.is_equality(by) ? read_all(kept, flags, values, whole) : Result<bool>(false));
  if (filled) {
    kept.end_filling(cost_of_late_values());
    step().rewrite = "kept by " + std::string(column.name);
  } else {
    kept.give_up();
  }
  end(nullptr);
  return {};
}

// False when they are too many.
Result<bool> KeepingCursor::read_all(KeptRows& kept, int flags, std::span<sqlite3_value*> values, bool whole) {
  const auto column = plan_.column(kept.by(), table_columns());
  const auto key_place = static_cast<int>(std::ranges::find(table_columns(), column) - table_columns().begin());
  kept.begin_filling(places_.size());
  std::vector<store::ValueView> row;
  DE_CHECK(begin(flags, plan_, values, kept.left_out()));
  for (;;) {
    if (runtime_.should_stop()) return std::unexpected(*runtime_.stopped());
    DE_TRY(const bool more, advance());
    if (!more) return true;
    const auto key = value(key_place);
    if (std::holds_alternative<std::monostate>(key)) continue;
    const bool is_whole = whole || is_at_hand();
    row.clear();
    for (const int place : places_) {
      const bool is_late = !is_whole && place != key_place && can_be_late(place);
      row.push_back(is_late ? store::ValueView() : value(place));
    }
    if (!kept.add(key, row_number(), row, is_whole)) return false;
  }
}

Result<bool> KeepingCursor::next() {
  if (serving_ == nullptr) return advance();
  if (next_row_ == KeptRows::no_row) return false;
  row_ = next_row_;
  next_row_ = serving_->next(row_);
  return true;
}

void KeepingCursor::column(sqlite3_context* out, int index) {
  if (serving_ == nullptr) return give(out, value(index));
  const auto found = std::ranges::find(places_, index);
  if (found == places_.end()) return;
  const bool is_key = table_columns()[static_cast<std::size_t>(index)] == plan_.column(serving_->by(), table_columns());
  if (serving_->is_whole(row_) || is_key || !can_be_late(index))
    return give(out, serving_->value(row_, static_cast<std::size_t>(found - places_.begin())));
  const auto value = late_value(serving_->rowid(row_), index, *serving_);
  if (value) return give(out, *value);
  runtime_.set_error(value.error());
  sqlite3_result_error(out, value.error().message.c_str(), -1);
}

std::int64_t KeepingCursor::rowid() { return serving_ == nullptr ? row_number() : serving_->rowid(row_); }

}  // namespace daemoneye::sql
