// Expressions: names, functions, and what may stand where.
#include <algorithm>
#include <bit>

#include "base/text.h"
#include "sql/binder.h"
#include "sql/catalog.h"
#include "sql/regexp.h"

namespace daemoneye::sql {
namespace {

std::size_t count_nodes(const Expr& expr);

std::size_t count_nodes(const Select& select) {
  std::size_t count = 1;
  for (const auto& core : select.cores) {
    for (const auto& term : core.results) count += count_nodes(term.value);
    for (const auto& source : core.from) {
      count += 1 + (source.derived ? count_nodes(*source.derived) : 0) + (source.on ? count_nodes(*source.on) : 0);
      for (const auto& argument : source.arguments) count += count_nodes(argument);
    }
    if (core.where) count += count_nodes(*core.where);
    for (const auto& term : core.group_by) count += count_nodes(term);
    if (core.having) count += count_nodes(*core.having);
  }
  for (const auto& table : select.with) count += count_nodes(*table.select);
  return count;
}

std::size_t count_nodes(const Expr& expr) {
  std::size_t count = 1;
  for (const auto& argument : expr.args) count += count_nodes(argument);
  if (expr.select) count += count_nodes(*expr.select);
  if (expr.filter) count += count_nodes(*expr.filter);
  if (expr.over) count += 1 + expr.over->partition.size() + expr.over->order.size();
  return count;
}

bool is_text_literal(const Expr& expr) {
  return expr.kind == ExprKind::literal && expr.literal_kind == LiteralKind::text;
}

bool is_comparison(std::string_view op) {
  return op == "=" || op == "<>" || op == "<" || op == "<=" || op == ">" || op == ">=" || op == "IS" || op == "IS NOT";
}

Type literal_type(LiteralKind kind) {
  switch (kind) {
    case LiteralKind::null: return Type::null;
    case LiteralKind::integer:
    case LiteralKind::boolean: return Type::integer;
    case LiteralKind::real: return Type::real;
    case LiteralKind::text: return Type::text;
    case LiteralKind::blob: return Type::blob;
  }
  return Type::unknown;
}

// One type for values of which any may be given: time when all are times or NULL.
Type common_type(const std::vector<const Expr*>& values) {
  Type type = Type::null;
  for (const auto* const value : values) {
    if (value->type == Type::null || value->type == type) continue;
    if (type != Type::null) return Type::unknown;
    type = value->type;
  }
  return type;
}

// How many values a bound expression stands for.
std::size_t width_of(const Expr& expr) {
  if (expr.kind == ExprKind::row) return expr.args.size();
  return expr.kind == ExprKind::scalar ? expr.select->cores.front().results.size() : 1;
}

// Some of what is allowed, so that a message stays one.
std::string beginning_of(const std::vector<std::string_view>& names) {
  constexpr std::size_t most = 8;
  std::string all;
  for (std::size_t i = 0; i < names.size() && i < most; ++i) all += (i > 0 ? ", " : "") + base::printable(names[i]);
  return names.size() > most ? all + ", …" : all;
}

}  // namespace

void Binder::finish(Expr& node) {
  unsigned below = 0;
  for (const auto& argument : node.args) {
    below = std::max(below, argument.height);
    node.has_aggregate |= argument.has_aggregate;
    node.has_window |= argument.has_window;
  }
  if (node.select) below = std::max(below, node.select->height);
  if (node.filter) below = std::max(below, node.filter->height);
  const auto own = node.kind == ExprKind::chain ? static_cast<unsigned>(std::bit_width(node.args.size())) : 1U;
  node.height = std::max(node.height, below + own);
  // Naming result columns elsewhere makes trees taller than they were written; SQLite's own bound is 1000.
  constexpr unsigned max_bound_height = 400;
  if (node.height > max_bound_height)
    refuse(node.at, node.text, "expressions are nested too deeply, result columns named elsewhere included");
}

void Binder::arguments(std::vector<Expr>& list, Scope& scope, const Place& place) {
  for (auto& argument : list) expression(argument, scope, place);
}

void Binder::expression(Expr& node, Scope& scope, const Place& place, bool row_allowed) {
  switch (node.kind) {
    case ExprKind::literal: node.type = literal_type(node.literal_kind); return;
    case ExprKind::parameter:
      parameters_.insert(node.text);
      if (parameters_.size() > max_parameters)
        refuse(node.at, node.text, "at most " + std::to_string(max_parameters) + " parameters are allowed");
      // Positional ones get a name: SQLite would number the named ones in between.
      if (node.text.front() == '?') node.text = "_p" + node.text.substr(1);
      return;
    case ExprKind::column: column(node, scope, place); return;
    case ExprKind::output: return;
    case ExprKind::unary:
      arguments(node.args, scope, place);
      node.type = node.text == "+" ? node.args[0].type : node.text == "-" ? Type::real : Type::integer;
      break;
    case ExprKind::binary: comparison(node, scope, place); break;
    case ExprKind::chain:
    case ExprKind::is_null:
      arguments(node.args, scope, place);
      node.type = Type::integer;
      break;
    case ExprKind::like: like(node, scope, place); break;
    case ExprKind::between: between(node, scope, place); break;
    case ExprKind::in_list:
    case ExprKind::in_select: in(node, scope, place); break;
    case ExprKind::exists:
      subselect(node, scope, 0);
      node.type = Type::integer;
      break;
    case ExprKind::scalar: subselect(node, scope, row_allowed ? 0 : 1); break;
    case ExprKind::row:
      if (!row_allowed)
        refuse(node.at, "(", "a row of values can only be compared with a row, or stand before IN (SELECT …)");
      arguments(node.args, scope, place);
      break;
    case ExprKind::case_of: case_of(node, scope, place); break;
    case ExprKind::cast:
      arguments(node.args, scope, place);
      node.type = node.text == "INTEGER" ? Type::integer
                  : node.text == "REAL"  ? Type::real
                  : node.text == "TEXT"  ? Type::text
                  : node.text == "BLOB"  ? Type::blob
                                         : Type::unknown;
      break;
    case ExprKind::collate:
      arguments(node.args, scope, place);
      node.type = node.args[0].type;
      break;
    case ExprKind::call: call(node, scope, place); break;
  }
  finish(node);
}

bool Binder::resolve(Expr& node, Scope& scope) {
  const VisibleSource* found_in = nullptr;
  const VisibleColumn* found = nullptr;
  for (const auto& source : scope.sources) {
    if (!node.qualifier.empty() && !same_name(source.alias, node.qualifier)) continue;
    for (const auto& candidate : source.columns) {
      if (!same_name(candidate.name, node.text) || (node.qualifier.empty() && candidate.merged)) continue;
      if (found != nullptr) {
        if (found_in == &source) break;  // a subquery with a name twice: the first, as in SQLite
        refuse(node.at, node.text,
               "the column " + base::printable(node.text) + " is in " + base::printable(found_in->alias) + " and in " +
                   base::printable(source.alias) + "; write which one, as in " + base::printable(source.alias) + "." +
                   base::printable(node.text));
      }
      found_in = &source;
      found = &candidate;
    }
  }
  if (found == nullptr) return false;
  node.qualifier = found_in->printed_alias;
  node.text = found->name;
  node.type = found->type;
  for (auto& aggregate : aggregates_) {
    if (aggregate.scope == &scope) {
      aggregate.local = true;
    } else {
      // Outside of the aggregate's own SELECT?
      for (const Scope* outer = aggregate.scope->outer; outer != nullptr; outer = outer->outer) {
        if (outer == &scope) aggregate.outer = true;
      }
    }
  }
  return true;
}

bool Binder::resolve_alias(Expr& node, Scope& scope, const Place& place) {
  if (!place.aliases || scope.results == nullptr || !node.qualifier.empty()) return false;
  for (const auto& term : *scope.results) {
    if ((!term.named && !scope.aliases_first) || !same_name(term.name, node.text)) continue;
    if (term.value.has_aggregate && (!place.aggregates || !aggregates_.empty())) {
      refuse(node.at, node.text,
             base::printable(term.name) + " is an aggregate and cannot stand in " + std::string(place.name));
    }
    if (term.value.has_window && !place.windows) {
      refuse(node.at, node.text,
             base::printable(term.name) + " is a window function and cannot stand in " + std::string(place.name));
    }
    cloned_ += count_nodes(term.value);
    if (cloned_ > max_cloned_nodes)
      refuse(node.at, node.text, "result columns are named too often elsewhere in the statement");
    const Position at = node.at;
    Expr copy = term.value;
    node = std::move(copy);
    node.at = at;
    return true;
  }
  return false;
}

void Binder::column(Expr& node, Scope& scope, const Place& place) {
  if (scope.aliases_first && resolve_alias(node, scope, place)) return;
  if (resolve(node, scope) || resolve_alias(node, scope, place)) return;
  for (Scope* outer = scope.outer; outer != nullptr; outer = outer->outer) {
    if (resolve(node, *outer)) return;
  }
  unknown_column(node, scope, place);
}

void Binder::unknown_column(const Expr& node, const Scope& scope, const Place& place) const {
  std::vector<std::string_view> names;
  bool qualifier_known = node.qualifier.empty();
  std::vector<std::string_view> aliases;
  for (const Scope* s = &scope; s != nullptr; s = s->outer) {
    for (const auto& source : s->sources) {
      aliases.push_back(source.alias);
      if (!node.qualifier.empty() && !same_name(source.alias, node.qualifier)) continue;
      qualifier_known = true;
      for (const auto& candidate : source.columns) names.push_back(candidate.name);
    }
  }
  if (place.aliases && scope.results != nullptr && node.qualifier.empty()) {
    for (const auto& term : *scope.results) names.push_back(term.name);
  }
  const std::string shown =
      (node.qualifier.empty() ? "" : base::printable(node.qualifier) + ".") + base::printable(node.text);
  if (!qualifier_known) {
    const auto near = base::nearest(lower_case(node.qualifier), aliases);
    refuse(node.at, shown,
           "unknown table " + base::printable(node.qualifier) +
               (near.empty() ? " in " + shown : "; did you mean " + base::printable(near) + "?"));
  }
  const auto near = base::nearest(lower_case(node.text), names);
  std::string message = "unknown column " + shown;
  if (!near.empty())
    message += "; did you mean " + base::printable(near) + "?";
  else if (scope.sources.empty() && scope.outer == nullptr)
    message += "; there is no FROM it could come from";
  else
    message += "; there are " + beginning_of(names);
  if (node.at.offset < text_.size() && text_[node.at.offset] == '"' && near.empty()) {
    message += " (\" quotes names; a string is written '" + base::printable(node.text) + "')";
  }
  refuse(node.at, shown, std::move(message));
}

// Rows have as many parts, and what stands beside a time becomes one.
void Binder::compared(Expr& left, Expr& right, const Position& at) {
  const std::size_t wide = width_of(left);
  if (wide != width_of(right)) refuse(at, "(", "a row is compared with a row of as many values");
  if (wide == 1) return as_time_pair(left, right);
  const auto part_type = [](const Expr& row, std::size_t i) {
    return row.kind == ExprKind::row ? row.args[i].type : row.select->cores.front().results[i].value.type;
  };
  for (auto* const side : {&left, &right}) {
    const Expr& other = side == &left ? right : left;
    std::vector<bool> wanted(wide);
    for (std::size_t i = 0; i < wide; ++i) {
      wanted[i] = part_type(other, i) == Type::time && part_type(*side, i) != Type::time;
      if (wanted[i] && side->kind == ExprKind::row) as_time(side->args[i]);
    }
    if (side->kind == ExprKind::scalar) columns_as_time(side->select, wanted);
  }
}

void Binder::between(Expr& node, Scope& scope, const Place& place) {
  for (auto& argument : node.args) expression(argument, scope, place, true);
  node.type = Type::integer;
  Expr& value = node.args[0];
  if (width_of(value) == 1 && value.type != Type::time && width_of(node.args[1]) == 1 && width_of(node.args[2]) == 1) {
    if (node.args[1].type == Type::time && node.args[2].type == Type::time) as_time(value);
    return;
  }
  compared(value, node.args[1], node.at);
  compared(value, node.args[2], node.at);
}

void Binder::case_of(Expr& node, Scope& scope, const Place& place) {
  const std::size_t first = node.has_base ? 1 : 0;
  const std::size_t end = node.args.size() - (node.has_else ? 1 : 0);
  for (std::size_t i = 0; i < node.args.size(); ++i) {
    const bool is_compared = node.has_base && (i == 0 || (i < end && i % 2 == 1));
    expression(node.args[i], scope, place, is_compared);
  }
  std::vector<const Expr*> values;
  for (std::size_t i = first; i < end; i += 2) {
    if (node.has_base) compared(node.args[0], node.args[i], node.at);
    values.push_back(&node.args[i + 1]);
  }
  if (node.has_else) values.push_back(&node.args.back());
  node.type = common_type(values);
}

void Binder::comparison(Expr& node, Scope& scope, const Place& place) {
  const bool compares = is_comparison(node.text);
  for (auto& side : node.args) expression(side, scope, place, compares);
  Expr& left = node.args[0];
  Expr& right = node.args[1];
  if (compares) {
    compared(left, right, node.at);
    node.type = Type::integer;
  } else if (node.text == "||" || node.text == "->") {
    node.type = Type::text;
  } else if (node.text == "->>") {
    node.type = Type::unknown;
  } else {
    const bool bits = node.text == "&" || node.text == "|" || node.text == "<<" || node.text == ">>";
    node.type = bits ? Type::integer : Type::real;
    // A time with a span added or taken away is a time again.
    const bool sum = node.text == "+" || node.text == "-";
    if (sum && left.type == Type::time && (right.type == Type::integer)) node.type = Type::time;
  }
}

void Binder::in(Expr& node, Scope& scope, const Place& place) {
  Expr& value = node.args[0];
  expression(value, scope, place, node.kind == ExprKind::in_select);
  node.type = Type::integer;
  if (node.kind == ExprKind::in_list) {
    for (std::size_t i = 1; i < node.args.size(); ++i) {
      expression(node.args[i], scope, place);
      if (value.type == Type::time) as_time(node.args[i]);
    }
    return;
  }
  const std::size_t wanted = width_of(value);
  const auto columns = select(*node.select, &scope);
  if (columns.size() != wanted) {
    refuse(
        node.at, "IN",
        "the SELECT after IN has " + std::to_string(columns.size()) + " columns; expected " + std::to_string(wanted));
  }
  std::vector<bool> as_times(wanted);
  for (std::size_t i = 0; i < wanted; ++i) {
    const Type type = value.kind == ExprKind::row                    ? value.args[i].type
                      : value.kind == ExprKind::scalar && wanted > 1 ? value.select->cores.front().results[i].value.type
                                                                     : value.type;
    as_times[i] = type == Type::time && columns[i].type != Type::time && columns[i].type != Type::integer;
  }
  columns_as_time(node.select, as_times);
}

void Binder::like(Expr& node, Scope& scope, const Place& place) {
  arguments(node.args, scope, place);
  node.type = Type::integer;
  const Expr& pattern = node.args[1];
  if (is_text_literal(pattern)) {
    if (pattern.text.size() > max_pattern_bytes) {
      refuse(pattern.at, "", node.text + ": the pattern has more than " + std::to_string(max_pattern_bytes) + " bytes");
    }
    if (node.text == "REGEXP") {
      if (auto checked = check_regexp(pattern.text); !checked) {
        refuse(pattern.at, quote_for_message(pattern.text), checked.error().message);
      }
    }
  }
  if (node.args.size() > 2 && is_text_literal(node.args[2])) {
    const auto& escape = node.args[2].text;
    const auto characters =
        std::ranges::count_if(escape, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
    if (characters != 1) refuse(node.args[2].at, quote_for_message(escape), "ESCAPE takes one character");
  }
}

void Binder::subselect(Expr& node, Scope& scope, std::size_t wanted_columns) {
  const auto columns = select(*node.select, &scope);
  if (wanted_columns != 0 && columns.size() != wanted_columns) {
    refuse(node.at, "(",
           "a SELECT that stands for a value has one column; this one has " + std::to_string(columns.size()));
  }
  node.type = columns.front().type;
}

void Binder::call(Expr& node, Scope& scope, const Place& place) {
  const auto* const info = find_function(node.text);
  if (info == nullptr) {
    std::vector<std::string_view> names;
    for (const auto& name : functions()) names.push_back(name);
    const auto near = base::nearest(node.text, names);
    std::string message = "unknown function " + base::printable(node.text);
    if (find_table_function(node.text) != nullptr)
      message = node.text + "(…) gives rows: it stands in FROM";
    else if (!near.empty())
      message += "; did you mean " + std::string(near) + "?";
    else
      message += "; docs/sql.md lists those that are allowed";
    refuse(node.at, node.text, std::move(message));
  }
  const auto count = static_cast<int>(node.args.size());
  const bool star_is_fine = node.text == "count";
  if ((node.star && !star_is_fine) || count < info->min_arguments || count > info->max_arguments) {
    refuse(node.at, node.text, "wrong arguments; expected " + std::string(info->usage));
  }
  const bool aggregate = info->kind == FunctionKind::aggregate || info->kind == FunctionKind::window ||
                         (info->kind == FunctionKind::scalar_or_aggregate && count == 1);
  if (aggregate) return aggregate_call(node, *info, scope, place);
  if (node.distinct) refuse(node.at, node.text, "DISTINCT belongs to aggregates");
  if (node.filter) refuse(node.at, node.text, "FILTER belongs to aggregates");
  if (node.over) refuse(node.at, node.text, node.text + " is not a window function: it takes no OVER");
  arguments(node.args, scope, place);
  node.type = info->result;
  if (info->kind == FunctionKind::date)
    date_call(node);
  else if (node.text == "ago")
    ago_call(node);
  else if (node.text == "printf" || node.text == "format")
    format_call(node);
  else if (node.text == "nullif")
    node.type = node.args[0].type;
  else if (info->result == Type::unknown && node.text != "json_extract") {
    std::vector<const Expr*> values;
    for (std::size_t i = node.text == "iif" ? 1 : 0; i < node.args.size(); ++i) values.push_back(&node.args[i]);
    node.type = common_type(values);
  }
}

// printf('%.*c', 900000000, 'x') keeps SQLite busy for seconds without a look at the clock.
void Binder::format_call(const Expr& node) {
  const Expr& format = node.args[0];
  constexpr std::size_t max_width_digits = 3;
  if (!is_text_literal(format)) refuse(format.at, node.text, node.text + " takes a literal format");
  std::size_t digits = 0;
  for (std::size_t i = 0; i < format.text.size(); ++i) {
    const char c = format.text[i];
    digits = c < '0' || c > '9' ? 0 : digits == 0 && c == '0' ? 0 : digits + 1;  // a 0 before them is a flag
    const auto percent = format.text.rfind('%', i);
    const bool in_directive =
        percent != std::string::npos && format.text.find_first_not_of("0123456789.+-# ,!lh*", percent + 1) >= i;
    if (in_directive && (c == '*' || digits > max_width_digits)) {
      refuse(format.at, quote_for_message(format.text),
             "a format's width and precision are written out, with at most 3 digits");
    }
  }
}

void Binder::aggregate_call(Expr& node, const FunctionInfo& info, Scope& scope, const Place& place) {
  const bool windowed = static_cast<bool>(node.over);
  if (info.kind == FunctionKind::window && !windowed)
    refuse(node.at, node.text, node.text + " needs OVER: " + std::string(info.usage));
  if (info.kind == FunctionKind::window && node.filter) refuse(node.at, node.text, "FILTER belongs to aggregates");
  if (node.distinct && (windowed || node.args.size() != 1)) {
    refuse(node.at, node.text, windowed ? "DISTINCT cannot be used with OVER" : "DISTINCT takes one argument");
  }
  if (windowed ? !place.windows : !place.aggregates) {
    refuse(node.at, node.text,
           (windowed ? "the window function " : "the aggregate ") + node.text + " cannot stand in " +
               (place.name.empty() ? "this place" : std::string(place.name)));
  }
  if (!windowed && std::ranges::any_of(aggregates_, [&](const auto& other) { return other.scope == &scope; })) {
    refuse(node.at, node.text, "aggregates cannot be nested");
  }
  // What stands inside: nothing aggregated within an aggregate, but a window function may be over aggregates.
  const Place inside{.name = windowed ? "a window function" : "an aggregate",
                     .aggregates = windowed && place.aggregates,
                     .windows = false,
                     .aliases = place.aliases};
  if (!windowed) aggregates_.push_back({&scope});
  arguments(node.args, scope, inside);
  if (node.filter) {
    expression(*node.filter, scope, {.name = "FILTER", .aggregates = inside.aggregates, .aliases = place.aliases});
  }
  if (windowed) {
    window(node, scope, inside);
    node.has_window = true;
    if (node.filter) node.has_aggregate |= node.filter->has_aggregate;
  } else {
    const auto seen = aggregates_.back();
    aggregates_.pop_back();
    if (seen.outer && !seen.local) {
      refuse(node.at, node.text, "this aggregate names columns of an outer SELECT only");
    }
    node.has_aggregate = true;
  }
  node.type = info.result;
  if (info.result == Type::unknown && !node.args.empty()) node.type = node.args[0].type;
}

void Binder::window(Expr& node, Scope& scope, const Place& place) {
  Window& over = *node.over;
  if (!over.base.empty()) window_base(over, scope.windows == nullptr ? std::vector<Window>() : *scope.windows);
  if (!over.is_reference) {
    window_parts(over, scope, place);
    const auto note = [&](const Expr& part) { node.has_aggregate |= part.has_aggregate; };
    for (const auto& part : over.partition) note(part);
    for (const auto& term : over.order) note(term.value);
    return;
  }
  window_base(over, scope.windows == nullptr ? std::vector<Window>() : *scope.windows);
}

// What it refers to or is built on is there, and adds up to a window.
void Binder::window_base(const Window& node, const std::vector<Window>& known) {
  const std::string& wanted = node.is_reference ? node.name : node.base;
  const auto base = std::ranges::find_if(known, [&](const Window& one) { return same_name(one.name, wanted); });
  if (base == known.end()) {
    std::vector<std::string_view> names;
    for (const auto& one : known) names.push_back(one.name);
    const auto near = base::nearest(wanted, names);
    refuse(
        node.at, wanted,
        "unknown window " + base::printable(wanted) +
            (near.empty() ? "; it is defined in the WINDOW clause" : "; did you mean " + base::printable(near) + "?"));
  }
  if (node.is_reference) return;
  if (!base->unit.empty()) refuse(node.at, wanted, "a window cannot be built on one that has a frame");
  if (!base->order.empty() && !node.order.empty()) {
    refuse(node.at, wanted, "a window built on another cannot have a second ORDER BY");
  }
  const auto& order = node.order.empty() ? base->order : node.order;
  const bool has_distance = node.from.distance || node.to.distance;
  if (node.unit == "RANGE" && has_distance && order.size() != 1) {
    refuse(node.at, "RANGE", "RANGE with a distance needs exactly one ORDER BY term in the window");
  }
  if (node.unit == "GROUPS" && order.empty()) refuse(node.at, "GROUPS", "GROUPS needs ORDER BY in the window");
}

void Binder::window_parts(Window& node, Scope& scope, const Place& place) {
  for (auto& part : node.partition) expression(part, scope, place);
  for (auto& term : node.order) expression(term.value, scope, place);
  for (auto* const bound : {&node.from, &node.to}) {
    if (bound->distance) expression(*bound->distance, scope, place);
  }
}

}  // namespace daemoneye::sql
