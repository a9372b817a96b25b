// SELECT name, count(*) FROM process_events WHERE time > … GROUP BY name reads a row for each event. It becomes
// SELECT name, sum(_n) FROM _event_groups(what, …) GROUP BY name, which reads a row, with its count, for each group
// that the store has counted from its dictionaries. A group may come in several rows, so the grouping of the statement
// stays.
//
// Done only when
// - FROM is process_events alone, and no other SELECT stands inside or lends it columns;
// - every condition of WHERE is one the store evaluates as SQLite does: a column, an operator, and a constant;
// - the aggregates are count, min and max, without FILTER and OVER, and nothing depends on which row stands for a
// group;
// - the columns read are such that several events share their values.
#include <algorithm>
#include <set>
#include <string>

#include "base/text.h"
#include "sql/catalog.h"
#include "sql/functions.h"
#include "sql/group_spec.h"
#include "sql/printer.h"
#include "sql/rewrite.h"

namespace daemoneye::sql {
namespace {

using event::Column;
using predicate::Operator;

// Nearly every event has a value of its own.
bool is_unique(Column column) {
  switch (column) {
    case Column::event_id:
    case Column::time:
    case Column::collection_time:
    case Column::start_time:
    case Column::exit_time:
    case Column::detail: return true;
    default: return false;
  }
}

bool is_aggregate(const Expr& node) {
  if (node.kind != ExprKind::call || node.over) return false;
  const auto* const info = find_function(node.text);
  if (info == nullptr) return false;
  return info->kind == FunctionKind::aggregate ||
         (info->kind == FunctionKind::scalar_or_aggregate && node.args.size() == 1);
}

std::string fingerprint(const Expr& expr) { return print(expr); }

class Attempt {
 public:
  Attempt(Core& core, std::vector<OrderTerm>* order) : core_(core), order_(order) {}

  bool worth_it() {
    if (core_.from.size() != 1 || !core_.windows.empty()) return false;
    const Source& source = core_.from.front();
    if (source.derived || source.is_function || source.printed_table != "process_events") return false;
    for (const auto& term : core_.results) {
      if (term.value.has_window) return false;
      aggregates_ |= term.value.has_aggregate;
    }
    return aggregates_ || !core_.group_by.empty() || core_.distinct;
  }

  bool examine() {
    aggregates_ |= !core_.group_by.empty() || core_.having;
    if (aggregates_ && core_.having) aggregates_ = true;
    for (const auto& term : core_.group_by) {
      const Expr& value = resolved(term);
      groups_.insert(fingerprint(value));
      if (!read(value, Inside::group)) return false;
    }
    const auto place = aggregates_ ? Inside::aggregated : Inside::group;
    for (const auto& term : core_.results) {
      if (!read(term.value, place)) return false;
    }
    if (core_.having && !read(*core_.having, place)) return false;
    if (order_ != nullptr) {
      for (const auto& term : *order_) {
        const Expr* value = &term.value;
        while (value->kind == ExprKind::collate) value = &value->args[0];
        if (!read(*value, place)) return false;
      }
    }
    for (const auto column : extremes_) {
      if (!by_.contains(column)) spec_.extremes.push_back(column);
    }
    if (std::ranges::any_of(by_, [](Column column) {
          return is_unique(column) || event::info(column).type == event::ColumnType::real;
        })) {
      return false;
    }
    spec_.by.assign(by_.begin(), by_.end());
    spec_.whole = groups_are_rows();
    return !core_.where || (condition(*core_.where) && spec_.conditions.size() <= predicate::max_conditions);
  }

  void apply() {
    Source& source = core_.from.front();
    for (auto& term : core_.results) change(term.value);
    if (core_.having) change(*core_.having);
    if (order_ != nullptr) {
      for (auto& term : *order_) change(term.value);
    }
    core_.where = {};
    if (spec_.whole) {
      core_.where = std::move(core_.having);
      core_.having = {};
      core_.group_by.clear();
      core_.distinct = false;
    }
    source.is_function = true;
    source.printed_table = event_groups_table;
    Expr what;
    what.literal_kind = LiteralKind::text;
    what.type = Type::text;
    what.text = encode(spec_);
    source.arguments.clear();
    source.arguments.push_back(std::move(what));
    for (auto& argument : arguments_) source.arguments.push_back(std::move(argument));
  }

