// Gives every name its meaning, checks what may stand where, and rewrites what means more here than in SQLite
// (times, `now`, star, aliases). Afterwards every column is written as unique-alias.column and nothing is left for
// SQLite to resolve.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sql/ast.h"
#include "sql/functions.h"

namespace daemoneye::sql {

inline constexpr std::size_t max_expanded_tables = 100;  // CTEs counted as often as they are read
inline constexpr std::size_t max_cloned_nodes = 20'000;  // by naming result columns elsewhere
inline constexpr std::size_t max_parameters = 100;
inline constexpr std::size_t max_pattern_bytes = 16 * 1024;

struct OutputColumn {
  std::string name;
  Type type = Type::unknown;
};

class Binder {
 public:
  Binder(std::string_view text, const Limits& limits) : text_(text), limits_(limits) {}

  // The whole statement, in place. Throws Refusal.
  std::vector<OutputColumn> statement(Select& select);
  // A condition on a statement that statement() has bound, ANDed to its WHERE; `text` is the condition's own.
  void add_exception(Select& select, Expr condition, std::string_view text);

  [[nodiscard]] const std::set<std::string>& tables() const { return tables_; }
  [[nodiscard]] const std::set<std::string>& parameters() const { return parameters_; }

 private:
  struct VisibleColumn {
    std::string name;
    Type type = Type::unknown;
    bool merged = false;  // the right side of USING: found by its qualified name only
  };
  struct VisibleSource {
    std::string alias, printed_alias;
    std::vector<VisibleColumn> columns;
  };
  struct Scope {
    Scope* outer = nullptr;
    std::vector<VisibleSource> sources;
    const std::vector<ResultTerm>* results = nullptr;  // bound; for aliases
    const std::vector<Window>* windows = nullptr;
    bool aliases_first = false;
  };
  // What may stand at a place.
  struct Place {
    std::string_view name;  // "WHERE", for messages
    bool aggregates = false, windows = false, aliases = false;
  };
  struct Cte {
    std::string name, printed_name;
    std::vector<OutputColumn> columns;
    std::size_t weight = 1;
    bool being_defined = false;
    const Core* recursive_core = nullptr;
    unsigned recursive_uses = 0;
  };
  struct AggregateArguments {  // which scopes an aggregate's arguments name
    const Scope* scope;
    bool local = false, outer = false;
  };

  // binder.cc
  std::vector<OutputColumn> select(Select& node, Scope* outer);
  void with(Select& node);
  void common_table(Select& owner, CommonTable& table);
  std::vector<OutputColumn> core(Core& node, Scope& scope, bool alone, std::vector<OrderTerm>* order);
  void from(Core& node, Scope& scope);
  VisibleSource source(Source& node, Core& owner, Scope& scope);
  static void hide_from_the_left(Expr& on, std::string_view joined);
  void join_using(Source& node, Scope& scope);
  void expand_stars(Core& node, Scope& scope);
  std::vector<OutputColumn> name_outputs(Core& node);
  void group_by(Core& node, Scope& scope);
  void order_by(std::vector<OrderTerm>& terms, Core& node, Scope& scope, bool is_aggregate);
  void compound_order(std::vector<OrderTerm>& terms, const std::vector<OutputColumn>& columns);
  void limit(Box<Expr>& value, std::string_view clause);
  Cte* find_cte(std::string_view name);
  std::string unique_name(const std::string& wanted);
  static std::optional<std::int64_t> constant_integer(const Expr& expr);
  void count_tables(std::size_t weight, const Position& at);

  // binder_expression.cc
  void expression(Expr& node, Scope& scope, const Place& place, bool row_allowed = false);
  void column(Expr& node, Scope& scope, const Place& place);
  bool resolve(Expr& node, Scope& scope);
  bool resolve_alias(Expr& node, Scope& scope, const Place& place);
  [[noreturn]] void unknown_column(const Expr& node, const Scope& scope, const Place& place) const;
  void comparison(Expr& node, Scope& scope, const Place& place);
  void compared(Expr& left, Expr& right, const Position& at);
  void between(Expr& node, Scope& scope, const Place& place);
  void case_of(Expr& node, Scope& scope, const Place& place);
  void in(Expr& node, Scope& scope, const Place& place);
  void like(Expr& node, Scope& scope, const Place& place);
  void call(Expr& node, Scope& scope, const Place& place);
  static void format_call(const Expr& node);
  void aggregate_call(Expr& node, const FunctionInfo& info, Scope& scope, const Place& place);
  void window(Expr& node, Scope& scope, const Place& place);
  void window_parts(Window& node, Scope& scope, const Place& place);
  static void window_base(const Window& node, const std::vector<Window>& known);
  void subselect(Expr& node, Scope& scope, std::size_t wanted_columns);
  void arguments(std::vector<Expr>& list, Scope& scope, const Place& place);
  void finish(Expr& node);  // type-independent flags and the height

  // binder_time.cc
  void date_call(Expr& node);
  void ago_call(Expr& node);
  void as_time(Expr& node);  // the other side of a comparison with a time
  void as_time_pair(Expr& left, Expr& right);
  void columns_as_time(Box<Select>& select, const std::vector<bool>& wanted);
  [[nodiscard]] Expr parameter_for_now(std::string_view name, const Position& at) const;

  std::string_view text_;
  const Select* root_ = nullptr;
  const Limits limits_;
  std::vector<std::vector<Cte>> ctes_;  // innermost last
  std::set<std::string> names_;         // printed aliases and CTEs, lower case
  std::set<std::string> tables_, parameters_;
  std::vector<AggregateArguments> aggregates_;
  std::vector<VisibleSource> outermost_;  // FROM of the outermost SELECT
  std::size_t expanded_ = 0, cloned_ = 0;
};

Expr make_call(std::string_view function, Type type, const Position& at, std::vector<Expr> arguments);
Expr make_and(Expr left, Expr right);

}  // namespace daemoneye::sql
