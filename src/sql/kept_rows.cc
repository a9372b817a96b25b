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

std::optional<std::size_t> KeptRows::note(std::span<sqlite3_value*> values) {
  if (unsteady_ || state_ == State::given_up) return std::nullopt;
  if (!any_) {
    any_ = true;
    for (auto* const value : values) first_.push_back(key_of(value));
    return std::nullopt;
  }
  for (std::size_t i = 0; i < values.size() && i < first_.size(); ++i) {
    if (i == varying_ || key_of(values[i]) == first_[i]) continue;
    if (varying_) {
      unsteady_ = true;
      return std::nullopt;
    }
    varying_ = i;
  }
  // Begun again with the very same values, it would be kept by nothing.
  return varying_ && cost_of_all_ > 0 && spent_ >= cost_of_all_ ? varying_ : std::nullopt;
}

void KeptRows::spend(std::uint64_t cost, std::uint64_t cost_of_all) {
  spent_ += cost;
  cost_of_all_ = std::max(cost_of_all_, cost_of_all);
}

bool KeptRows::serves(std::span<sqlite3_value*> values) const {
  if (state_ != State::filled || values.size() != first_.size()) return false;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i != *varying_ && key_of(values[i]) != first_[i]) return false;
  }
  return true;
}

void KeptRows::begin_filling(std::size_t columns) { columns_ = columns; }

bool KeptRows::add(std::string key, std::int64_t rowid, std::vector<event::Value> values) {
  constexpr std::size_t bytes_of_entry = 64;  // of the map, about
  std::size_t size = bytes_of_entry + key.size() + sizeof rowid + values.size() * sizeof(event::Value);
  for (const auto& value : values) {
    if (const auto* const text = std::get_if<std::string>(&value)) size += text->capacity();
  }
  bytes_ += size;
  if (bytes_ > max_kept_bytes) return false;
  // Not from the last half of what the statement may take: it is only to make it faster.
  auto* const account = db::Account::current();
  if (account != nullptr && account->has_taken_half()) return false;
  if (account != nullptr) account->take(static_cast<std::int64_t>(size));
  rows_[std::move(key)].push_back(static_cast<std::uint32_t>(rowids_.size()));
  rowids_.push_back(rowid);
  std::ranges::move(values, std::back_inserter(values_));
  return true;
}

void KeptRows::give_up() {
  state_ = State::given_up;
  if (auto* const account = db::Account::current(); account != nullptr)
    account->take(-static_cast<std::int64_t>(bytes_));
  bytes_ = 0;
  values_ = {};
  rowids_ = {};
  rows_ = {};
}

std::span<const std::uint32_t> KeptRows::find(const std::string& key) const {
  const auto found = rows_.find(key);
  return found == rows_.end() ? std::span<const std::uint32_t>() : found->second;
}

Result<void> KeepingCursor::filter(int plan, const char* detail, std::span<sqlite3_value*> values) {
  KeptRows* const kept = runtime_.kept_rows(step_number());
  end(kept);
  serving_ = nullptr;
  found_ = {};
  next_ = 0;
  if (kept == nullptr || !is_equality(detail)) return begin(plan, detail, values, std::nullopt);
  const auto by = kept->note(values);
  if (by && kept->state() == KeptRows::State::none) {
    DE_TRY(const bool filled, fill(*kept, plan, detail, values));
    if (filled) {
      kept->end_filling();
      step().rewrite = "kept by " + std::string(event::info(column_of_constraint(detail, *by, table_columns())).name);
    } else {
      kept->give_up();
    }
  }
  // A value of another type than the column's is compared by rules of SQLite's own.
  const auto is_plain = [&](std::size_t place) {
    const auto type = event::info(column_of_constraint(detail, place, table_columns())).type;
    const int given = sqlite3_value_type(values[place]);
    return (given == SQLITE_TEXT && type == event::ColumnType::text) ||
           (given == SQLITE_INTEGER && type == event::ColumnType::integer);
  };
  if (!kept->serves(values) || !is_plain(kept->by())) return begin(plan, detail, values, std::nullopt);
  serving_ = kept;
  places_ = used_places(detail, table_columns().size());
  found_ = kept->find(key_of(values[kept->by()]));
  return {};
}

// False when they are too many, or the column is not one to keep rows by.
Result<bool> KeepingCursor::fill(KeptRows& kept, int plan, const char* detail, std::span<sqlite3_value*> values) {
  const auto by = kept.by();
  if (!is_equality(detail, by)) return false;
  const auto column = column_of_constraint(detail, by, table_columns());
  const auto key_place = static_cast<int>(std::ranges::find(table_columns(), column) - table_columns().begin());
  places_ = used_places(detail, table_columns().size());
  kept.begin_filling(places_.size());
  DE_CHECK(begin(plan, detail, values, by));
  bool room = true;
  while (room) {
    if (runtime_.should_stop()) return std::unexpected(*runtime_.stopped());
    DE_TRY(const bool more, advance());
    if (!more) break;
    const auto key = value(key_place);
    if (std::holds_alternative<std::monostate>(key)) continue;
    auto text = key_of(key);
    std::vector<event::Value> row;
    row.reserve(places_.size());
    for (const int place : places_) row.push_back(store::to_value(value(place)));
    room = kept.add(std::move(text), row_number(), std::move(row));
  }
  end(nullptr);
  return room;
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
  give(out, serving_->value(found_[next_ - 1], static_cast<std::size_t>(found - places_.begin())));
}

std::int64_t KeepingCursor::rowid() { return serving_ == nullptr ? row_number() : serving_->rowid(found_[next_ - 1]); }

}  // namespace daemoneye::sql
