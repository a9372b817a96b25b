#include "sql/push_down.h"

#include <sqlite3.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string_view>

#include "base/text.h"
#include "sql/regexp.h"

namespace daemoneye::sql {
namespace {

using event::Column;
using predicate::Operator;

constexpr std::size_t max_pushed_text = 4 * 1024;
constexpr std::size_t max_pushed = 24;  // far below predicate::max_conditions

std::optional<Operator> operator_of(int op) {
  switch (op) {
    case SQLITE_INDEX_CONSTRAINT_EQ:
    case SQLITE_INDEX_CONSTRAINT_IS: return Operator::equal;
    case SQLITE_INDEX_CONSTRAINT_NE: return Operator::not_equal;
    case SQLITE_INDEX_CONSTRAINT_LT: return Operator::less;
    case SQLITE_INDEX_CONSTRAINT_LE: return Operator::less_equal;
    case SQLITE_INDEX_CONSTRAINT_GT: return Operator::greater;
    case SQLITE_INDEX_CONSTRAINT_GE: return Operator::greater_equal;
    case SQLITE_INDEX_CONSTRAINT_LIKE: return Operator::like;
    case SQLITE_INDEX_CONSTRAINT_GLOB: return Operator::glob;
    case SQLITE_INDEX_CONSTRAINT_REGEXP: return Operator::regexp;
    case SQLITE_INDEX_CONSTRAINT_ISNULL: return Operator::is_null;
    case SQLITE_INDEX_CONSTRAINT_ISNOTNULL: return Operator::is_not_null;
    default: return std::nullopt;
  }
}

bool is_bound(Operator op) {
  return op == Operator::equal || op == Operator::less || op == Operator::less_equal || op == Operator::greater ||
         op == Operator::greater_equal;
}

bool is_pattern(Operator op) { return op == Operator::like || op == Operator::glob || op == Operator::regexp; }

// The value as the column's own type, or nothing when SQLite would compare them in another way.
std::optional<event::Value> as_column_type(sqlite3_value* value, event::ColumnType type) {
  constexpr std::int64_t exact_in_double = std::int64_t{1} << 53;
  switch (sqlite3_value_type(value)) {
    case SQLITE_INTEGER: {
      const std::int64_t integer = sqlite3_value_int64(value);
      if (type == event::ColumnType::integer) return event::Value(integer);
      if (type == event::ColumnType::real && integer < exact_in_double && integer > -exact_in_double) {
        return event::Value(static_cast<double>(integer));
      }
      return std::nullopt;
    }
    case SQLITE_FLOAT:
      if (type == event::ColumnType::real && std::isfinite(sqlite3_value_double(value))) {
        return event::Value(sqlite3_value_double(value));
      }
      return std::nullopt;
    case SQLITE_TEXT: {
      if (type != event::ColumnType::text) return std::nullopt;
      const auto* const text = reinterpret_cast<const char*>(sqlite3_value_text(value));
      const auto size = static_cast<std::size_t>(sqlite3_value_bytes(value));
      if (text == nullptr || size > max_pushed_text) return std::nullopt;
      return event::Value(std::string(text, size));
    }
    default: return std::nullopt;
  }
}

// Narrows the bounds that the scan knows of its own.
void narrow(ScanFilter& filter, Column column, Operator op, std::int64_t value) {
  std::optional<std::int64_t> low, high;
  switch (op) {
    case Operator::equal: low = high = value; break;
    case Operator::greater_equal: low = value; break;
    case Operator::less_equal: high = value; break;
    case Operator::greater:
      if (value == std::numeric_limits<std::int64_t>::max())
        filter.nothing = true;
      else
        low = value + 1;
      break;
    case Operator::less:
      if (value == std::numeric_limits<std::int64_t>::min())
        filter.nothing = true;
      else
        high = value - 1;
      break;
    default: return;
  }
  if (column == Column::time) {
    if (low && (!filter.time.from || filter.time.from->ns < *low)) filter.time.from = Timestamp{*low};
    if (high && (!filter.time.to || filter.time.to->ns > *high)) filter.time.to = Timestamp{*high};
    filter.nothing |= filter.time.from && filter.time.to && *filter.time.from > *filter.time.to;
  } else {
    if (low && (!filter.first_event || *filter.first_event < *low)) filter.first_event = low;
    if (high && (!filter.last_event || *filter.last_event > *high)) filter.last_event = high;
    filter.nothing |= filter.first_event && filter.last_event && *filter.first_event > *filter.last_event;
  }
}

void narrow_by_real(ScanFilter& filter, Operator op, double value) {
  constexpr double least = -9223372036854775808.0, beyond = 9223372036854775808.0;  // of what an integer can be
  const bool is_lower = op == Operator::greater || op == Operator::greater_equal;
  if (value >= beyond || value < least) {
    const bool all = is_lower ? value < least : op != Operator::equal && value >= beyond;
    filter.nothing |= !all;
    return;
  }
  const double whole = std::floor(value);
  const auto integer = static_cast<std::int64_t>(whole);
  if (whole == value) return narrow(filter, Column::time, op, integer);
  // Between two integers.
  if (op == Operator::equal)
    filter.nothing = true;
  else
    narrow(filter, Column::time, is_lower ? Operator::greater : Operator::less_equal, integer);
}

// Exact, whatever the value is: SQLite does not check it again.
void narrow_time(ScanFilter& filter, Operator op, sqlite3_value* value) {
  switch (sqlite3_value_numeric_type(value)) {
    case SQLITE_INTEGER: return narrow(filter, Column::time, op, sqlite3_value_int64(value));
    case SQLITE_FLOAT: return narrow_by_real(filter, op, sqlite3_value_double(value));
    default: break;
  }
  // Every number is below text and blobs.
  if (op != Operator::less && op != Operator::less_equal) filter.nothing = true;
}

void add_in(ScanFilter& filter, Column column, sqlite3_value* values) {
  predicate::Condition condition{column, Operator::in, {}, false};
  sqlite3_value* value = nullptr;
  for (int code = sqlite3_vtab_in_first(values, &value); code == SQLITE_OK && value != nullptr;
       code = sqlite3_vtab_in_next(values, &value)) {
    if (sqlite3_value_type(value) == SQLITE_NULL) continue;  // matches nothing
    auto converted = as_column_type(value, event::info(column).type);
    if (!converted || condition.values.size() >= predicate::max_compiled_in_values) return;
    condition.values.push_back(*std::move(converted));
  }
  if (condition.values.empty()) {
    filter.nothing = true;
    return;
  }
  if (column == Column::time || column == Column::event_id) {
    const auto [least, most] = std::ranges::minmax_element(condition.values);
    narrow(filter, column, Operator::greater_equal, std::get<std::int64_t>(*least));
    narrow(filter, column, Operator::less_equal, std::get<std::int64_t>(*most));
  }
  filter.conditions.push_back(std::move(condition));
}

void add(ScanFilter& filter, Column column, int constraint, sqlite3_value* value) {
  const auto op = *operator_of(constraint);
  if (op == Operator::is_null || op == Operator::is_not_null) {
    filter.conditions.push_back({column, op, {}, false});
    return;
  }
  if (sqlite3_value_type(value) == SQLITE_NULL) {
    if (constraint == SQLITE_INDEX_CONSTRAINT_IS)
      filter.conditions.push_back({column, Operator::is_null, {}, false});
    else
      filter.nothing = true;  // a comparison with NULL is never true
    return;
  }
  if (column == Column::time && is_bound(op)) return narrow_time(filter, op, value);
  const auto type = event::info(column).type;
  auto converted = as_column_type(value, type);
  if (!converted) return;
  if (is_pattern(op)) {
    const auto& pattern = std::get<std::string>(*converted);
    // A bad one is left to the function, which says what is wrong with it.
    if (op == Operator::regexp && !check_regexp(pattern)) return;
  }
  add_condition(filter, {column, op, {*std::move(converted)}, false});
}

// How many of the rows are left, as a guess, and whether the scan can skip blocks for it.
double selectivity(Column column, int op) {
  switch (op) {
    case SQLITE_INDEX_CONSTRAINT_EQ:
    case SQLITE_INDEX_CONSTRAINT_IS:
      if (column == Column::event_id || column == Column::process_key) return 0.00001;
      if (column == Column::parent_key) return 0.0001;
      return 0.02;
    case SQLITE_INDEX_CONSTRAINT_LT:
    case SQLITE_INDEX_CONSTRAINT_LE:
    case SQLITE_INDEX_CONSTRAINT_GT:
    case SQLITE_INDEX_CONSTRAINT_GE: return column == Column::time || column == Column::event_id ? 0.1 : 0.4;
    case SQLITE_INDEX_CONSTRAINT_NE:
    case SQLITE_INDEX_CONSTRAINT_ISNOTNULL: return 0.9;
    default: return 0.1;
  }
}

// How the scan must go to give the order that is asked for; nothing when it cannot.
std::optional<int> order_of(const sqlite3_index_info& info, Orders orders) {
  if (orders == Orders::none || info.nOrderBy == 0) return std::nullopt;
  const auto is = [&](int term, Column column) {
    return info.aOrderBy[term].iColumn == static_cast<int>(column) && info.aOrderBy[term].desc == info.aOrderBy[0].desc;
  };
  const int newest_first = info.aOrderBy[0].desc != 0 ? plan_newest_first : 0;
  if (info.nOrderBy == 1 && is(0, Column::event_id)) return newest_first;
  const bool by_time = is(0, Column::time) && (info.nOrderBy == 1 || (info.nOrderBy == 2 && is(1, Column::event_id)));
  if (by_time && orders == Orders::by_event_id_or_time) return newest_first | plan_by_time;
  return std::nullopt;
}

}  // namespace

const predicate::Condition* ScanFilter::find(Column column, Operator op) const {
  const auto found = std::ranges::find_if(conditions, [&](const predicate::Condition& one) {
    return one.column == column && one.op == op && !one.negated;
  });
  return found == conditions.end() ? nullptr : &*found;
}

void add_condition(ScanFilter& filter, predicate::Condition condition) {
  const bool bounds = condition.column == Column::time || condition.column == Column::event_id;
  const auto* const number =
      condition.values.size() == 1 ? std::get_if<std::int64_t>(&condition.values.front()) : nullptr;
  if (bounds && number != nullptr && !condition.negated && is_bound(condition.op)) {
    narrow(filter, condition.column, condition.op, *number);
    return;
  }
  filter.conditions.push_back(std::move(condition));
}

int plan_scan(sqlite3_index_info& info, std::span<const Column> columns, Orders orders, Regexps regexps) {
  constexpr double all_rows = 1'000'000;
  double rows = all_rows;
  double cost = all_rows;
  bool is_one_process = false;
  std::string detail;
  constexpr char digits[] = "0123456789abcdef";
  for (int shift = 60; shift >= 0; shift -= 4) detail += digits[(info.colUsed >> shift) & 15];
  int next_argument = 1;
  for (int i = 0; i < info.nConstraint; ++i) {
    const auto& constraint = info.aConstraint[i];
    if (constraint.usable == 0 || constraint.iColumn < 0 || !operator_of(constraint.op)) continue;
    const auto place = static_cast<std::size_t>(constraint.iColumn);
    if (place >= columns.size() || next_argument > static_cast<int>(max_pushed)) continue;
    const auto& column = event::info(columns[place]);
    const auto op = *operator_of(constraint.op);
    if (is_pattern(op) && column.type != event::ColumnType::text) continue;
    if (op == Operator::regexp && regexps == Regexps::left) continue;
    const bool compares_text = column.type == event::ColumnType::text && op != Operator::is_null &&
                               op != Operator::is_not_null && !is_pattern(op);
    if (compares_text && std::string_view(sqlite3_vtab_collation(&info, i)) != "BINARY") continue;
    const bool is_in = constraint.op == SQLITE_INDEX_CONSTRAINT_EQ && sqlite3_vtab_in(&info, i, 1) != 0;
    info.aConstraintUsage[i].argvIndex = next_argument++;
    // The bounds of an event's time are exact whatever it is compared with. Checked again, the times of each block
    // would be decoded.
    const bool is_exact = orders != Orders::none && column.column == Column::time && is_bound(op) && !is_in;
    info.aConstraintUsage[i].omit = is_exact ? 1 : 0;
    detail += ';' + std::to_string(place) + ',' + std::to_string(constraint.op) + (is_in ? "i" : "");
    const bool is_key = column.column == Column::event_id || column.column == Column::process_key;
    is_one_process |= is_key && op == Operator::equal && !is_in;
    const double kept = std::min(1.0, selectivity(column.column, constraint.op) * (is_in ? 10 : 1));
    rows *= kept;
    // Time and keys let whole blocks be skipped; the rest still reads them.
    const bool skips = column.column == Column::time || column.column == Column::event_id ||
                       column.column == Column::process_key || column.column == Column::parent_key;
    cost *= skips ? std::max(kept, 0.002) : std::max(kept, 0.2);
  }
  info.idxNum = 0;
  if (const auto order = order_of(info, orders)) {
    info.orderByConsumed = 1;
    info.idxNum = *order;
  }
  // Guesses multiplied soon come to nothing. With one row SQLite would look for its partners without an index.
  constexpr double some_rows = 25;
  info.estimatedRows = static_cast<sqlite3_int64>(std::max(is_one_process ? 1.0 : some_rows, rows));
  info.estimatedCost = std::max(10.0, cost);
  info.idxStr = sqlite3_mprintf("%s", detail.c_str());
  if (info.idxStr == nullptr) return SQLITE_NOMEM;
  info.needToFreeIdxStr = 1;
  return SQLITE_OK;
}

// The text: the columns used, in hexadecimal, then ";place,op" a constraint, `i` after it when it is a whole IN.
PushedPlan::PushedPlan(std::string_view detail) : text_(detail) {
  const auto parts = base::split(detail, ';');
  if (!parts.empty()) used_ = std::strtoull(std::string(parts.front()).c_str(), nullptr, 16);
  for (std::size_t i = 1; i < parts.size(); ++i) {
    auto part = parts[i];
    Pushed one;
    one.is_in = part.ends_with('i');
    if (one.is_in) part.remove_suffix(1);
    const auto comma = part.find(',');
    one.place = base::parse_integer<std::size_t>(part.substr(0, comma)).value_or(0);
    one.op = base::parse_integer<int>(part.substr(comma + 1)).value_or(0);
    list_.push_back(one);
  }
}

bool PushedPlan::is_equality(std::size_t constraint) const {
  return constraint < list_.size() && list_[constraint].op == SQLITE_INDEX_CONSTRAINT_EQ && !list_[constraint].is_in;
}

bool PushedPlan::has_equality() const {
  for (std::size_t i = 0; i < list_.size(); ++i) {
    if (is_equality(i)) return true;
  }
  return false;
}

Column PushedPlan::column(std::size_t constraint, std::span<const Column> columns) const {
  return constraint < list_.size() ? columns[list_[constraint].place] : Column::event_id;
}

bool PushedPlan::uses(std::size_t place) const {
  constexpr std::size_t last_bit = 63;  // stands for every column from there on
  return (used_ >> std::min(place, last_bit) & 1) != 0;
}

store::ColumnSet PushedPlan::used(std::span<const Column> columns) const {
  store::ColumnSet set;
  for (std::size_t place = 0; place < columns.size(); ++place) {
    if (uses(place)) set.set(static_cast<std::size_t>(columns[place]));
  }
  return set;
}

ScanFilter read_filter(const PushedPlan& plan, std::span<sqlite3_value*> values, std::span<const Column> columns,
                       const LeftOut& without) {
  ScanFilter filter;
  const auto pushed = plan.list();
  for (std::size_t i = 0; i < pushed.size() && i < values.size(); ++i) {
    if (i < without.size() && without[i]) continue;
    const Column column = columns[pushed[i].place];
    if (pushed[i].is_in)
      add_in(filter, column, values[i]);
    else
      add(filter, column, pushed[i].op, values[i]);
  }
  return filter;
}

std::span<const Column> all_columns() {
  static const auto columns = [] {
    std::vector<Column> list;
    for (const auto& info : event::columns()) list.push_back(info.column);
    return list;
  }();
  return columns;
}

}  // namespace daemoneye::sql
