// SELECTs and their clauses.
#include "sql/binder.h"

#include <algorithm>
#include <charconv>

#include "base/text.h"
#include "sql/catalog.h"

namespace daemoneye::sql {
namespace {

std::string quoted(std::string_view name) { return base::printable(name); }

std::string did_you_mean(std::string_view name, const std::vector<std::string_view>& candidates) {
  const auto folded = lower_case(name);
  const auto near = base::nearest(folded, candidates);
  return near.empty() ? "" : "; did you mean " + std::string(near) + "?";
}

}  // namespace

Expr make_call(std::string_view function, Type type, const Position& at, std::vector<Expr> arguments) {
  Expr call;
  call.kind = ExprKind::call;
  call.at = at;
  call.text = function;
  call.type = type;
  unsigned below = 0;
  for (const auto& argument : arguments) {
    below = std::max(below, argument.height);
    call.has_aggregate |= argument.has_aggregate;
    call.has_window |= argument.has_window;
  }
  call.args = std::move(arguments);
  call.height = below + 1;
  return call;
}

Expr make_and(Expr left, Expr right) {
  Expr both;
  both.kind = ExprKind::chain;
  both.text = "AND";
  both.type = Type::integer;
  both.at = left.at;
  both.height = std::max(left.height, right.height) + 1;
  both.args.push_back(std::move(left));
  both.args.push_back(std::move(right));
  return both;
}

std::vector<OutputColumn> Binder::statement(Select& node) {
  root_ = &node;
  return select(node, nullptr);
}

void Binder::count_tables(std::size_t weight, const Position& at) {
  expanded_ += weight;
  if (expanded_ > max_expanded_tables) {
    refuse(at, "",
           "the statement reads more than " + std::to_string(max_expanded_tables) +
               " tables, counting a common table expression each time it is used");
  }
}

std::string Binder::unique_name(const std::string& wanted) {
  std::string name = wanted;
  for (unsigned n = 2; !names_.insert(lower_case(name)).second; ++n) name = wanted + ":" + std::to_string(n);
  return name;
}

Binder::Cte* Binder::find_cte(std::string_view name) {
  for (auto frame = ctes_.rbegin(); frame != ctes_.rend(); ++frame) {
    for (auto& cte : *frame) {
      if (same_name(cte.name, name)) return &cte;
    }
  }
  return nullptr;
}

std::vector<OutputColumn> Binder::select(Select& node, Scope* outer) {
  ctes_.emplace_back();
  with(node);
  std::vector<OutputColumn> columns;
  const bool alone = node.cores.size() == 1;
  for (auto& part : node.cores) {
    Scope scope;
    scope.outer = outer;
    auto found = core(part, scope, alone, alone ? &node.order : nullptr);
    if (&node == root_) outermost_ = std::move(scope.sources);
    if (&part == &node.cores.front()) {
      columns = std::move(found);
      continue;
    }
    if (found.size() != columns.size()) {
      refuse(part.at, "SELECT",
             "the SELECTs joined by " + part.op + " have " + std::to_string(columns.size()) + " and " +
                 std::to_string(found.size()) + " columns");
    }
    for (std::size_t i = 0; i < columns.size(); ++i) {
      if (columns[i].type == Type::null)
        columns[i].type = found[i].type;
      else if (found[i].type != columns[i].type && found[i].type != Type::null)
        columns[i].type = Type::unknown;
    }
  }
  if (!alone) compound_order(node.order, columns);
  limit(node.limit, "LIMIT");
  limit(node.offset, "OFFSET");
  ctes_.pop_back();
  return columns;
}

void Binder::with(Select& node) {
  for (auto& table : node.with) {
    if (find_table(table.name) != nullptr || find_table_function(table.name) != nullptr ||
        lower_case(table.name).starts_with("sqlite_")) {
      refuse(table.at, table.name, "a common table expression cannot have the name of a table");
    }
    for (const auto& other : ctes_.back()) {
      if (same_name(other.name, table.name))
        refuse(table.at, table.name, "the name " + quoted(table.name) + " is there twice");
    }
    common_table(node, table);
  }
}

void Binder::common_table(Select& owner, CommonTable& table) {
  Select& body = *table.select;
  table.printed_name = unique_name(std::string(with_prefix) + table.name);
  Cte cte;
  cte.name = table.name;
  cte.printed_name = table.printed_name;
  cte.being_defined = true;
  ctes_.back().push_back(std::move(cte));
  const auto frame = ctes_.size() - 1;
  const auto index = ctes_.back().size() - 1;
  const auto self = [&]() -> Cte& { return ctes_[frame][index]; };

  Core& last = body.cores.back();
  const bool recursive = body.cores.size() > 1 && std::ranges::any_of(last.from, [&](const Source& source) {
                           return !source.derived && !source.is_function && same_name(source.table, table.name);
                         });
  const std::size_t before = expanded_;
  std::vector<OutputColumn> columns;
  const auto rename = [&] {
    if (table.columns.empty()) {
      for (const auto& column : columns) table.columns.push_back(column.name);
      return;
    }
    if (table.columns.size() != columns.size()) {
      refuse(table.at, table.name,
             quoted(table.name) + " names " + std::to_string(table.columns.size()) + " columns, but its SELECT has " +
                 std::to_string(columns.size()));
    }
    for (std::size_t i = 0; i < columns.size(); ++i) columns[i].name = table.columns[i];
  };
  if (!recursive) {
    columns = select(body, nullptr);
    rename();
  } else {
    if (!last.op.starts_with("UNION")) {
      refuse(last.at, "SELECT", "a recursive common table expression is joined by UNION or UNION ALL");
    }
    // The part that begins, then the part that names the table itself.
    Core step = std::move(last);
    body.cores.pop_back();
    auto order = std::exchange(body.order, {});
    auto most = std::exchange(body.limit, {});
    auto skip = std::exchange(body.offset, {});
    columns = select(body, nullptr);
    rename();
    self().columns = columns;
    body.cores.push_back(std::move(step));
    Core& part = body.cores.back();
    self().recursive_core = &part;
    Scope scope;
    const auto found = core(part, scope, false, nullptr);
    if (found.size() != columns.size())
      refuse(part.at, "SELECT", "both parts of a recursive table need the same columns");
    if (self().recursive_uses != 1) refuse(part.at, "SELECT", "a recursive table can be named once in its own FROM");
    const bool aggregates = !part.group_by.empty() || std::ranges::any_of(part.results, [](const ResultTerm& term) {
      return term.value.has_aggregate || term.value.has_window;
    });
    if (aggregates) refuse(part.at, "SELECT", "the recursive part can have no aggregate, GROUP BY or window function");
    // Bounded at run time, with an error rather than a silent end.
    // It is given a column of each source, so that SQLite cannot ask it before all of them have a row.
    std::vector<Expr> of_each;
    for (const auto& source : scope.sources) {
      Expr reference;
      reference.kind = ExprKind::column;
      reference.at = part.at;
      reference.qualifier = source.printed_alias;
      reference.text = source.columns.front().name;
      reference.type = source.columns.front().type;
      of_each.push_back(std::move(reference));
    }
    Expr step_counter = make_call(recursion_guard_function, Type::integer, part.at, std::move(of_each));
    part.where = part.where ? make_and(*part.where, std::move(step_counter)) : std::move(step_counter);
    body.order = std::move(order);
    body.limit = std::move(most);
    body.offset = std::move(skip);
    compound_order(body.order, columns);
    limit(body.limit, "LIMIT");
    limit(body.offset, "OFFSET");
    owner.recursive = true;
  }
  Cte& done = self();
  done.columns = std::move(columns);
  done.being_defined = false;
  done.recursive_core = nullptr;
  done.weight = std::max<std::size_t>(1, expanded_ - before);
}

std::vector<OutputColumn> Binder::core(Core& node, Scope& scope, bool alone, std::vector<OrderTerm>* order) {
  from(node, scope);
  expand_stars(node, scope);
  scope.windows = &node.windows;
  for (auto& window : node.windows) {
    for (const auto& other : node.windows) {
      if (&other != &window && same_name(other.name, window.name))
        refuse(window.at, window.name, "this window is there twice");
    }
    if (!window.base.empty()) {
      window_base(window, {node.windows.begin(), node.windows.begin() + (&window - node.windows.data())});
    }
    window_parts(window, scope, {.name = "WINDOW", .aggregates = true});
  }
  bool is_aggregate = !node.group_by.empty();
  for (auto& term : node.results) {
    expression(term.value, scope, {.name = "the result", .aggregates = true, .windows = true});
    is_aggregate |= term.value.has_aggregate;
  }
  auto columns = name_outputs(node);
  scope.results = &node.results;
  if (node.where) expression(*node.where, scope, {.name = "WHERE", .aliases = true});
  group_by(node, scope);
  if (node.having) {
    if (!is_aggregate) refuse(node.having->at, "HAVING", "HAVING needs GROUP BY or an aggregate");
    expression(*node.having, scope, {.name = "HAVING", .aggregates = true, .aliases = true});
  }
  if (alone && order != nullptr) order_by(*order, node, scope, is_aggregate);
  return columns;
}

void Binder::from(Core& node, Scope& scope) {
  for (auto& item : node.from) {
    auto visible = source(item, node, scope);
    for (const auto& other : scope.sources) {
      if (same_name(other.alias, visible.alias)) {
        refuse(item.at, visible.alias,
               "the name " + quoted(visible.alias) + " is there twice; give one of them another with AS");
      }
    }
    scope.sources.push_back(std::move(visible));
    if (!item.using_columns.empty()) join_using(item, scope);
    if (item.on) {
      expression(*item.on, scope, {.name = "ON"});
      if (item.join == Join::left) hide_from_the_left(*item.on, item.printed_alias);
    }
  }
}

// SQLite (3.40 at least) gives LIKE, GLOB, REGEXP, <>, IS NOT and IS NOT NULL in the ON of a LEFT JOIN to the scan of
// the virtual table on the left when they are about that one, and then leaves its rows out. coalesce(…, 0) is true when
// the condition is, and nothing that a scan is given.
void Binder::hide_from_the_left(Expr& on, std::string_view joined) {
  if (on.kind == ExprKind::chain && on.text == "AND") {
    for (auto& part : on.args) hide_from_the_left(part, joined);
    return;
  }
  const bool given = (on.kind == ExprKind::like && !on.negated) || (on.kind == ExprKind::is_null && on.negated) ||
                     (on.kind == ExprKind::binary && (on.text == "<>" || on.text == "IS NOT"));
  const auto is_of_the_left = [&](const Expr& operand) {
    const Expr* inner = &operand;
    while (inner->kind == ExprKind::collate) inner = &inner->args[0];
    return inner->kind == ExprKind::column && inner->qualifier != joined;
  };
  if (!given || !std::ranges::any_of(on.args, is_of_the_left)) return;
  Expr zero;
  zero.literal_kind = LiteralKind::integer;
  zero.text = "0";
  zero.type = Type::integer;
  const Position at = on.at;
  std::vector<Expr> both;
  both.push_back(std::move(on));
  both.push_back(std::move(zero));
  on = make_call("coalesce", Type::integer, at, std::move(both));
}

Binder::VisibleSource Binder::source(Source& node, Core& owner, Scope& scope) {
  VisibleSource visible;
  visible.alias = node.alias;
  const auto take = [&](const std::vector<CatalogColumn>& columns) {
    for (const auto& column : columns) visible.columns.push_back({column.name, column_type(column)});
  };
  if (node.derived) {
    for (auto& column : select(*node.derived, scope.outer)) visible.columns.push_back({column.name, column.type});
    if (visible.alias.empty()) visible.alias = "subquery " + std::to_string(scope.sources.size() + 1);
  } else if (node.is_function) {
    const auto* const function = find_table_function(node.table);
    if (function == nullptr) {
      std::vector<std::string_view> names;
      for (const auto& other : table_functions()) names.push_back(other.table.name);
      refuse(node.at, node.table,
             "unknown table function " + quoted(node.table) + did_you_mean(node.table, names) +
                 " (there are ancestors, descendants, json_each and json_tree)");
    }
    if (node.arguments.size() < function->min_arguments || node.arguments.size() > function->max_arguments) {
      refuse(node.at, node.table, "wrong number of arguments: " + function->table.description);
    }
    for (auto& argument : node.arguments) expression(argument, scope, {.name = "a table function's arguments"});
    node.printed_table = function->table.name;
    if (!function->table.name.starts_with("json")) tables_.insert("processes");
    take(function->table.columns);
    count_tables(1, node.at);
  } else if (Cte* const cte = find_cte(node.table)) {
    if (cte->being_defined) {
      if (cte->recursive_core != &owner) {
        refuse(node.at, node.table,
               "circular reference to " + quoted(node.table) +
                   "; it can only be named in the FROM of its own last SELECT, after UNION");
      }
      ++cte->recursive_uses;
    }
    node.printed_table = cte->printed_name;
    for (const auto& column : cte->columns) visible.columns.push_back({column.name, column.type});
    count_tables(cte->weight, node.at);
  } else if (const auto* const table = find_table(node.table)) {
    node.printed_table = table->name;
    tables_.insert(table->name);
    take(table->columns);
    count_tables(1, node.at);
  } else {
    std::vector<std::string_view> names;
    for (const auto& known : catalog()) names.push_back(known.name);
    for (const auto& frame : ctes_) {
      for (const auto& known : frame) names.push_back(known.name);
    }
    std::string all;
    for (const auto& known : catalog()) all += (all.empty() ? "" : ", ") + known.name;
    if (find_table_function(node.table) != nullptr) {
      refuse(node.at, node.table,
             quoted(node.table) + " needs an argument: " + find_table_function(node.table)->table.description);
    }
    const auto hint = did_you_mean(node.table, names);
    refuse(node.at, node.table, "unknown table " + quoted(node.table) + (hint.empty() ? "; there are " + all : hint));
  }
  if (visible.alias.empty()) visible.alias = node.table;
  node.printed_alias = visible.printed_alias = unique_name(visible.alias);
  return visible;
}

void Binder::join_using(Source& node, Scope& scope) {
  VisibleSource& right = scope.sources.back();
  for (const auto& name : node.using_columns) {
    const auto has = [&](const VisibleColumn& column) { return !column.merged && same_name(column.name, name); };
    const auto mine = std::ranges::find_if(right.columns, has);
    VisibleSource* left = nullptr;
    for (auto& other : scope.sources) {
      if (&other != &right && std::ranges::any_of(other.columns, has)) {
        left = &other;
        break;
      }
    }
    if (mine == right.columns.end() || left == nullptr) {
      refuse(node.using_at, name, "USING: both sides need a column " + quoted(name));
    }
    Expr equal;
    equal.kind = ExprKind::binary;
    equal.text = "=";
    equal.at = node.using_at;
    for (const auto* const side : {left, static_cast<VisibleSource*>(&right)}) {
      Expr reference;
      reference.kind = ExprKind::column;
      reference.at = node.using_at;
      reference.qualifier = side->alias;
      reference.text = name;
      equal.args.push_back(std::move(reference));
    }
    equal.height = 2;
    expression(equal, scope, {.name = "USING"});
    mine->merged = true;
    node.on = node.on ? make_and(*node.on, std::move(equal)) : std::move(equal);
  }
}

void Binder::expand_stars(Core& node, Scope& scope) {
  std::vector<ResultTerm> expanded;
  for (auto& term : node.results) {
    if (term.kind == ResultTerm::Kind::expression) {
      expanded.push_back(std::move(term));
    } else {
      bool found = false;
      for (const auto& source : scope.sources) {
        const bool all = term.kind == ResultTerm::Kind::star;
        if (!all && !same_name(source.alias, term.qualifier)) continue;
        found = true;
        for (const auto& column : source.columns) {
          if (all && column.merged) continue;
          ResultTerm one;
          one.at = term.at;
          one.name = column.name;
          one.value.kind = ExprKind::column;
          one.value.at = term.at;
          one.value.qualifier = source.alias;
          one.value.text = column.name;
          expanded.push_back(std::move(one));
        }
      }
      if (!found) {
        refuse(term.at, term.qualifier + "*",
               term.kind == ResultTerm::Kind::star ? "* needs a FROM" : "unknown table " + quoted(term.qualifier));
      }
    }
    if (expanded.size() > limits_.max_result_columns) {
      refuse(term.at, "*", "at most " + std::to_string(limits_.max_result_columns) + " result columns are allowed");
    }
  }
  node.results = std::move(expanded);
}

std::vector<OutputColumn> Binder::name_outputs(Core& node) {
  std::vector<OutputColumn> columns;
  std::set<std::string> taken;
  for (auto& term : node.results) {
    std::string name = term.name;
    for (unsigned n = 1; !taken.insert(lower_case(name)).second; ++n) name = term.name + ":" + std::to_string(n);
    columns.push_back({name, term.value.type});
    // What others find it by is its name as given; what is printed is unique.
    term.alias = std::move(name);
  }
  return columns;
}

void Binder::group_by(Core& node, Scope& scope) {
  for (auto& term : node.group_by) {
    if (const auto ordinal = constant_integer(term)) {
      if (*ordinal < 1 || *ordinal > static_cast<std::int64_t>(node.results.size())) {
        refuse(
            term.at, "",
            "GROUP BY " + std::to_string(*ordinal) + ": there are columns 1 to " + std::to_string(node.results.size()));
      }
      const auto& named = node.results[static_cast<std::size_t>(*ordinal) - 1].value;
      if (named.has_aggregate || named.has_window)
        refuse(term.at, "", "GROUP BY cannot name an aggregate or a window function");
      term.kind = ExprKind::output;
      term.text = std::to_string(*ordinal);
      term.args.clear();
      continue;
    }
    expression(term, scope, {.name = "GROUP BY", .aliases = true});
  }
}

void Binder::order_by(std::vector<OrderTerm>& terms, Core& node, Scope& scope, bool is_aggregate) {
  for (auto& term : terms) {
    Expr* inner = &term.value;
    while (inner->kind == ExprKind::collate) inner = &inner->args[0];
    std::optional<std::int64_t> ordinal = constant_integer(*inner);
    if (ordinal && (*ordinal < 1 || *ordinal > static_cast<std::int64_t>(node.results.size()))) {
      refuse(
          inner->at, "",
          "ORDER BY " + std::to_string(*ordinal) + ": there are columns 1 to " + std::to_string(node.results.size()));
    }
    if (!ordinal && inner->kind == ExprKind::column && inner->qualifier.empty()) {
      for (std::size_t i = 0; i < node.results.size() && !ordinal; ++i) {
        // Only what was named with AS: a column's own name is looked up in FROM.
        const auto& result = node.results[i];
        if (result.named && same_name(result.name, inner->text)) ordinal = static_cast<std::int64_t>(i) + 1;
      }
    }
    if (ordinal) {
      inner->kind = ExprKind::output;
      inner->text = std::to_string(*ordinal);
      inner->args.clear();
    } else {
      expression(term.value, scope, {.name = "ORDER BY", .aggregates = is_aggregate, .windows = true, .aliases = true});
    }
  }
}

void Binder::compound_order(std::vector<OrderTerm>& terms, const std::vector<OutputColumn>& columns) {
  for (auto& term : terms) {
    Expr* inner = &term.value;
    while (inner->kind == ExprKind::collate) inner = &inner->args[0];
    std::optional<std::int64_t> ordinal = constant_integer(*inner);
    if (!ordinal && inner->kind == ExprKind::column && inner->qualifier.empty()) {
      for (std::size_t i = 0; i < columns.size() && !ordinal; ++i) {
        if (same_name(columns[i].name, inner->text)) ordinal = static_cast<std::int64_t>(i) + 1;
      }
    }
    if (!ordinal || *ordinal < 1 || *ordinal > static_cast<std::int64_t>(columns.size())) {
      refuse(inner->at, inner->text, "after UNION and its like, ORDER BY takes the name or number of a result column");
    }
    inner->kind = ExprKind::output;
    inner->text = std::to_string(*ordinal);
    inner->args.clear();
  }
}

void Binder::limit(Box<Expr>& value, std::string_view clause) {
  if (!value) return;
  Scope none;
  expression(*value, none, {.name = clause});
}

std::optional<std::int64_t> Binder::constant_integer(const Expr& expr) {
  if (expr.kind == ExprKind::literal && expr.literal_kind == LiteralKind::integer) {
    const bool hex = expr.text.starts_with("0x");
    if (hex) {
      std::uint64_t value = 0;
      const auto digits = std::string_view(expr.text).substr(2);
      std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
      return static_cast<std::int64_t>(value);
    }
    return base::parse_integer<std::int64_t>(expr.text);
  }
  if (expr.kind == ExprKind::unary && (expr.text == "-" || expr.text == "+")) {
    const auto inner = constant_integer(expr.args[0]);
    if (inner && expr.text == "-") return *inner == INT64_MIN ? *inner : -*inner;
    return inner;
  }
  return std::nullopt;
}

void Binder::add_exception(Select& node, Expr condition, std::string_view text) {
  text_ = text;
  Core& core = node.cores.front();
  Scope scope;
  scope.sources = outermost_;
  scope.results = &core.results;
  scope.aliases_first = true;
  const Position at = condition.at;
  expression(condition, scope, {.name = "an exception", .aliases = true});
  Expr zero;
  zero.literal_kind = LiteralKind::integer;
  zero.text = "0";
  zero.type = Type::integer;
  std::vector<Expr> both;
  both.push_back(std::move(condition));
  both.push_back(std::move(zero));
  Expr none;
  none.kind = ExprKind::unary;
  none.text = "NOT";
  none.at = at;
  none.type = Type::integer;
  none.args.push_back(make_call("coalesce", Type::integer, at, std::move(both)));
  none.height = none.args[0].height + 1;
  core.where = core.where ? make_and(*core.where, std::move(none)) : std::move(none);
}

}  // namespace daemoneye::sql
