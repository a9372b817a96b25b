// Which rows of a block meet the conditions: one condition after the other, the cheap ones first, each text once a
// dictionary entry, and no column decoded when nothing is left.
#include <algorithm>
#include <numeric>
#include <utility>

#include "predicate/substring.h"
#include "store/block.h"
#include "store/column_codes.h"
#include "store/column_kinds.h"

namespace daemoneye::store {
namespace {

using event::Column;
using predicate::Operator;

// Keeps the rows that `holds`, without a branch: which do is no pattern that could be guessed.
template <class Holds>
void keep_if(std::vector<std::uint32_t>& rows, Holds holds) {
  std::uint32_t* out = rows.data();
  std::size_t kept = 0;
  for (const std::uint32_t row : rows) {
    out[kept] = row;
    kept += holds(row) ? 1 : 0;
  }
  rows.resize(kept);
}

// A condition of integers with integers, which needs no general evaluation; false when it is another.
bool keep_by_integers(std::vector<std::uint32_t>& rows, const predicate::Condition& condition,
                      const IntegerColumn& column) {
  if (condition.negated) return false;
  if (condition.op == Operator::is_null || condition.op == Operator::is_not_null) {
    const bool wanted = condition.op == Operator::is_not_null;
    keep_if(rows, [&](std::uint32_t row) { return column.has_value(row) == wanted; });
    return true;
  }
  std::vector<std::int64_t> wanted;
  for (const auto& value : condition.values) {
    const auto* integer = std::get_if<std::int64_t>(&value);
    if (integer == nullptr) return false;
    wanted.push_back(*integer);
  }
  const auto keep = [&](auto compare) {
    const auto* values = column.values;
    if (const auto* present = column.present; present != nullptr)
      keep_if(rows, [&](std::uint32_t row) { return present[row] != 0 && compare(values[row]); });
    else
      keep_if(rows, [&](std::uint32_t row) { return compare(values[row]); });
    return true;
  };
  if (condition.op == Operator::in) {
    std::sort(wanted.begin(), wanted.end());
    return keep([&](std::int64_t value) { return std::binary_search(wanted.begin(), wanted.end(), value); });
  }
  if (wanted.size() != 1) return false;
  const std::int64_t other = wanted.front();
  switch (condition.op) {
    case Operator::equal: return keep([=](std::int64_t value) { return value == other; });
    case Operator::not_equal: return keep([=](std::int64_t value) { return value != other; });
    case Operator::less: return keep([=](std::int64_t value) { return value < other; });
    case Operator::less_equal: return keep([=](std::int64_t value) { return value <= other; });
    case Operator::greater: return keep([=](std::int64_t value) { return value > other; });
    case Operator::greater_equal: return keep([=](std::int64_t value) { return value >= other; });
    default: return false;
  }
}

bool is_equality(const predicate::Condition& condition) {
  return !condition.negated && (condition.op == Operator::equal || condition.op == Operator::in);
}

constexpr std::size_t few = 8;  // entries; rows: one of so many

// An equality with few texts, which are stored as they are compared.
bool has_few_texts(const predicate::Condition& condition) {
  return is_equality(condition) && encoding_of(condition.column) == Encoding::text &&
         condition.column != Column::arguments && condition.values.size() <= few &&
         std::ranges::all_of(condition.values,
                             [](const auto& value) { return std::holds_alternative<std::string>(value); });
}

bool is_dictionary(Column column) {
  const auto encoding = encoding_of(column);
  return encoding == Encoding::text || encoding == Encoding::key || column == Column::command_line;
}

enum Verdict : std::uint8_t { unknown, yes, no };

// Half of the entries must be asked for, or to look at each of them alone is cheaper.
bool is_worth_a_search(std::size_t rows, std::size_t entries) { return entries >= 16 && rows * 2 >= entries; }

}  // namespace

void Block::search(std::vector<std::uint8_t>& verdicts, const predicate::Predicate& predicate,
                   std::size_t condition_index) {
  const auto& condition = predicate.conditions()[condition_index];
  const auto& literal = predicate.literal(condition_index);
  const auto where = literal ? searchable(condition.column) : std::nullopt;
  if (!where) return;
  const predicate::Substring wanted(literal->text, literal->any_case, where->command_lines);
  const auto decide = [&](std::size_t entry, bool holds) {
    const auto text = where->text(entry);
    if (text.empty()) return;  // may be NULL in SQL
    if (holds && (!literal->enough || (!where->command_lines && text.find('\0') != std::string_view::npos))) return;
    verdicts[entry] = holds != condition.negated ? yes : no;
  };
  const auto begin_of = [&](std::size_t entry) {
    return static_cast<std::size_t>(where->text(entry).data() - where->bytes.data());
  };
  std::size_t entry = 0, at = 0;
  while (entry < where->entries.size()) {
    at = wanted.find(where->bytes, at);
    if (at == std::string_view::npos) {
      decide(entry++, false);
      continue;
    }
    // Texts that end before it ends do not hold it, even when they overlap.
    while (entry < where->entries.size() && begin_of(entry) + where->text(entry).size() < at + wanted.size()) {
      decide(entry++, false);
    }
    if (entry == where->entries.size()) break;
    if (begin_of(entry) > at) {
      ++at;  // it begins between two texts
    } else {
      at = begin_of(entry) + where->text(entry).size();
      decide(entry++, true);
    }
  }
}

void Block::filter_texts(std::vector<std::uint32_t>& rows, const predicate::Predicate& predicate,
                         std::size_t condition_index, const TextColumn& texts) {
  const Column column = predicate.conditions()[condition_index].column;
  event::Value value = std::string();  // reused: an allocation an entry would cost more than the comparison
  std::vector<std::uint8_t> verdicts(texts.count + 1, unknown);
  // NULL is the last entry.
  verdicts[texts.count] = predicate.matches_value(condition_index, {}) ? yes : no;
  if (is_worth_a_search(rows.size(), texts.count)) search(verdicts, predicate, condition_index);
  auto* known = verdicts.data();
  keep_if(rows, [&](std::uint32_t row) {
    const auto entry = std::min<std::size_t>(texts.entries[row], texts.count);
    if (known[entry] == unknown) {
      std::get<std::string>(value).assign(text(column, static_cast<std::uint32_t>(entry)));
      known[entry] = predicate.matches_value(condition_index, value) ? yes : no;
    }
    return known[entry] == yes;
  });
}

// Keys as they are stored: to make the text of each would cost more than all the rest.
void Block::filter_keys(std::vector<std::uint32_t>& rows, const KeySet& wanted, Column column) {
  const auto& keys = data(column).keys;
  const auto texts = this->texts(column);
  std::vector<std::uint8_t> verdicts(texts.count + 1, unknown);
  verdicts[texts.count] = no;  // NULL equals nothing
  auto* known = verdicts.data();
  keep_if(rows, [&](std::uint32_t row) {
    const auto entry = std::min<std::size_t>(texts.entries[row], texts.count);
    if (known[entry] == unknown) known[entry] = wanted.contains(keys[entry]) ? yes : no;
    return known[entry] == yes;
  });
}

void Block::filter(std::vector<std::uint32_t>& rows, const ScanConditions& conditions, std::size_t condition_index,
                   event::EventId first_event) {
  const auto& predicate = conditions.predicate();
  const auto& condition = predicate.conditions()[condition_index];
  if (const auto& keys = conditions.keys(condition_index)) return filter_keys(rows, *keys, condition.column);
  if (const auto texts = this->texts(condition.column); texts.entries != nullptr) {
    return filter_texts(rows, predicate, condition_index, texts);
  }
  if (const auto integers = this->integers(condition.column, first_event); integers.values != nullptr) {
    if (keep_by_integers(rows, condition, integers)) return;
  }
  keep_if(rows, [&](std::uint32_t row) {
    return predicate.matches_value(condition_index, to_value(value(row, condition.column, first_event)));
  });
}

// The rows of the few entries that are wanted are looked for in the codes; of few rows, their entries.
Result<bool> Block::filter_by_codes(std::vector<std::uint32_t>& rows, const ScanConditions& conditions,
                                    std::size_t condition_index, std::uint32_t first, std::uint32_t last) {
  const auto& condition = conditions.predicate().conditions()[condition_index];
  const Column column = condition.column;
  const auto& keys = conditions.keys(condition_index);
  const bool all = rows.size() == last - first + 1;
  if (is_decoded(column) || (!keys && !has_few_texts(condition))) return false;
  if (!all && rows.size() * few > header_.rows) return false;
  DE_TRY(const auto* data, opened(column, Codes::left));
  if (data->is_whole()) return false;
  const auto is_wanted = [&](std::string_view text) {
    return !(text.empty() && is_null_if_empty(column)) && std::ranges::any_of(condition.values, [&](const auto& value) {
      return std::get<std::string>(value) == text;
    });
  };
  std::vector<std::uint32_t> entries;
  if (all) {
    if (keys) find_keys(*data, *keys, entries);
    for (std::uint32_t entry = 0; entry < data->entries.size(); ++entry) {
      if (is_wanted(data->entries[entry])) entries.push_back(entry);
    }
    if (entries.size() > few) return false;
    rows.clear();
    for (const auto entry : entries) find_rows(*data, entry, first, last, rows);
    std::ranges::sort(rows);
  } else {
    std::vector<event::ProcessKey> own_keys;
    find_entries(*data, rows, entries);
    if (keys && !read_keys_of(*data, entries, own_keys)) return false;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      rows[kept] = rows[i];
      if (entries[i] == null_entry) continue;
      kept += (keys ? keys->contains(own_keys[i]) : is_wanted(data->entries[entries[i]])) ? 1 : 0;
    }
    rows.resize(kept);
  }
  if (!gap_.empty() && is_process_column(column)) std::erase_if(rows, [&](std::uint32_t row) { return is_gap(row); });
  return true;
}

