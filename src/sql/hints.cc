// What makes a statement slower than it needs to be, seen in its bound tree.
#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "base/text.h"
#include "sql/compiled.h"

namespace daemoneye::sql {
namespace {

bool reads_events(const Source& source) {
  return !source.derived && !source.is_function && source.printed_table == "process_events";
}

// Columns of which nearly every row has a value of its own: looking at each value once is looking at each row.
bool is_of_many_values(std::string_view column) {
  return column == "command_line" || column == "arguments" || column == "parent_command_line" || column == "detail";
}

const Expr& uncollated(const Expr& expr) { return expr.kind == ExprKind::collate ? uncollated(expr.args[0]) : expr; }
bool is_column(const Expr& expr, std::string_view alias, std::string_view name) {
  const Expr& inner = uncollated(expr);
  return inner.kind == ExprKind::column && inner.qualifier == alias && inner.text == name;
}
bool is_literal(const Expr& expr, std::string_view text) { return expr.kind == ExprKind::literal && expr.text == text; }

void flatten(const Expr& condition, std::vector<const Expr*>& into) {
  if (condition.kind != ExprKind::chain || condition.text != "AND") {
    into.push_back(&condition);
    return;
  }
  for (const auto& part : condition.args) flatten(part, into);
}

// column = x, column IN (…): whether it leaves few rows.
bool picks(const Expr& condition, std::string_view alias, std::string_view column) {
  if (condition.kind == ExprKind::binary && (condition.text == "=" || condition.text == "IS")) {
    return is_column(condition.args[0], alias, column) || is_column(condition.args[1], alias, column);
  }
  const bool in = condition.kind == ExprKind::in_list || condition.kind == ExprKind::in_select;
  return in && !condition.negated && is_column(condition.args[0], alias, column);
}

// Whether it says from when on.
bool bounds(const Expr& condition, std::string_view alias, std::string_view column) {
  if (picks(condition, alias, column)) return true;
  if (condition.kind == ExprKind::between) return !condition.negated && is_column(condition.args[0], alias, column);
  if (condition.kind != ExprKind::binary) return false;
  const auto& op = condition.text;
  return ((op == ">" || op == ">=") && is_column(condition.args[0], alias, column)) ||
         ((op == "<" || op == "<=") && is_column(condition.args[1], alias, column));
}

class Finder {
 public:
  explicit Finder(const Source* driving) : driving_(driving) {}
  std::vector<KeptHint> found;

  void run(const Select& select) {
    collect(select, nullptr, "");
    for (const auto& place : places_) look(place);
    for (const auto* expr : subqueries_) correlated(*expr);
  }

 private:
  struct Place {
    const Core* core;
    const Select* select;
    const Source* within;     // the derived table it is in
    std::string within_name;  // the WITH table it is in, as printed
    std::vector<const Expr*> conditions;
  };

  void add(std::string kind, const Position& at, std::string message, std::string suggestion,
           const Source* of = nullptr) {
    found.push_back({{std::move(kind), at.line, at.column, std::move(message), std::move(suggestion)},
                     of != nullptr && of == driving_});
  }

  void collect(const Select& select, const Source* within, const std::string& within_name) {
    for (const auto& table : select.with) collect(*table.select, nullptr, table.printed_name);
    for (const auto& core : select.cores) {
      Place place{&core, &select, within, within_name, {}};
      if (core.where) flatten(*core.where, place.conditions);
      for (const auto& source : core.from) {
        if (source.on) flatten(*source.on, place.conditions);
        if (source.derived) collect(*source.derived, &source, "");
      }
      for (const auto& term : core.results) subselects(term.value);
      for (const auto* condition : place.conditions) subselects(*condition);
      for (const auto& term : core.group_by) subselects(term);
      if (core.having) subselects(*core.having);
      places_.push_back(std::move(place));
    }
    for (const auto& term : select.order) subselects(term.value);
  }
  void subselects(const Expr& expr) {
    for (const auto& argument : expr.args) subselects(argument);
    if (expr.filter) subselects(*expr.filter);
    if (!expr.select) return;
    subqueries_.push_back(&expr);
    collect(*expr.select, nullptr, "");
  }

