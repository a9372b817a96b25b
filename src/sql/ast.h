// What a statement can be. There is no node for anything but SELECT, so nothing else can be asked.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sql/lexer.h"

namespace daemoneye::sql {

// An optional, owned, copyable subtree.
template <class T>
class Box {
 public:
  Box() = default;
  Box(T value) : value_(std::make_unique<T>(std::move(value))) {}  // NOLINT: a T is a full box
  Box(const Box& other) : value_(other.value_ ? std::make_unique<T>(*other.value_) : nullptr) {}
  Box(Box&&) noexcept = default;
  Box& operator=(Box other) noexcept {
    value_ = std::move(other.value_);
    return *this;
  }
  ~Box() = default;
  explicit operator bool() const { return value_ != nullptr; }
  T& operator*() const { return *value_; }
  T* operator->() const { return value_.get(); }

 private:
  std::unique_ptr<T> value_;
};

struct Select;
struct Window;

// What is known of a value's type before it is there.
enum class Type : std::uint8_t { unknown, null, integer, real, text, blob, time };

enum class ExprKind : std::uint8_t {
  literal,    // text: as printed (numbers, NULL, TRUE, FALSE), or the content (string, blob by literal_kind)
  parameter,  // text: "name" or "?N"
  column,     // qualifier.text
  unary,      // text: - + ~ NOT; args: [operand]
  binary,     // text: the operator; args: [left, right]
  chain,      // text: AND | OR; args: two or more, so that long lists stay flat
  like,       // text: LIKE | GLOB | REGEXP; args: [value, pattern, escape?]; negated
  between,    // args: [value, low, high]; negated
  in_list,    // args: [value, items…]; negated
  in_select,  // args: [value]; select; negated
  is_null,    // args: [value]; negated: IS NOT NULL
  exists,     // select
  scalar,     // select
  row,        // args: two or more
  case_of,    // args: [base?] (when, then)… [else?]; has_base, has_else
  cast,       // text: type; args: [value]
  collate,    // text: collation; args: [value]
  call,       // text: function, lower case; args; distinct; star; filter; over
  output,     // text: ordinal of a result column (only ORDER BY and GROUP BY terms)
};

enum class LiteralKind : std::uint8_t { null, integer, real, text, blob, boolean };

struct Expr {
  ExprKind kind = ExprKind::literal;
  LiteralKind literal_kind = LiteralKind::null;
  Type type = Type::unknown;  // set by the binder
  bool negated = false, distinct = false, star = false, has_base = false, has_else = false;
  bool has_aggregate = false, has_window = false;  // set by the binder: in this SELECT, not in inner ones
  unsigned height = 1;                             // of the tree
  Position at;
  std::string text, qualifier;
  std::vector<Expr> args;
  Box<Select> select;
  Box<Expr> filter;
  Box<Window> over;
};

struct OrderTerm {
  Expr value;
  bool descending = false;
  std::string nulls;  // "", "FIRST", "LAST"
};

struct FrameBound {
  std::string kind = "CURRENT ROW";  // or UNBOUNDED PRECEDING, PRECEDING, FOLLOWING, UNBOUNDED FOLLOWING
  Box<Expr> distance;                // of PRECEDING and FOLLOWING
};

struct Window {
  Position at;
  std::string name;  // of a definition in WINDOW, or, when `is_reference`, of the one referred to
  bool is_reference = false;
  std::string base;  // a window of the WINDOW clause that this one is built on; "" none
  std::vector<Expr> partition;
  std::vector<OrderTerm> order;
  std::string unit;  // "" (no frame), ROWS, RANGE, GROUPS
  FrameBound from, to;
  std::string exclude;  // "", NO OTHERS, CURRENT ROW, GROUP, TIES
};

struct ResultTerm {
  enum class Kind : std::uint8_t { expression, star, table_star };
  Kind kind = Kind::expression;
  Position at;
  Expr value;
  std::string alias;      // as given, "" none; the binder makes it unique
  bool named = false;     // by AS
  std::string qualifier;  // of table_star
  std::string name;       // what it is called: the alias, the column's name, or the text
};

enum class Join : std::uint8_t { first, inner, left, cross };

struct Source {
  Join join = Join::first;
  Position at;
  std::string table;  // a table's, CTE's or table-valued function's name
  bool is_function = false;
  std::vector<Expr> arguments;
  Box<Select> derived;
  std::string alias;  // as given; "" none
  Box<Expr> on;
  std::vector<std::string> using_columns;
  Position using_at;
  // Set by the binder.
  std::string printed_table, printed_alias;  // unique in the statement
};

// One SELECT … without compound, ORDER BY and LIMIT.
struct Core {
  Position at;
  std::string op;  // how it is joined to the one before: "", UNION, UNION ALL, INTERSECT, EXCEPT
  bool distinct = false;
  std::vector<ResultTerm> results;
  std::vector<Source> from;
  Box<Expr> where;
  std::vector<Expr> group_by;
  Box<Expr> having;
  std::vector<Window> windows;
};

struct CommonTable {
  Position at;
  std::string name;
  std::vector<std::string> columns;
  Box<Select> select;
  std::string printed_name;  // set by the binder: unique in the statement
};

struct Select {
  Position at;
  bool recursive = false;
  std::vector<CommonTable> with;
  std::vector<Core> cores;  // one, or more when compound
  std::vector<OrderTerm> order;
  Box<Expr> limit, offset;
  unsigned height = 0;  // of its tallest expression, inner SELECTs included
};

}  // namespace daemoneye::sql
