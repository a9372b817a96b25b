// Events joined to events by a process key or a pid: "what the shells of that server started". SQLite would begin the
// scan of one side for each row of the other. When one side is picked by name or the like within a time,
//   FROM process_events e JOIN process_events p ON p.process_key = e.parent_key WHERE p.name = 'x' AND p.time > … AND …
// becomes
//   WITH built AS (SELECT … FROM process_events p WHERE p.name = 'x' AND p.time > …)
//   FROM process_events e CROSS JOIN built p ON … WHERE e.parent_key IN (SELECT process_key FROM built) AND …
// so that each side is read once, and the scan of `e` itself passes over what has no partner, whole blocks of it by
// their filters. EXISTS (SELECT … FROM process_events p WHERE p.process_key = e.parent_key AND …) is the same question
// without the columns of `p`, and becomes the IN alone.
//
// Done only where
// - both sides are process_events; joins are inner, and EXISTS is one of the conditions that WHERE joins by AND: there
//   NULL, which IN may give in place of false, keeps no row either;
// - what is read beforehand is bounded: conditions of a column with constants, one of them an equality on a column that
//   picks few events and one a lower bound of time or event_id. Without those a look-up for each row may be cheaper;
// - the other side is not picked by a key or pid of its own: it has so few rows that looking up theirs is cheaper.
#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "event/columns.h"
#include "sql/catalog.h"
#include "sql/rewrite.h"

namespace daemoneye::sql {
namespace {

using event::Column;

bool is_events(const Source& source) {
  return !source.derived && !source.is_function && source.printed_table == "process_events" &&
         source.using_columns.empty();
}

std::optional<Column> column_of(const Expr& node, const Source& source) {
  if (node.kind != ExprKind::column || node.qualifier != source.printed_alias) return std::nullopt;
  return event::find_column(node.text);
}

bool is_key(Column column) { return column == Column::process_key || column == Column::parent_key; }
bool is_pid(Column column) { return column == Column::pid || column == Column::ppid; }
bool are_comparable(Column a, Column b) { return (is_key(a) && is_key(b)) || (is_pid(a) && is_pid(b)); }

// Few events have the same, and the blocks have filters of it.
bool picks_few(Column column) {
  switch (column) {
    case Column::name:
    case Column::comm:
    case Column::executable_path:
    case Column::executable_hash:
    case Column::parent_name: return true;
    default: return is_pid(column);
  }
}
bool bounds(Column column) { return column == Column::time || column == Column::event_id; }

// What the conditions of one side tell that a scan meets alone.
struct Side {
  bool is_picked = false, is_bounded = false, is_looked_up = false;
  [[nodiscard]] bool can_be_built() const { return is_picked && is_bounded && !is_looked_up; }
};

// Whether the condition is one of a column of `source` with constants; notes what it tells.
class Simple {
 public:
  Simple(const Source& source, Side& side) : source_(source), side_(side) {}

  bool take(const Expr& node) {
    switch (node.kind) {
      case ExprKind::binary: return comparison(node);
      case ExprKind::between: {
        const auto column = column_of(node.args[0], source_);
        if (!column || !is_constant(node.args[1]) || !is_constant(node.args[2])) return false;
        side_.is_bounded |= !node.negated && bounds(*column);
        return true;
      }
      case ExprKind::in_list: {
        const auto column = column_of(node.args[0], source_);
        const auto values = std::span(node.args).subspan(1);
        if (!column || !std::ranges::all_of(values, [](const Expr& value) { return is_constant(value); })) return false;
        side_.is_picked |= !node.negated && picks_few(*column);
        return true;
      }
      case ExprKind::is_null: return column_of(node.args[0], source_).has_value();
      case ExprKind::like: {
        const auto column = column_of(node.args[0], source_);
        // A bad regular expression is an error only where a row comes to it: a literal is known to be good.
        return column && node.args.size() == 2 && event::info(*column).type == event::ColumnType::text &&
               node.args[1].kind == ExprKind::literal && node.args[1].literal_kind == LiteralKind::text;
      }
      default: return false;
    }
  }