  void look(const Place& place) {
    for (const auto& source : place.core->from) {
      if (!reads_events(source)) continue;
      no_time_bound(place, source);
      leading_wildcard(place, source);
      hash_of_exec(place, source);
    }
    cartesian(place);
  }

  void no_time_bound(const Place& place, const Source& source) {
    const auto bounded_by = [&](const Expr* one) {
      return bounds(*one, source.printed_alias, "time") || bounds(*one, source.printed_alias, "event_id") ||
             picks(*one, source.printed_alias, "process_key") || picks(*one, source.printed_alias, "pid");
    };
    if (std::ranges::any_of(place.conditions, bounded_by) || ends_soon(place, source) || bounded_outside(place)) return;
    add("no_time_bound", source.at, "process_events is read from its beginning",
        "say from when on, as in " + alias_of(source) + "time > ago('1h')", &source);
  }
  // ORDER BY time … LIMIT n reads from an end.
  static bool ends_soon(const Place& place, const Source& source) {
    if (!place.select->limit || place.select->order.empty() || place.select->cores.size() > 1) return false;
    const Expr* first = &place.select->order.front().value;
    if (first->kind == ExprKind::output) {
      const auto ordinal = base::parse_integer<std::size_t>(first->text).value_or(0);
      if (ordinal == 0 || ordinal > place.core->results.size()) return false;
      first = &place.core->results[ordinal - 1].value;
    }
    return is_column(*first, source.printed_alias, "time") || is_column(*first, source.printed_alias, "event_id");
  }
  // A condition on a time of what the SELECT stands for is one on the SELECT.
  [[nodiscard]] bool bounded_outside(const Place& place) const {
    if (place.within == nullptr && place.within_name.empty()) return false;
    for (const auto& other : places_) {
      for (const auto& source : other.core->from) {
        const bool is_it = place.within != nullptr ? &source == place.within
                                                   : !source.derived && source.printed_table == place.within_name;
        if (!is_it) continue;
        const auto names_a_time = [&](const Expr& side) {
          const Expr& inner = uncollated(side);
          return inner.kind == ExprKind::column && inner.type == Type::time && inner.qualifier == source.printed_alias;
        };
        for (const auto* one : other.conditions) {
          if ((one->kind == ExprKind::binary || one->kind == ExprKind::between) &&
              std::ranges::any_of(one->args, names_a_time)) {
            return true;
          }
        }
      }
    }
    return false;
  }

  void leading_wildcard(const Place& place, const Source& source) {
    const auto narrowed = std::ranges::any_of(place.conditions, [&](const Expr* one) {
      return std::ranges::any_of(
          std::vector<std::string_view>{"process_key", "pid", "parent_key", "name", "executable_path"},
          [&](std::string_view column) { return picks(*one, source.printed_alias, column); });
    });
    if (narrowed) return;
    for (const auto* one : place.conditions) search_patterns(*one, source);
  }
  void search_patterns(const Expr& expr, const Source& source) {
    for (const auto& argument : expr.args) {
      if (expr.kind == ExprKind::chain || expr.kind == ExprKind::unary) search_patterns(argument, source);
    }
    if (expr.kind != ExprKind::like) return;
    const Expr& column = uncollated(expr.args[0]);
    const Expr& pattern = expr.args[1];
    if (column.kind != ExprKind::column || column.qualifier != source.printed_alias ||
        !is_of_many_values(column.text) || pattern.kind != ExprKind::literal || pattern.text.empty()) {
      return;
    }
    const char first = pattern.text.front();
    const bool open = expr.text == "LIKE"   ? first == '%' || first == '_'
                      : expr.text == "GLOB" ? first == '*' || first == '?' || first == '['
                                            : first != '^';
    if (!open) return;
    add("leading_wildcard", expr.at,
        column.text + " is searched from its beginning to its end in every row: nearly each has a text of its own",
        "narrow the rows first, by " + alias_of(source) + "name, executable_path or a short time" +
            (expr.text == "LIKE" ? ", or let the pattern begin with what the text begins with" : ""),
        &source);
  }