 private:
  enum class Inside { group, aggregated, aggregate };

  // Whether the groups of the statement are exactly those of the columns read: then nothing is left to be grouped.
  bool groups_are_rows() const {
    if (by_.empty() || !spec_.extremes.empty() || distinct_counted_ || (core_.distinct && aggregates_)) return false;
    if (!std::ranges::all_of(by_, has_few_values)) return false;
    std::set<Column> grouped;
    const auto take = [&](const Expr& value) {
      const auto column = column_of(value);
      if (column) grouped.insert(*column);
      return column.has_value();
    };
    const bool plain =
        core_.distinct ? std::ranges::all_of(core_.results, [&](const ResultTerm& term) { return take(term.value); })
                       : std::ranges::all_of(core_.group_by, [&](const Expr& term) { return take(resolved(term)); });
    return plain && grouped == by_;
  }

  const Expr& resolved(const Expr& term) const {
    if (term.kind != ExprKind::output) return term;
    return core_.results[static_cast<std::size_t>(std::stoul(term.text)) - 1].value;
  }

  std::optional<Column> column_of(const Expr& node) const {
    if (node.kind != ExprKind::column || node.qualifier != core_.from.front().printed_alias) return std::nullopt;
    return event::find_column(node.text);
  }

  // Notes the columns that `node` reads; false when the groups could give it another value than the events do.
  bool read(const Expr& node, Inside inside) {
    if (node.select || node.filter || node.over) return false;
    if (inside == Inside::aggregated && groups_.contains(fingerprint(node))) inside = Inside::group;
    switch (node.kind) {
      case ExprKind::column: {
        const auto column = column_of(node);
        if (!column || inside == Inside::aggregated) return false;  // the latter: which row's value is open
        by_.insert(*column);
        return true;
      }
      case ExprKind::collate: return false;  // equal values that differ: which one is shown is open
      case ExprKind::call:
        if (is_aggregate(node)) return inside == Inside::aggregated && read_aggregate(node);
        break;
      default: break;
    }
    return std::ranges::all_of(node.args, [&](const Expr& argument) { return read(argument, inside); });
  }

  bool read_aggregate(const Expr& node) {
    if (node.text == "count") {
      distinct_counted_ |= node.distinct;
      return node.args.empty() ||
             std::ranges::all_of(node.args, [&](const Expr& argument) { return read(argument, Inside::aggregate); });
    }
    if (node.text != "min" && node.text != "max") return false;
    if (const auto column = column_of(node.args[0]); column && event::info(*column).type != event::ColumnType::text) {
      extremes_.insert(*column);
      return true;
    }
    return read(node.args[0], Inside::aggregate);
  }

  // A literal of exactly the column's type.
  static std::optional<event::Value> literal_of(const Expr& node, Column column) {
    if (node.kind == ExprKind::unary && node.text == "-" && node.args[0].kind == ExprKind::literal) {
      auto inner = literal_of(node.args[0], column);
      if (!inner || !std::holds_alternative<std::int64_t>(*inner)) return std::nullopt;
      return event::Value(-std::get<std::int64_t>(*inner));
    }
    if (node.kind != ExprKind::literal) return std::nullopt;
    const auto type = event::info(column).type;
    if (node.literal_kind == LiteralKind::text && type == event::ColumnType::text) return event::Value(node.text);
    if (node.literal_kind != LiteralKind::integer || type != event::ColumnType::integer) return std::nullopt;
    const auto number = base::parse_integer<std::int64_t>(node.text);
    return number ? std::optional(event::Value(*number)) : std::nullopt;
  }

