// Which reference of a statement new rows can be shown to one by one.
#include <algorithm>

#include "sql/compiled.h"

namespace daemoneye::sql {
namespace {

std::string needs_evaluate(const std::string& what) { return "uses " + what + ": needs evaluate"; }

bool reads(const Source& source, std::string_view table) {
  return !source.derived && !source.is_function && source.printed_table == table;
}

class ColumnsNamed {
 public:
  explicit ColumnsNamed(std::string_view alias) : alias_(alias) {}
  std::set<std::string> found;

  void in(const Expr& expr) {
    if (expr.kind == ExprKind::column && expr.qualifier == alias_) found.insert(expr.text);
    for (const auto& argument : expr.args) in(argument);
    if (expr.filter) in(*expr.filter);
    if (expr.over) in(*expr.over);
    if (expr.select) in(*expr.select);
  }
  void in_conditions(const Core& core) {
    for (const auto& source : core.from) {
      for (const auto& argument : source.arguments) in(argument);
      if (source.on) in(*source.on);
      found.insert(source.using_columns.begin(), source.using_columns.end());
    }
    if (core.where) in(*core.where);
  }

 private:
  void in(const Window& window) {
    for (const auto& one : window.partition) in(one);
    for (const auto& one : window.order) in(one.value);
    for (const auto* const bound : {&window.from, &window.to}) {
      if (bound->distance) in(*bound->distance);
    }
  }
  // Whatever an inner SELECT gives may decide.
  void in(const Select& select) {
    for (const auto& table : select.with) in(*table.select);
    for (const auto& core : select.cores) {
      for (const auto& term : core.results) {
        if (term.kind == ResultTerm::Kind::expression) in(term.value);
      }
      in_conditions(core);
      for (const auto& source : core.from) {
        if (source.derived) in(*source.derived);
      }
      for (const auto& one : core.group_by) in(one);
      if (core.having) in(*core.having);
      for (const auto& window : core.windows) in(window);
    }
    for (const auto& one : select.order) in(one.value);
    if (select.limit) in(*select.limit);
    if (select.offset) in(*select.offset);
  }

  std::string_view alias_;
};

}  // namespace

std::set<std::string> find_condition_columns(const Select& select, const Source& driving) {
  ColumnsNamed columns(driving.printed_alias);
  columns.in_conditions(select.cores.front());
  return std::move(columns.found);
}

Streaming find_driving(const Select& select) {
  if (select.cores.size() > 1) return {nullptr, needs_evaluate(select.cores[1].op)};
  const Core& core = select.cores.front();
  if (core.distinct) return {nullptr, needs_evaluate("DISTINCT")};
  if (!core.group_by.empty()) return {nullptr, needs_evaluate("GROUP BY")};
  if (core.having) return {nullptr, needs_evaluate("HAVING")};
  if (select.limit) return {nullptr, needs_evaluate("LIMIT")};
  const auto any = [&](auto member) {
    return std::ranges::any_of(core.results, [&](const ResultTerm& term) { return term.value.*member; }) ||
           std::ranges::any_of(select.order, [&](const OrderTerm& term) { return term.value.*member; });
  };
  if (any(&Expr::has_aggregate)) return {nullptr, needs_evaluate("an aggregate")};
  if (any(&Expr::has_window)) return {nullptr, needs_evaluate("a window function")};

  for (const auto* const table : {"process_events", "processes"}) {
    const Source* found = nullptr;
    for (const auto& source : core.from) {
      if (!reads(source, table)) continue;
      if (found != nullptr) {
        return {nullptr,
                std::string("names ") + table +
                    " twice in its outermost FROM, and new rows can be shown to one reference only: needs evaluate"};
      }
      found = &source;
    }
    if (found == nullptr) continue;
    if (found->join == Join::left) {
      return {nullptr, std::string("has ") + table + " on the right of a LEFT JOIN: needs evaluate"};
    }
    return {found, {}};
  }
  return {nullptr, "reads neither process_events nor processes in its outermost FROM: needs evaluate"};
}

}  // namespace daemoneye::sql
