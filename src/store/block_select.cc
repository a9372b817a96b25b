// Which rows of a block meet the conditions: one condition after the other, the cheap ones first, each text once a
// dictionary entry, and no column decoded when nothing is left.
#include <algorithm>
#include <numeric>
#include <utility>

#include "predicate/substring.h"
#include "store/block.h"

namespace daemoneye::store {
namespace {

using event::Column;
using predicate::Operator;

// Comparisons of integers with integers, which need no general evaluation.
std::optional<bool> compare_integer(const predicate::Condition& condition, std::int64_t value) {
  if (condition.values.size() != 1) return std::nullopt;
  const auto* wanted = std::get_if<std::int64_t>(&condition.values.front());
  if (wanted == nullptr || condition.negated) return std::nullopt;
  switch (condition.op) {
    case Operator::equal: return value == *wanted;
    case Operator::not_equal: return value != *wanted;
    case Operator::less: return value < *wanted;
    case Operator::less_equal: return value <= *wanted;
    case Operator::greater: return value > *wanted;
    case Operator::greater_equal: return value >= *wanted;
    default: return std::nullopt;
  }
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

void Block::filter(std::vector<std::uint32_t>& rows, const predicate::Predicate& predicate, std::size_t condition_index,
                   event::EventId first_event) {
  const auto& condition = predicate.conditions()[condition_index];
  const Column column = condition.column;
  event::Value text = std::string();  // reused: an allocation an entry would cost more than the comparison
  const auto matches = [&](const ValueView& view) {
    if (const auto* view_of_text = std::get_if<std::string_view>(&view)) {
      std::get<std::string>(text).assign(*view_of_text);
      return predicate.matches_value(condition_index, text);
    }
    if (const auto* integer = std::get_if<std::int64_t>(&view))
      return predicate.matches_value(condition_index, *integer);
    if (const auto* real = std::get_if<double>(&view)) return predicate.matches_value(condition_index, *real);
    return predicate.matches_value(condition_index, {});
  };
  const bool null_matches = matches({});
  if (is_dictionary(column)) {
    const auto& column_data = data(column);
    std::vector<std::uint8_t> verdict(std::max(column_data.entries.size(), column_data.keys.size()), unknown);
    if (is_worth_a_search(rows.size(), verdict.size())) search(verdict, predicate, condition_index);
    std::erase_if(rows, [&](std::uint32_t row) {
      const std::uint32_t entry = column_data.rows[row];
      if (entry == null_entry || is_gap(row)) {
        return !matches(value(row, column, first_event));  // detail and name have their own idea of NULL
      }
      if (verdict[entry] == unknown) verdict[entry] = matches(value(row, column, first_event)) ? yes : no;
      return verdict[entry] == no;
    });
    return;
  }
  std::erase_if(rows, [&](std::uint32_t row) {
    const auto view = value(row, column, first_event);
    if (std::holds_alternative<std::monostate>(view)) return !null_matches;
    if (const auto* number = std::get_if<std::int64_t>(&view)) {
      if (const auto verdict = compare_integer(condition, *number)) return !*verdict;
    }
    return !matches(view);
  });
}

Result<std::vector<std::uint32_t>> Block::select(const predicate::Predicate& predicate, const event::TimeRange& time,
                                                 event::EventId first_event, std::uint32_t first, std::uint32_t last) {
  std::vector<std::uint32_t> rows;
  if (header_.rows == 0 || first > last) return rows;
  rows.resize(last - first + 1);
  std::iota(rows.begin(), rows.end(), first);
  if (time.from || time.to) {
    DE_TRY(const auto* times, stored(Column::time));
    std::erase_if(rows, [&](std::uint32_t row) {
      const Timestamp moment{times->integers[row]};
      return !time.overlaps(moment, moment);
    });
  }
  std::vector<std::size_t> order(predicate.conditions().size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto cost = [&](std::size_t index) {
    const auto& condition = predicate.conditions()[index];
    if (!is_dictionary(condition.column)) return 0;
    return condition.op == Operator::equal || condition.op == Operator::in ? 1 : 2;
  };
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return std::pair(cost(a), a) < std::pair(cost(b), b); });
  for (const std::size_t index : order) {
    if (rows.empty()) break;
    DE_CHECK(need(predicate.conditions()[index].column));
    filter(rows, predicate, index, first_event);
  }
  return rows;
}

}  // namespace daemoneye::store
