#include "store/tail_columns.h"

namespace daemoneye::store {

const TailColumns::Held& TailColumns::held(event::Column column) {
  auto& slot = columns_[static_cast<std::size_t>(column)];
  if (slot) return *slot;
  slot = std::make_unique<Held>();
  const auto type = event::info(column).type;
  auto& made = *slot;
  for (std::size_t row = 0; row < events_.size(); ++row) {
    auto value = event::column_value(events_[row], first_event_ + static_cast<event::EventId>(row), column);
    const bool is_there = !std::holds_alternative<std::monostate>(value);
    made.present.push_back(is_there ? 1 : 0);
    switch (type) {
      case event::ColumnType::integer: made.integers.push_back(is_there ? std::get<std::int64_t>(value) : 0); break;
      case event::ColumnType::real: made.reals.push_back(is_there ? std::get<double>(value) : 0); break;
      case event::ColumnType::text:
        made.entries.push_back(is_there ? static_cast<std::uint32_t>(made.texts.size()) : null_entry);
        if (is_there) made.texts.push_back(std::get<std::string>(std::move(value)));
        break;
    }
  }
  return made;
}

IntegerColumn TailColumns::integers(event::Column column) {
  if (event::info(column).type != event::ColumnType::integer) return {};
  const auto& made = held(column);
  return {made.integers.data(), made.present.data()};
}

RealColumn TailColumns::reals(event::Column column) {
  if (event::info(column).type != event::ColumnType::real) return {};
  const auto& made = held(column);
  return {made.reals.data(), made.present.data()};
}

TextColumn TailColumns::texts(event::Column column) {
  if (event::info(column).type != event::ColumnType::text) return {};
  const auto& made = held(column);
  return {made.entries.data(), made.texts.size()};
}

std::string_view TailColumns::text(event::Column column, std::uint32_t entry) { return held(column).texts[entry]; }

}  // namespace daemoneye::store