  static std::optional<Operator> operator_of(std::string_view text, bool flipped) {
    if (text == "=") return Operator::equal;
    if (text == "<>") return Operator::not_equal;
    if (text == "<") return flipped ? Operator::greater : Operator::less;
    if (text == "<=") return flipped ? Operator::greater_equal : Operator::less_equal;
    if (text == ">") return flipped ? Operator::less : Operator::greater;
    if (text == ">=") return flipped ? Operator::less_equal : Operator::greater_equal;
    return std::nullopt;
  }

  bool compare(Column column, Operator op, const Expr& constant) {
    if (!is_constant(constant)) return false;
    spec_.conditions.push_back({column, op, false, {std::nullopt}});
    arguments_.push_back(constant);
    return arguments_.size() <= max_group_arguments;
  }

  // One of those that are joined by AND.
  bool condition(const Expr& node) {
    switch (node.kind) {
      case ExprKind::chain:
        return node.text == "AND" && std::ranges::all_of(node.args, [&](const Expr& part) { return condition(part); });
      case ExprKind::binary: {
        const auto left = column_of(node.args[0]);
        const auto right = left ? std::nullopt : column_of(node.args[1]);
        const auto op = operator_of(node.text, !left);
        if (!op || (!left && !right)) return false;
        return compare(left ? *left : *right, *op, node.args[left ? 1 : 0]);
      }
      case ExprKind::between: {
        const auto column = column_of(node.args[0]);
        return column && !node.negated && compare(*column, Operator::greater_equal, node.args[1]) &&
               compare(*column, Operator::less_equal, node.args[2]);
      }
      case ExprKind::is_null: {
        const auto column = column_of(node.args[0]);
        if (!column) return false;
        spec_.conditions.push_back({*column, node.negated ? Operator::is_not_null : Operator::is_null, false, {}});
        return true;
      }
      case ExprKind::like: {
        const auto column = column_of(node.args[0]);
        if (!column || node.args.size() != 2 || event::info(*column).type != event::ColumnType::text) return false;
        auto pattern = literal_of(node.args[1], *column);
        if (!pattern) return false;
        const auto op = node.text == "LIKE" ? Operator::like : node.text == "GLOB" ? Operator::glob : Operator::regexp;
        spec_.conditions.push_back({*column, op, node.negated, {std::move(pattern)}});
        return true;
      }
      case ExprKind::in_list: {
        const auto column = column_of(node.args[0]);
        if (!column || node.args.size() < 2 || node.args.size() > predicate::max_in_values) return false;
        GroupCondition in{*column, Operator::in, node.negated, {}};
        for (std::size_t i = 1; i < node.args.size(); ++i) {
          auto value = literal_of(node.args[i], *column);
          if (!value) return false;
          in.values.push_back(std::move(value));
        }
        spec_.conditions.push_back(std::move(in));
        return true;
      }
      default: return false;
    }
  }

  static Expr integer_zero() {
    Expr zero;
    zero.literal_kind = LiteralKind::integer;
    zero.type = Type::integer;
    zero.text = "0";
    return zero;
  }
  static Expr without_affinity(Expr value) {
    Expr plus;
    plus.kind = ExprKind::unary;
    plus.text = "+";
    plus.type = value.type;
    plus.at = value.at;
    plus.height = value.height + 1;
    plus.args.push_back(std::move(value));
    return plus;
  }

