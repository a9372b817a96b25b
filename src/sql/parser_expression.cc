// Expressions: operator precedence as SQLite has it.
#include <algorithm>
#include <array>
#include <bit>
#include <optional>

#include "base/text.h"
#include "sql/parser.h"

namespace daemoneye::sql {
namespace {

// Levels of binding, loosest first. NOT stands between AND and equality; unary signs bind tightest.
enum Level : int {
  level_or = 1,
  level_and,
  level_not,
  level_equality,
  level_order,
  level_bits,
  level_sum,
  level_product,
  level_concat,
  level_collate,
  level_unary,
};

struct Operator {
  std::string_view symbol;
  int level;
};

constexpr auto operators = std::to_array<Operator>({
    {"=", level_equality}, {"==", level_equality}, {"<>", level_equality}, {"!=", level_equality},
    {"<", level_order},    {"<=", level_order},    {">", level_order},     {">=", level_order},
    {"&", level_bits},     {"|", level_bits},      {"<<", level_bits},     {">>", level_bits},
    {"+", level_sum},      {"-", level_sum},       {"*", level_product},   {"/", level_product},
    {"%", level_product},  {"||", level_concat},   {"->", level_concat},   {"->>", level_concat},
});

// The binding level of a token that stands after an operand; 0: it does not continue an expression.
int infix_level(const Token& token, const Token& following) {
  if (token.kind == TokenKind::symbol) {
    const auto* const found = std::ranges::find(operators, std::string_view(token.text), &Operator::symbol);
    return found == operators.end() ? 0 : found->level;
  }
  if (token.kind != TokenKind::word) return 0;
  const auto& word = token.upper;
  if (word == "OR") return level_or;
  if (word == "AND") return level_and;
  if (word == "COLLATE") return level_collate;
  for (const auto* const keyword : {"IS", "IN", "LIKE", "GLOB", "REGEXP", "MATCH", "BETWEEN", "ISNULL", "NOTNULL"}) {
    if (word == keyword) return level_equality;
  }
  if (word == "NOT") {
    for (const auto* const keyword : {"IN", "LIKE", "GLOB", "REGEXP", "MATCH", "BETWEEN", "NULL"}) {
      if (following.kind == TokenKind::word && following.upper == keyword) return level_equality;
    }
  }
  return 0;
}

std::string canonical_operator(std::string_view symbol) {
  if (symbol == "==") return "=";
  if (symbol == "!=") return "<>";
  return std::string(symbol);
}

Expr make(ExprKind kind, const Position& at, std::string text = {}) {
  Expr expr;
  expr.kind = kind;
  expr.at = at;
  expr.text = std::move(text);
  return expr;
}

Expr literal(LiteralKind kind, const Position& at, std::string text) {
  Expr expr = make(ExprKind::literal, at, std::move(text));
  expr.literal_kind = kind;
  return expr;
}

}  // namespace

Expr Parser::made(Expr expr) {
  unsigned below = 0;
  for (const auto& argument : expr.args) below = std::max(below, argument.height);
  if (expr.select) below = std::max(below, expr.select->height);
  if (expr.filter) below = std::max(below, expr.filter->height);
  // A chain is printed as a balanced tree.
  expr.height = below + (expr.kind == ExprKind::chain ? static_cast<unsigned>(std::bit_width(expr.args.size())) : 1);
  if (expr.height > limits_.max_expression_depth) {
    refuse(expr.at, expr.text, "expressions are nested deeper than " + std::to_string(limits_.max_expression_depth));
  }
  tallest_ = std::max(tallest_, expr.height);
  return expr;
}

Expr Parser::expression(int min_level) {
  Expr left = operand();
  for (;;) {
    const int level = infix_level(peek(), peek(1));
    if (level == 0 || level < min_level) return left;
    left = infix(std::move(left), level);
  }
}

Expr Parser::made_and(Expr left, Expr right) {
  Expr expr = make(ExprKind::chain, left.at, "AND");
  for (auto* const part : {&left, &right}) {
    if (part->kind == ExprKind::chain && part->text == expr.text)
      std::ranges::move(part->args, std::back_inserter(expr.args));
    else
      expr.args.push_back(std::move(*part));
  }
  return made(std::move(expr));
}

Expr Parser::infix(Expr left, int level) {
  const Token op = peek();
  if (op.kind == TokenKind::symbol) {
    take();
    Expr expr = make(ExprKind::binary, left.at, canonical_operator(op.text));
    expr.args.push_back(std::move(left));
    expr.args.push_back(expression(level + 1));
    return made(std::move(expr));
  }
  if (op.upper == "OR" || op.upper == "AND") {
    Expr expr = make(ExprKind::chain, left.at, op.upper);
    const auto add = [&](Expr part) {
      // AND and OR are associative: a nested chain of the same kind joins this one.
      if (part.kind == ExprKind::chain && part.text == expr.text)
        std::ranges::move(part.args, std::back_inserter(expr.args));
      else
        expr.args.push_back(std::move(part));
    };
    add(std::move(left));
    while (accept_word(op.upper)) add(expression(level + 1));
    return made(std::move(expr));
  }
  if (op.upper == "COLLATE") {
    take();
    const Token given = peek();
    const auto collation = upper_case(name("a collation"));
    if (collation != "BINARY" && collation != "NOCASE" && collation != "RTRIM") {
      refuse(given, "unknown collation " + given.text + "; allowed are BINARY, NOCASE and RTRIM");
    }
    Expr expr = make(ExprKind::collate, left.at, collation);
    expr.args.push_back(std::move(left));
    return made(std::move(expr));
  }
  return comparison_tail(std::move(left));
}

Expr Parser::comparison_tail(Expr left) {
  const bool negated = accept_word("NOT");
  const Token op = take();
  const auto finish = [&](Expr expr) {
    expr.negated = negated;
    return made(std::move(expr));
  };
  if (op.upper == "ISNULL" || op.upper == "NOTNULL" || op.upper == "NULL") {
    Expr expr = make(ExprKind::is_null, left.at);
    expr.args.push_back(std::move(left));
    expr.negated = op.upper == "NOTNULL" || (op.upper == "NULL" && negated);
    return made(std::move(expr));
  }
  if (op.upper == "IS") {
    bool is_not = accept_word("NOT");
    if (accept_word("DISTINCT")) {
      expect_word("FROM");
      is_not = !is_not;
    }
    Expr right = expression(level_order);
    if (right.kind == ExprKind::literal && right.literal_kind == LiteralKind::null) {
      Expr expr = make(ExprKind::is_null, left.at);
      expr.args.push_back(std::move(left));
      expr.negated = is_not;
      return made(std::move(expr));
    }
    Expr expr = make(ExprKind::binary, left.at, is_not ? "IS NOT" : "IS");
    expr.args.push_back(std::move(left));
    expr.args.push_back(std::move(right));
    return made(std::move(expr));
  }
  if (op.upper == "IN") return in_tail(std::move(left), negated);
  if (op.upper == "BETWEEN") {
    Expr expr = make(ExprKind::between, left.at);
    expr.args.push_back(std::move(left));
    expr.args.push_back(expression(level_order));
    expect_word("AND");
    expr.args.push_back(expression(level_order));
    return finish(std::move(expr));
  }
  if (op.upper == "MATCH") refuse(op, "MATCH is not available; allowed are LIKE, GLOB and REGEXP");
  Expr expr = make(ExprKind::like, left.at, op.upper);
  expr.args.push_back(std::move(left));
  expr.args.push_back(expression(level_order));
  if (at_word("ESCAPE")) {
    if (op.upper != "LIKE") refuse(peek(), "ESCAPE belongs to LIKE only");
    take();
    expr.args.push_back(expression(level_order));
  }
  return finish(std::move(expr));
}

Expr Parser::in_tail(Expr left, bool negated) {
  if (!at_symbol("(")) refuse(peek(), "expected ( after IN");
  const Token open = take();
  const bool is_select = at_word("SELECT") || at_word("WITH");
  Expr expr = make(is_select ? ExprKind::in_select : ExprKind::in_list, left.at);
  expr.negated = negated;
  expr.args.push_back(std::move(left));
  if (is_select) {
    expr.select = select();
  } else if (!at_symbol(")")) {
    auto items = expression_list();
    if (items.size() > limits_.max_in_values) {
      refuse(open, "this list has " + std::to_string(items.size()) + " values; at most " +
                       std::to_string(limits_.max_in_values) + " are allowed");
    }
    std::ranges::move(items, std::back_inserter(expr.args));
  }
  expect_symbol(")");
  return made(std::move(expr));
}

std::vector<Expr> Parser::expression_list() {
  std::vector<Expr> list;
  do list.push_back(expression());
  while (accept_symbol(","));
  return list;
}

Expr Parser::operand() {
  const Depth guard(depth_, limits_.max_expression_depth, peek(), "expressions");
  const Token start = peek();
  if (start.kind == TokenKind::symbol && (start.text == "-" || start.text == "+" || start.text == "~")) {
    take();
    Expr expr = make(ExprKind::unary, start.at, start.text);
    expr.args.push_back(expression(level_unary));
    return made(std::move(expr));
  }
  if (at_word("NOT")) {
    take();
    Expr expr = make(ExprKind::unary, start.at, "NOT");
    expr.args.push_back(expression(level_not));
    return made(std::move(expr));
  }
  if (at_symbol("(")) return parenthesised();
  if (at_word("CASE")) return case_expression();
  if (at_word("CAST")) return cast_expression();
  if (at_word("EXISTS")) {
    take();
    expect_symbol("(");
    if (!at_word("SELECT") && !at_word("WITH")) refuse(peek(), "expected SELECT after EXISTS (");
    Expr expr = make(ExprKind::exists, start.at);
    expr.select = select();
    expect_symbol(")");
    return made(std::move(expr));
  }
  return literal_or_name();
}

Expr Parser::parenthesised() {
  const Token open = take();
  if (at_word("SELECT") || at_word("WITH")) {
    Expr expr = make(ExprKind::scalar, open.at);
    expr.select = select();
    expect_symbol(")");
    return made(std::move(expr));
  }
  auto items = expression_list();
  expect_symbol(")");
  if (items.size() == 1) return std::move(items.front());
  Expr expr = make(ExprKind::row, open.at);
  expr.args = std::move(items);
  return made(std::move(expr));
}

Expr Parser::case_expression() {
  const Token start = take();
  Expr expr = make(ExprKind::case_of, start.at);
  if (!at_word("WHEN")) {
    expr.has_base = true;
    expr.args.push_back(expression());
  }
  if (!at_word("WHEN")) refuse(peek(), "expected WHEN");
  while (accept_word("WHEN")) {
    expr.args.push_back(expression());
    expect_word("THEN");
    expr.args.push_back(expression());
  }
  if (accept_word("ELSE")) {
    expr.has_else = true;
    expr.args.push_back(expression());
  }
  expect_word("END");
  return made(std::move(expr));
}

Expr Parser::cast_expression() {
  const Token start = take();
  expect_symbol("(");
  Expr expr = make(ExprKind::cast, start.at);
  expr.args.push_back(expression());
  expect_word("AS");
  const Token type = peek();
  constexpr auto known = std::to_array<std::pair<std::string_view, std::string_view>>({{"INTEGER", "INTEGER"},
                                                                                       {"INT", "INTEGER"},
                                                                                       {"BIGINT", "INTEGER"},
                                                                                       {"REAL", "REAL"},
                                                                                       {"DOUBLE", "REAL"},
                                                                                       {"FLOAT", "REAL"},
                                                                                       {"TEXT", "TEXT"},
                                                                                       {"VARCHAR", "TEXT"},
                                                                                       {"BLOB", "BLOB"},
                                                                                       {"NUMERIC", "NUMERIC"}});
  const auto* const found =
      std::ranges::find(known, std::string_view(type.upper), &std::pair<std::string_view, std::string_view>::first);
  if (found == known.end()) refuse(type, "expected INTEGER, REAL, TEXT, BLOB or NUMERIC after AS");
  take();
  expr.text = found->second;
  expect_symbol(")");
  return made(std::move(expr));
}

Expr Parser::literal_or_name() {
  const Token token = peek();
  switch (token.kind) {
    case TokenKind::integer: take(); return made(literal(LiteralKind::integer, token.at, token.text));
    case TokenKind::real: take(); return made(literal(LiteralKind::real, token.at, token.text));
    case TokenKind::string: take(); return made(literal(LiteralKind::text, token.at, token.text));
    case TokenKind::blob: take(); return made(literal(LiteralKind::blob, token.at, token.text));
    case TokenKind::parameter: {
      take();
      std::string given = token.text.substr(1);
      if (token.text.front() == '?') {
        constexpr unsigned most = 999;
        const auto number = given.empty() ? std::optional(next_positional_) : base::parse_integer<unsigned>(given);
        if (!number || *number == 0 || *number > most) refuse(token, "parameters are numbered from ?1 to ?999");
        next_positional_ = std::max(next_positional_, *number + 1);
        given = "?" + std::to_string(*number);
      } else if (given.front() == '_') {
        refuse(token, "names beginning with _ are reserved");
      }
      return made(make(ExprKind::parameter, token.at, std::move(given)));
    }
    default: break;
  }
  if (token.kind == TokenKind::word) {
    if (token.upper == "NULL") return take(), made(literal(LiteralKind::null, token.at, "NULL"));
    if (token.upper == "TRUE" || token.upper == "FALSE") {
      take();
      return made(literal(LiteralKind::boolean, token.at, token.upper));
    }
    if (token.upper.starts_with("CURRENT_") && is_reserved(token.upper)) {
      take();  // as SQLite defines them
      Expr expr = make(ExprKind::call, token.at,
                       token.upper == "CURRENT_DATE"   ? "date"
                       : token.upper == "CURRENT_TIME" ? "time"
                                                       : "datetime");
      expr.args.push_back(literal(LiteralKind::text, token.at, "now"));
      return made(std::move(expr));
    }
    if (at_symbol("(", 1) && (!is_reserved(token.upper))) {
      take();
      return call(token);
    }
  }
  const bool is_name =
      token.kind == TokenKind::quoted_identifier || (token.kind == TokenKind::word && !is_reserved(token.upper));
  if (!is_name) {
    refuse(token, "expected a value or a column; found " + (token.kind == TokenKind::end
                                                                ? std::string("the end of the text")
                                                                : base::printable(token.source.substr(0, 64))));
  }
  Expr expr = make(ExprKind::column, token.at, name("a column"));
  if (at_symbol("(")) refuse(token, "a function's name is not quoted");
  if (accept_symbol(".")) {
    expr.qualifier = std::move(expr.text);
    expr.text = name("a column after .");
    if (at_symbol(".")) refuse(peek(), "columns are named table.column; there is no schema here");
  }
  return made(std::move(expr));
}

Expr Parser::call(const Token& function_name) {
  Expr expr = make(ExprKind::call, function_name.at, lower_case(function_name.text));
  expect_symbol("(");
  if (accept_symbol("*")) {
    expr.star = true;
  } else if (!at_symbol(")")) {
    expr.distinct = accept_word("DISTINCT");
    if (!expr.distinct) accept_word("ALL");
    expr.args = expression_list();
  }
  expect_symbol(")");
  if (accept_word("FILTER")) {
    expect_symbol("(");
    expect_word("WHERE");
    expr.filter = expression();
    expect_symbol(")");
  }
  if (accept_word("OVER")) {
    if (at_symbol("(")) {
      expr.over = window_definition();
    } else {
      Window reference;
      reference.at = peek().at;
      reference.name = name("a window's name after OVER");
      reference.is_reference = true;
      expr.over = std::move(reference);
    }
  }
  return made(std::move(expr));
}

}  // namespace daemoneye::sql