 private:
  bool comparison(const Expr& node) {
    static const std::set<std::string_view> operators = {"=", "<>", "<", "<=", ">", ">="};
    if (!operators.contains(node.text)) return false;
    const auto left = column_of(node.args[0], source_);
    const auto column = left ? left : column_of(node.args[1], source_);
    if (!column || !is_constant(node.args[left ? 1 : 0])) return false;
    const bool is_equality = node.text == "=";
    const bool is_lower = node.text.starts_with(left ? '>' : '<') && node.text != "<>";
    side_.is_bounded |= bounds(*column) && (is_equality || is_lower);
    side_.is_picked |= is_equality && picks_few(*column);
    side_.is_looked_up |= is_equality && (is_key(*column) || *column == Column::pid || *column == Column::event_id);
    return true;
  }

  const Source& source_;
  Side& side_;
};

// The columns of one source, wherever they stand.
class Columns {
 public:
  explicit Columns(const std::string& alias) : alias_(alias) {}
  [[nodiscard]] const std::set<std::string>& found() const { return found_; }

  void of(const Expr& node) {
    if (node.kind == ExprKind::column && node.qualifier == alias_) found_.insert(node.text);
    for (const auto& argument : node.args) of(argument);
    if (node.select) of(*node.select);
    if (node.filter) of(*node.filter);
    if (node.over) of(*node.over);
  }
  void of(const Core& core) {
    for (const auto& term : core.results) of(term.value);
    for (const auto& source : core.from) {
      if (source.derived) of(*source.derived);
      if (source.on) of(*source.on);
      for (const auto& argument : source.arguments) of(argument);
    }
    if (core.where) of(*core.where);
    for (const auto& term : core.group_by) of(term);
    if (core.having) of(*core.having);
    for (const auto& window : core.windows) of(window);
  }
  void of(const std::vector<OrderTerm>& terms) {
    for (const auto& term : terms) of(term.value);
  }

 private:
  void of(const Select& select) {
    for (const auto& table : select.with) of(*table.select);
    for (const auto& core : select.cores) of(core);
    of(select.order);
    if (select.limit) of(*select.limit);
    if (select.offset) of(*select.offset);
  }
  void of(const Window& window) {
    for (const auto& term : window.partition) of(term);
    of(window.order);
    if (window.from.distance) of(*window.from.distance);
    if (window.to.distance) of(*window.to.distance);
  }