  void change(Expr& node) {
    if (!is_aggregate(node)) {
      for (auto& argument : node.args) change(argument);
      return;
    }
    if (node.text != "count") {
      if (spec_.whole) {
        // min and max of one row: the value itself, without the affinity that a column has.
        Expr value = std::move(node.args[0]);
        node = without_affinity(std::move(value));
      }
      return;
    }
    if (node.distinct) return;
    Expr rows;
    rows.kind = ExprKind::column;
    rows.type = Type::integer;
    rows.qualifier = core_.from.front().printed_alias;
    rows.text = group_count_column;
    if (spec_.whole) {
      Expr count = without_affinity(std::move(rows));
      if (!node.args.empty()) {
        Expr choice;
        choice.kind = ExprKind::case_of;
        choice.type = Type::integer;
        choice.at = node.at;
        choice.has_else = true;
        Expr none;
        none.kind = ExprKind::is_null;
        none.type = Type::integer;
        none.height = node.args[0].height + 1;
        none.args.push_back(std::move(node.args[0]));
        choice.height = none.height + 1;
        choice.args.push_back(std::move(none));
        choice.args.push_back(integer_zero());
        choice.args.push_back(std::move(count));
        count = std::move(choice);
      }
      node = std::move(count);
      return;
    }
    Expr sum;
    sum.kind = ExprKind::call;
    sum.text = "sum";
    sum.type = Type::integer;
    sum.has_aggregate = true;
    sum.height = node.height + 1;
    sum.args.push_back(std::move(rows));
    if (!node.args.empty()) {
      Expr there;
      there.kind = ExprKind::is_null;
      there.negated = true;
      there.type = Type::integer;
      there.height = node.args[0].height + 1;
      there.args.push_back(std::move(node.args[0]));
      sum.filter = std::move(there);
    }
    sum.at = node.at;
    if (!sum.filter && !core_.group_by.empty()) {
      node = std::move(sum);
      return;
    }
    // Of nothing the sum is NULL, but the count 0.
    Expr whole;
    whole.kind = ExprKind::call;
    whole.text = "coalesce";
    whole.type = Type::integer;
    whole.at = node.at;
    whole.has_aggregate = true;
    whole.height = sum.height + 1;
    whole.args.push_back(std::move(sum));
    whole.args.push_back(integer_zero());
    node = std::move(whole);
  }

  Core& core_;
  std::vector<OrderTerm>* order_;
  bool aggregates_ = false, distinct_counted_ = false;
  std::set<std::string> groups_;  // what the groups are made by, as printed
  std::set<Column> by_, extremes_;
  GroupSpec spec_;
  std::vector<Expr> arguments_;
};

void rewrite_within(Expr& node);

void rewrite_within(Core& core) {
  for (auto& term : core.results) rewrite_within(term.value);
  for (auto& source : core.from) {
    if (source.derived) rewrite(*source.derived);
    if (source.on) rewrite_within(*source.on);
    for (auto& argument : source.arguments) rewrite_within(argument);
  }
  if (core.where) rewrite_within(*core.where);
  for (auto& term : core.group_by) rewrite_within(term);
  if (core.having) rewrite_within(*core.having);
}

void rewrite_within(Expr& node) {
  if (node.select) rewrite(*node.select);
  for (auto& argument : node.args) rewrite_within(argument);
  if (node.filter) rewrite_within(*node.filter);
}

}  // namespace

bool is_constant(const Expr& node) {
  switch (node.kind) {
    case ExprKind::literal: return node.literal_kind != LiteralKind::blob && node.literal_kind != LiteralKind::null;
    case ExprKind::parameter: return true;
    case ExprKind::unary: return (node.text == "-" || node.text == "+") && is_constant(node.args[0]);
    case ExprKind::binary:
      return (node.text == "+" || node.text == "-" || node.text == "*" || node.text == "/" || node.text == "%") &&
             is_constant(node.args[0]) && is_constant(node.args[1]);
    case ExprKind::call: {
      const auto* const info = find_function(node.text);
      const bool ours = node.text == to_ns_function || node.text == ago_function || node.text == not_now_function;
      const bool known = info != nullptr && info->kind == FunctionKind::date;
      return (ours || known) && !node.over && !node.filter && std::ranges::all_of(node.args, is_constant);
    }
    default: return false;
  }
}

void rewrite(Select& select) {
  for (auto& table : select.with) rewrite(*table.select);
  for (auto& term : select.order) rewrite_within(term.value);
  for (auto& core : select.cores) {
    rewrite_within(core);
    Attempt attempt(core, select.cores.size() == 1 ? &select.order : nullptr);
    if (attempt.worth_it() && attempt.examine()) attempt.apply();
  }
}

}  // namespace daemoneye::sql