Result<void> Block::select(const ScanConditions& conditions, const event::TimeRange& time, event::EventId first_event,
                           std::uint32_t first, std::uint32_t last, std::vector<std::uint32_t>& rows) {
  const auto& predicate = conditions.predicate();
  rows.clear();
  if (header_.rows == 0 || first > last) return {};
  rows.resize(last - first + 1);
  std::iota(rows.begin(), rows.end(), first);
  if (time.from || time.to) {
    DE_TRY(const auto* times, stored(Column::time));
    const std::int64_t* moments = times->integers.data();
    keep_if(rows, [&](std::uint32_t row) {
      const Timestamp moment{moments[row]};
      return time.overlaps(moment, moment);
    });
  }
  std::vector<std::size_t> order(predicate.conditions().size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto cost = [&](std::size_t index) {
    const auto& condition = predicate.conditions()[index];
    if (has_few_texts(condition)) return 0;  // their rows are found without looking at the others
    if (!is_dictionary(condition.column)) return 1;
    return is_equality(condition) ? 2 : 3;
  };
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return std::pair(cost(a), a) < std::pair(cost(b), b); });
  for (const std::size_t index : order) {
    if (rows.empty()) break;
    DE_TRY(const bool done, filter_by_codes(rows, conditions, index, first, last));
    if (done) continue;
    DE_CHECK(need(predicate.conditions()[index].column));
    filter(rows, conditions, index, first_event);
  }
  return {};
}

}  // namespace daemoneye::store
