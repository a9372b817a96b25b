// Which reference of a statement new rows can be shown to one by one.
#include <algorithm>

#include "sql/compiled.h"

namespace daemoneye::sql {
namespace {

std::string needs_evaluate(const std::string& what) { return "uses " + what + ": needs evaluate"; }

bool reads(const Source& source, std::string_view table) {
  return !source.derived && !source.is_function && source.printed_table == table;
}

}  // namespace

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