  void hash_of_exec(const Place& place, const Source& source) {
    const bool of_exec = std::ranges::any_of(place.conditions, [&](const Expr* one) {
      return one->kind == ExprKind::binary && one->text == "=" &&
             is_column(one->args[0], source.printed_alias, "kind") && is_literal(one->args[1], "exec");
    });
    if (!of_exec) return;
    for (const auto* one : place.conditions) {
      const Expr* const hash = find_column(*one, source.printed_alias, "executable_hash");
      if (hash == nullptr) continue;
      add("hash_of_exec", hash->at, "the hash of a file that was not seen before comes with a change, after the exec",
          "ask for " + alias_of(source) + "kind IN ('exec', 'change')");
      return;
    }
  }
  static const Expr* find_column(const Expr& expr, std::string_view alias, std::string_view name) {
    if (expr.kind == ExprKind::column && is_column(expr, alias, name)) return &expr;
    for (const auto& argument : expr.args) {
      if (const auto* const found_one = find_column(argument, alias, name)) return found_one;
    }
    return nullptr;
  }

  // Sources that no condition connects: every row of the one is put beside every row of the other.
  void cartesian(const Place& place) {
    const auto& from = place.core->from;
    if (from.size() < 2) return;
    std::map<std::string, std::string> head;  // of the group an alias is in
    const auto find = [&](const std::string& alias) {
      std::string at = alias;
      for (auto next = head.find(at); next != head.end() && next->second != at; next = head.find(at)) at = next->second;
      return at;
    };
    const auto connect = [&](const std::set<std::string>& aliases) {
      for (const auto& alias : aliases) head[find(alias)] = find(*aliases.begin());
    };
    for (const auto* one : place.conditions) connect(aliases_in(*one));
    for (const auto& source : from) {
      std::set<std::string> named{source.printed_alias};
      for (const auto& argument : source.arguments) named.merge(aliases_in(argument));
      connect(named);
    }
    const Source* first = nullptr;
    for (const auto& source : from) {
      if (gives_one_row(source)) continue;
      if (first == nullptr) {
        first = &source;
      } else if (find(source.printed_alias) != find(first->printed_alias)) {
        add("cartesian_join", source.at,
            "nothing connects " + base::printable(name_of(source)) + " with " + base::printable(name_of(*first)) +
                ": every row of the one is put beside every row of the other",
            "join them by a condition, as in ON " + base::printable(name_of(source)) +
                ".process_key = " + base::printable(name_of(*first)) + ".parent_key");
        return;
      }
    }
  }
  static bool gives_one_row(const Source& source) {
    if (!source.derived || source.derived->cores.size() > 1) return false;
    const Core& core = source.derived->cores.front();
    if (core.from.empty()) return true;
    if (source.derived->limit && is_literal(*source.derived->limit, "1")) return true;
    return core.group_by.empty() &&
           std::ranges::any_of(core.results, [](const ResultTerm& term) { return term.value.has_aggregate; });
  }

  static std::string name_of(const Source& source) { return source.alias.empty() ? source.table : source.alias; }
  static std::string alias_of(const Source& source) {
    return source.alias.empty() ? "" : base::printable(source.alias) + ".";
  }

  // Every source that an expression names, subqueries included.
  static std::set<std::string> aliases_in(const Expr& expr) {
    std::set<std::string> names;
    gather(expr, names);
    return names;
  }
  static void gather(const Expr& expr, std::set<std::string>& names) {
    if (expr.kind == ExprKind::column) names.insert(expr.qualifier);
    for (const auto& argument : expr.args) gather(argument, names);
    if (expr.filter) gather(*expr.filter, names);
    if (expr.select) gather(*expr.select, names, nullptr);
  }
  static void gather(const Select& select, std::set<std::string>& names, std::set<std::string>* own) {
    for (const auto& table : select.with) gather(*table.select, names, own);
    for (const auto& core : select.cores) {
      for (const auto& source : core.from) {
        if (own != nullptr) own->insert(source.printed_alias);
        if (source.derived) gather(*source.derived, names, own);
        if (source.on) gather(*source.on, names);
        for (const auto& argument : source.arguments) gather(argument, names);
      }
      for (const auto& term : core.results) gather(term.value, names);
      if (core.where) gather(*core.where, names);
      for (const auto& term : core.group_by) gather(term, names);
      if (core.having) gather(*core.having, names);
    }
    for (const auto& term : select.order) gather(term.value, names);
  }

