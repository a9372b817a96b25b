#include "sql/kept_rows.h"

#include <sqlite3.h>

#include <algorithm>

#include "db/account.h"
#include "sql/push_down.h"
#include "sql/runtime.h"

namespace daemoneye::sql {
namespace {

template <class Number>
std::string with_bytes(char kind, Number number) {
  std::string key(1 + sizeof number, kind);
  std::copy_n(reinterpret_cast<const char*>(&number), sizeof number, key.begin() + 1);
  return key;
}

// Of the set of an IN; nothing when it is too large to be compared each time.
std::optional<std::string> key_of_set(sqlite3_value* set) {
  constexpr std::size_t most_values = 64;
  std::string key;
  std::size_t count = 0;
  sqlite3_value* value = nullptr;
  for (int code = sqlite3_vtab_in_first(set, &value); code == SQLITE_OK && value != nullptr;
       code = sqlite3_vtab_in_next(set, &value)) {
    if (++count > most_values) return std::nullopt;
    const auto one = key_of(value);
    key += std::to_string(one.size()) + ':' + one;
  }
  return key;
}

std::optional<std::string> key_of(const Pushed& pushed, sqlite3_value* value) {
  return pushed.is_in ? key_of_set(value) : std::optional(sql::key_of(value));
}

}  // namespace

std::string key_of(sqlite3_value* value) {
  switch (sqlite3_value_type(value)) {
    case SQLITE_INTEGER: return with_bytes('i', std::int64_t{sqlite3_value_int64(value)});
    case SQLITE_FLOAT: return with_bytes('r', sqlite3_value_double(value));
    case SQLITE_TEXT: {
      const auto* const text = reinterpret_cast<const char*>(sqlite3_value_text(value));
      std::string key = "t";
      if (text != nullptr) key.append(text, static_cast<std::size_t>(sqlite3_value_bytes(value)));
      return key;
    }
    case SQLITE_BLOB: return "b";
    default: return "";
  }
}

std::string key_of(const store::ValueView& value) {
  if (const auto* const integer = std::get_if<std::int64_t>(&value)) return with_bytes('i', *integer);
  if (const auto* const real = std::get_if<double>(&value)) return with_bytes('r', *real);
  if (const auto* const text = std::get_if<std::string_view>(&value)) return "t" + std::string(*text);
  return "";
}

std::optional<std::size_t> KeptRows::note(const PushedPlan& plan, std::span<sqlite3_value*> values) {
  if (unsteady_ || state_ != State::none) return std::nullopt;
  const auto pushed = plan.list();
  if (!any_) {
    any_ = true;
    left_out_.assign(values.size(), false);
    for (std::size_t i = 0; i < values.size(); ++i) {
      first_.push_back(key_of(pushed[i], values[i]));
      left_out_[i] = !first_[i];
    }
    return std::nullopt;
  }
  for (std::size_t i = 0; i < values.size() && i < first_.size(); ++i) {
    if (i == varying_ || left_out_[i] || key_of(pushed[i], values[i]) == first_[i]) continue;
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
    if (!left_out_[i] && key_of(plan.list()[i], values[i]) != first_[i]) return false;
  }
  return true;
}

void KeptRows::begin_filling(std::size_t columns) {
  forget();
  columns_ = columns;
}

bool KeptRows::add(std::string key, std::int64_t rowid, std::vector<event::Value> values, bool whole) {
  // The map's node with its key and the list of one row: each a block of the heap.
  constexpr std::size_t bytes_of_entry = 160;
  std::size_t size = bytes_of_entry + key.size() + sizeof rowid + values.size() * sizeof(event::Value);
  for (const auto& value : values) {
    if (const auto* const text = std::get_if<std::string>(&value)) size += text->capacity();
  }
  if (bytes_ + size > max_kept_bytes) return false;
  // Not from the last half of what the statement may take: it is only to make it faster.
  auto* const account = db::Account::current();
  if (account != nullptr && (account->has_taken_half() || !account->take(static_cast<std::int64_t>(size))))
    return false;
  bytes_ += size;
  rows_[std::move(key)].push_back(static_cast<std::uint32_t>(rowids_.size()));
  rowids_.push_back(rowid);
  whole_.push_back(whole);
  std::ranges::move(values, std::back_inserter(values_));
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
    account->take(-static_cast<std::int64_t>(bytes_));
  bytes_ = 0;
  values_ = {};
  rowids_ = {};
  whole_ = {};
  rows_ = {};
}

std::span<const std::uint32_t> KeptRows::find(const std::string& key) const {
  const auto found = rows_.find(key);
  return found == rows_.end() ? std::span<const std::uint32_t>() : found->second;
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
  found_ = {};
  next_ = 0;
  if (kept == nullptr || !plan_.has_equality()) return begin(flags, plan_, values, {});
  if (kept->note(plan_, values))
    DE_CHECK(fill(*kept, flags, values, false));
  else if (kept->should_be_whole() && kept->serves(plan_, values))
    DE_CHECK(fill(*kept, flags, values, true));
  if (!kept->serves(plan_, values) || !is_plain(values[kept->by()], kept->by())) return begin(flags, plan_, values, {});
  serving_ = kept;
  found_ = kept->find(key_of(values[kept->by()]));
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
  DE_CHECK(begin(flags, plan_, values, kept.left_out()));
  for (;;) {
    if (runtime_.should_stop()) return std::unexpected(*runtime_.stopped());
    DE_TRY(const bool more, advance());
    if (!more) return true;
    const auto key = value(key_place);
    if (std::holds_alternative<std::monostate>(key)) continue;
    auto text = key_of(key);
    const bool is_whole = whole || is_at_hand();
    std::vector<event::Value> row;
    row.reserve(places_.size());
    for (const int place : places_) {
      const bool is_late = !is_whole && place != key_place && can_be_late(place);
      row.push_back(is_late ? event::Value() : store::to_value(value(place)));
    }
    if (!kept.add(std::move(text), row_number(), std::move(row), is_whole)) return false;
  }
}

Result<bool> KeepingCursor::next() {
  if (serving_ == nullptr) return advance();
  if (next_ >= found_.size()) return false;
  ++next_;
  return true;
}

void KeepingCursor::column(sqlite3_context* out, int index) {
  if (serving_ == nullptr) return give(out, value(index));
  const auto found = std::ranges::find(places_, index);
  if (found == places_.end()) return;
  const auto row = found_[next_ - 1];
  const bool is_key = table_columns()[static_cast<std::size_t>(index)] == plan_.column(serving_->by(), table_columns());
  if (serving_->is_whole(row) || is_key || !can_be_late(index))
    return give(out, serving_->value(row, static_cast<std::size_t>(found - places_.begin())));
  const auto value = late_value(serving_->rowid(row), index, *serving_);
  if (value) return give(out, *value);
  runtime_.set_error(value.error());
  sqlite3_result_error(out, value.error().message.c_str(), -1);
}

std::int64_t KeepingCursor::rowid() { return serving_ == nullptr ? row_number() : serving_->rowid(found_[next_ - 1]); }

}  // namespace daemoneye::sql