  const std::string& alias_;
  std::set<std::string> found_;
};

// What AND joins.
void take_apart(Box<Expr>& condition, std::vector<Expr>& out) {
  if (!condition) return;
  if (condition->kind == ExprKind::chain && condition->text == "AND") {
    for (auto& part : condition->args) out.push_back(std::move(part));
  } else {
    out.push_back(std::move(*condition));
  }
  condition = {};
}

Box<Expr> put_together(std::vector<Expr> conditions) {
  if (conditions.empty()) return {};
  if (conditions.size() == 1) return std::move(conditions.front());
  Expr chain;
  chain.kind = ExprKind::chain;
  chain.text = "AND";
  for (const auto& condition : conditions) chain.height = std::max(chain.height, condition.height + 1);
  chain.args = std::move(conditions);
  return chain;
}

Expr make_column(const std::string& alias, const std::string& name, Type type) {
  Expr column;
  column.kind = ExprKind::column;
  column.qualifier = alias;
  column.text = name;
  column.type = type;
  return column;
}

Type type_of(const std::string& name) {
  const auto column = event::find_column(name);
  if (column && event::info(*column).type == event::ColumnType::text) return Type::text;
  return column && event::info(*column).type == event::ColumnType::real ? Type::real : Type::integer;
}

Select make_select(Source source, const std::set<std::string>& columns, std::vector<Expr> conditions) {
  Core core;
  for (const auto& name : columns) {
    ResultTerm term;
    term.value = make_column(source.printed_alias, name, type_of(name));
    term.alias = term.name = name;
    core.results.push_back(std::move(term));
  }
  source.join = Join::first;
  source.on = {};
  core.from.push_back(std::move(source));
  core.where = put_together(std::move(conditions));
  Select select;
  select.cores.push_back(std::move(core));
  return select;
}

Expr make_in(Expr value, Select select) {
  Expr in;
  in.kind = ExprKind::in_select;
  in.type = Type::integer;
  in.height = value.height + 1;
  in.args.push_back(std::move(value));
  in.select = std::move(select);
  return in;
}

// `a.x = b.y` of two columns that name processes: the one of each.
struct Pair {
  const Expr *of_first = nullptr, *of_second = nullptr;
};
std::optional<Pair> find_pair(const Expr& node, const Source& first, const Source& second) {
  if (node.kind != ExprKind::binary || node.text != "=") return std::nullopt;
  for (const bool swapped : {false, true}) {
    const Expr &left = node.args[swapped ? 1 : 0], &right = node.args[swapped ? 0 : 1];
    const auto a = column_of(left, first), b = column_of(right, second);
    if (a && b && are_comparable(*a, *b)) return Pair{&left, &right};
  }
  return std::nullopt;
}

// FROM process_events, process_events.
bool rewrite_join(Select& select, Core& core) {
  if (core.from.size() != 2 || !is_events(core.from[0]) || !is_events(core.from[1])) return false;
  if (core.from[1].join == Join::left) return false;
  Core changed = core;
  std::vector<Expr> conditions;
  take_apart(changed.where, conditions);
  for (auto& source : changed.from) take_apart(source.on, conditions);
  const auto joining = std::ranges::find_if(
      conditions, [&](const Expr& one) { return find_pair(one, changed.from[0], changed.from[1]).has_value(); });
  if (joining == conditions.end()) return false;
  std::array<Side, 2> sides;
  std::vector<int> of_side;  // by condition; -1: of neither alone
  for (const auto& condition : conditions) {
    of_side.push_back(Simple(changed.from[0], sides[0]).take(condition)   ? 0
                      : Simple(changed.from[1], sides[1]).take(condition) ? 1
                                                                          : -1);
  }
  const auto pair = *find_pair(*joining, changed.from[0], changed.from[1]);
  // Parents are fewer than children.
  const int preferred = pair.of_first->text == "process_key" || pair.of_first->text == "pid" ? 0 : 1;
  const auto can_be = [&](int built) {
    return sides[static_cast<std::size_t>(built)].can_be_built() &&
           !sides[static_cast<std::size_t>(1 - built)].is_looked_up;
  };
  if (!can_be(0) && !can_be(1)) return false;
  const int built = can_be(preferred) ? preferred : 1 - preferred;
  const Source source = changed.from[static_cast<std::size_t>(built)];
  const Expr own = built == 0 ? *pair.of_first : *pair.of_second, other = built == 0 ? *pair.of_second : *pair.of_first;

  std::vector<Expr> of_built, rest;
  for (std::size_t i = 0; i < conditions.size(); ++i)
    (of_side[i] == built ? of_built : rest).push_back(std::move(conditions[i]));
  // Those that only the conditions which move ask for need not be handed on.
  Columns columns(source.printed_alias);
  columns.of(changed);
  for (const auto& condition : rest) columns.of(condition);
  if (select.cores.size() == 1) columns.of(select.order);

  CommonTable table;
  table.printed_name = std::string(with_prefix) + '_' + source.printed_alias;
  table.select = make_select(source, columns.found(), std::move(of_built));
  Source of_table;
  of_table.join = Join::cross;
  of_table.printed_table = table.printed_name;
  of_table.printed_alias = source.printed_alias;
  Source of_keys = of_table;
  of_keys.printed_alias = '_' + source.printed_alias;
  rest.push_back(make_in(other, make_select(of_keys, {own.text}, {})));
  changed.from = {std::move(changed.from[static_cast<std::size_t>(1 - built)]), std::move(of_table)};
  changed.from[0].join = Join::first;
  changed.where = put_together(std::move(rest));
  core = std::move(changed);
  select.with.insert(select.with.begin(), std::move(table));
  return true;
}

// The IN that an EXISTS is, where NULL is as good as false.
std::optional<Expr> as_in(const Expr& exists, const Source& outer) {
  const Select& select = *exists.select;
  if (select.cores.size() != 1 || !select.with.empty() || select.limit || select.offset) return std::nullopt;
  const Core& core = select.cores.front();
  if (core.from.size() != 1 || !is_events(core.from.front())) return std::nullopt;
  const bool is_plain = core.group_by.empty() && !core.having && core.windows.empty() && core.where &&
                        std::ranges::none_of(core.results, [](const ResultTerm& term) {
                          return term.value.has_aggregate || term.value.has_window;
                        });
  if (!is_plain) return std::nullopt;
  const Source& source = core.from.front();
  Box<Expr> where = core.where;
  std::vector<Expr> conditions;
  take_apart(where, conditions);
  std::optional<Expr> own, other;
  Side side;
  std::vector<Expr> rest;
  for (auto& condition : conditions) {
    if (const auto pair = own ? std::nullopt : find_pair(condition, source, outer)) {
      own = *pair->of_first;
      other = *pair->of_second;
    } else if (Simple(source, side).take(condition)) {
      rest.push_back(std::move(condition));
    } else {
      return std::nullopt;
    }
  }
  if (!own || !side.can_be_built()) return std::nullopt;
  return make_in(*std::move(other), make_select(source, {own->text}, std::move(rest)));
}

// FROM process_events WHERE EXISTS (… process_events …).
bool rewrite_exists(Core& core) {
  if (core.from.size() != 1 || !is_events(core.from.front()) || !core.where) return false;
  const Source& outer = core.from.front();
  const bool is_chain = core.where->kind == ExprKind::chain && core.where->text == "AND";
  const std::span<Expr> conditions = is_chain ? std::span(core.where->args) : std::span(&*core.where, 1);
  Side side;
  for (const auto& condition : conditions) (void)Simple(outer, side).take(condition);
  if (side.is_looked_up) return false;
  bool changed = false;
  for (auto& condition : conditions) {
    if (condition.kind != ExprKind::exists || condition.negated) continue;
    if (auto in = as_in(condition, outer)) {
      condition = *std::move(in);
      changed = true;
    }
  }
  return changed;
}

}  // namespace

bool may_have_joins(const Select& select) {
  const auto may = [](const Core& core) {
    if (core.from.size() == 2 && is_events(core.from[0]) && is_events(core.from[1])) return true;
    if (core.from.size() == 1 && core.where && is_events(core.from[0])) {
      const auto is_exists = [](const Expr& node) { return node.kind == ExprKind::exists; };
      if (is_exists(*core.where) || std::ranges::any_of(core.where->args, is_exists)) return true;
    }
    return std::ranges::any_of(core.from,
                               [](const Source& source) { return source.derived && may_have_joins(*source.derived); });
  };
  return std::ranges::any_of(select.cores, may) ||
         std::ranges::any_of(select.with, [](const CommonTable& table) { return may_have_joins(*table.select); });
}

bool rewrite_joins(Select& select) {
  bool changed = false;
  // Which SELECT of a recursive table may name it is SQLite's to decide, and WITH within it would be in its way.
  if (!select.recursive) {
    for (auto& table : select.with) changed |= rewrite_joins(*table.select);
  }
  for (std::size_t i = 0; i < select.cores.size(); ++i) {
    auto& core = select.cores[i];
    for (auto& source : core.from) {
      if (source.derived) changed |= rewrite_joins(*source.derived);
    }
    changed |= rewrite_exists(core);
    changed |= rewrite_join(select, core);
  }
  return changed;
}

}  // namespace daemoneye::sql