  void correlated(const Expr& expr) {
    std::set<std::string> names, own;
    gather(*expr.select, names, &own);
    const bool outer = std::ranges::any_of(
        names, [&](const std::string& name) { return !own.contains(name) && !own_below(*expr.select, name); });
    if (!outer || found_by_key(expr)) return;
    add("correlated_subquery", expr.at, "this SELECT is run again for every row outside of it",
        expr.kind == ExprKind::scalar ? "compute it once for all rows in a WITH table with GROUP BY, and join that"
                                      : "join the table, or write IN (SELECT …) without a column from outside");
  }
  // Aliases of SELECTs further in are its own as well.
  static bool own_below(const Select& select, const std::string& name) {
    for (const auto& core : select.cores) {
      std::vector<const Expr*> all;
      for (const auto& term : core.results) all.push_back(&term.value);
      if (core.where) all.push_back(&*core.where);
      if (core.having) all.push_back(&*core.having);
      for (const auto& source : core.from) {
        if (source.on) all.push_back(&*source.on);
        if (source.derived && own_below(*source.derived, name)) return true;
      }
      if (std::ranges::any_of(all, [&](const Expr* one) { return defines(*one, name); })) return true;
    }
    return false;
  }
  static bool defines(const Expr& expr, const std::string& name) {
    if (std::ranges::any_of(expr.args, [&](const Expr& argument) { return defines(argument, name); })) return true;
    if (!expr.select) return false;
    std::set<std::string> names, own;
    gather(*expr.select, names, &own);
    return own.contains(name) || own_below(*expr.select, name);
  }
  // EXISTS with an equality is made into a set of keys once; a process is found by its key at once.
  static bool found_by_key(const Expr& expr) {
    if (expr.select->cores.size() > 1) return false;
    const Core& core = expr.select->cores.front();
    std::vector<const Expr*> conditions;
    if (core.where) flatten(*core.where, conditions);
    const auto is_own = [&](const Expr& side) {
      return uncollated(side).kind == ExprKind::column && std::ranges::any_of(core.from, [&](const Source& source) {
               return source.printed_alias == uncollated(side).qualifier;
             });
    };
    return std::ranges::any_of(conditions, [&](const Expr* one) {
      if (one->kind != ExprKind::binary || one->text != "=") return false;
      for (std::size_t i = 0; i < 2; ++i) {
        const Expr& mine = one->args[i];
        if (!is_own(mine) || is_own(one->args[1 - i])) continue;
        if (expr.kind == ExprKind::exists || uncollated(mine).text == "process_key") return true;
      }
      return false;
    });
  }

  const Source* driving_;
  std::vector<Place> places_;
  std::vector<const Expr*> subqueries_;
};

}  // namespace

std::vector<KeptHint> find_hints(const Select& select, const Source* driving) {
  Finder finder(driving);
  finder.run(select);
  std::ranges::sort(finder.found, {}, [](const KeptHint& one) {
    return std::tuple(one.hint.line, one.hint.column, std::string_view(one.hint.kind));
  });
  return std::move(finder.found);
}

std::vector<Hint> hints(const Compiled& compiled, Use use) {
  std::vector<Hint> given;
  for (const auto& [hint, of_driving] : compiled.state().hints) {
    // What a stream rule is driven by are the new rows alone, and `window` bounds what a scheduled one reads.
    if (use == Use::stream_rule && of_driving) continue;
    if (use == Use::scheduled_rule && hint.kind == "no_time_bound") continue;
    given.push_back(hint);
  }
  return given;
}

std::string to_string(const Hint& hint) {
  return "line " + std::to_string(hint.line) + ", column " + std::to_string(hint.column) + ": " + hint.message + "; " +
         hint.suggestion;
}

}  // namespace daemoneye::sql
