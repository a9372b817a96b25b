#include "sql/parser.h"

#include <algorithm>
#include <array>

#include "base/text.h"

namespace daemoneye::sql {
namespace {

constexpr std::size_t max_name_bytes = 128;
constexpr std::size_t max_result_name_bytes = 64;

std::string shown(const Token& token) {
  if (token.kind == TokenKind::end) return "the end of the text";
  return base::printable(token.source.substr(0, 64));
}

}  // namespace

Parser::Parser(std::string_view text, const Limits& limits)
    : text_(text), limits_(limits), tokens_(tokenize(text, limits)) {}

const Token& Parser::peek(std::size_t ahead) const { return tokens_[std::min(next_ + ahead, tokens_.size() - 1)]; }

Token Parser::take() {
  Token token = peek();
  if (token.kind != TokenKind::end) {
    ++next_;
    end_of_last_ = token.at.offset + token.source.size();
  }
  return token;
}

bool Parser::at_word(std::string_view upper, std::size_t ahead) const {
  return peek(ahead).kind == TokenKind::word && peek(ahead).upper == upper;
}

bool Parser::at_symbol(std::string_view symbol, std::size_t ahead) const {
  return peek(ahead).kind == TokenKind::symbol && peek(ahead).text == symbol;
}

bool Parser::accept_word(std::string_view upper) {
  if (!at_word(upper)) return false;
  take();
  return true;
}

bool Parser::accept_symbol(std::string_view symbol) {
  if (!at_symbol(symbol)) return false;
  take();
  return true;
}

void Parser::expect_word(std::string_view upper) {
  if (!accept_word(upper)) refuse(peek(), "expected " + std::string(upper) + "; found " + shown(peek()));
}

void Parser::expect_symbol(std::string_view symbol) {
  if (!accept_symbol(symbol)) refuse(peek(), "expected " + std::string(symbol) + "; found " + shown(peek()));
}

std::string Parser::text_from(const Position& start) const {
  return std::string(text_.substr(start.offset, end_of_last_ - start.offset));
}

std::string Parser::name(std::string_view what) {
  const Token& token = peek();
  if (token.kind == TokenKind::string) {
    refuse(token, "expected " + std::string(what) + "; found a string (names are quoted with \", strings with ')");
  }
  const bool is_name =
      token.kind == TokenKind::quoted_identifier || (token.kind == TokenKind::word && !is_reserved(token.upper));
  if (!is_name) refuse(token, "expected " + std::string(what) + "; found " + shown(token));
  if (token.text.size() > max_name_bytes) refuse(token, "a name has at most 128 bytes");
  return take().text;
}

std::string Parser::new_name(std::string_view what) {
  const Token token = peek();
  std::string given = name(what);
  const auto folded = lower_case(given);
  if (given.front() == '_') refuse(token, "names beginning with _ are reserved");
  for (const auto* const taken : {"rowid", "oid", "true", "false"}) {
    if (folded == taken) refuse(token, "the name " + folded + " is reserved");
  }
  return given;
}

std::string Parser::optional_alias() {
  if (accept_word("AS")) return new_name("a name after AS");
  const Token& token = peek();
  if (token.kind == TokenKind::quoted_identifier || (token.kind == TokenKind::word && !is_reserved(token.upper))) {
    return new_name("a name");
  }
  return {};
}

Select Parser::statement() {
  const Token& first = peek();
  if (first.kind == TokenKind::end) refuse(first, "the statement is empty; expected SELECT");
  if (!at_word("SELECT") && !at_word("WITH")) refuse(first, "only SELECT is accepted; found " + shown(first));
  Select parsed = select();
  accept_symbol(";");
  if (peek().kind != TokenKind::end) {
    const bool second_statement = tokens_[next_ - 1].text == ";";
    refuse(peek(), second_statement ? "only one statement is accepted; found " + shown(peek()) + " after the ;"
                                    : "expected the end of the statement; found " + shown(peek()));
  }
  return parsed;
}

Expr Parser::condition() {
  Expr parsed = expression();
  if (peek().kind != TokenKind::end) refuse(peek(), "expected the end of the condition; found " + shown(peek()));
  return parsed;
}

Select Parser::select() {
  const Depth guard(nesting_, limits_.max_nesting, peek(), "SELECTs");
  const unsigned outer_tallest = tallest_;
  tallest_ = 0;
  Select into;
  into.at = peek().at;
  if (at_word("WITH")) with_clause(into);
  into.cores.push_back(core());
  for (;;) {
    std::string op;
    if (accept_word("UNION"))
      op = accept_word("ALL") ? "UNION ALL" : "UNION";
    else if (accept_word("INTERSECT"))
      op = "INTERSECT";
    else if (accept_word("EXCEPT"))
      op = "EXCEPT";
    else
      break;
    constexpr std::size_t max_compound = 50;
    if (into.cores.size() >= max_compound) refuse(peek(), "at most 50 SELECTs can be joined by UNION and its like");
    into.cores.push_back(core());
    into.cores.back().op = op;
  }
  if (accept_word("ORDER")) {
    expect_word("BY");
    into.order = order_terms();
  }
  limit_clause(into);
  into.height = tallest_ + 1;
  tallest_ = std::max(outer_tallest, into.height);
  return into;
}

void Parser::with_clause(Select& into) {
  expect_word("WITH");
  into.recursive = accept_word("RECURSIVE");
  do {
    CommonTable table;
    table.at = peek().at;
    table.name = new_name("a name after WITH");
    if (accept_symbol("(")) {
      do table.columns.push_back(new_name("a column name"));
      while (accept_symbol(","));
      expect_symbol(")");
    }
    expect_word("AS");
    if (accept_word("NOT"))
      expect_word("MATERIALIZED");
    else
      accept_word("MATERIALIZED");
    expect_symbol("(");
    if (!at_word("SELECT") && !at_word("WITH")) refuse(peek(), "only SELECT is accepted here; found " + shown(peek()));
    table.select = select();
    expect_symbol(")");
    into.with.push_back(std::move(table));
  } while (accept_symbol(","));
}

Core Parser::core() {
  Core into;
  into.at = peek().at;
  if (!at_word("SELECT")) refuse(peek(), "expected SELECT; found " + shown(peek()));
  take();
  if (accept_word("DISTINCT"))
    into.distinct = true;
  else
    accept_word("ALL");
  do into.results.push_back(result_term());
  while (accept_symbol(","));
  if (into.results.size() > limits_.max_result_columns) {
    refuse(into.at, "SELECT", "at most " + std::to_string(limits_.max_result_columns) + " result columns are allowed");
  }
  if (accept_word("FROM")) from_clause(into);
  if (accept_word("WHERE")) into.where = expression();
  if (accept_word("GROUP")) {
    expect_word("BY");
    do into.group_by.push_back(expression());
    while (accept_symbol(","));
  }
  if (accept_word("HAVING")) into.having = expression();
  if (accept_word("WINDOW")) {
    do {
      const auto at = peek().at;
      auto given = new_name("a window's name");
      expect_word("AS");
      auto window = window_definition();
      window.at = at;
      window.name = std::move(given);
      into.windows.push_back(std::move(window));
    } while (accept_symbol(","));
  }
  return into;
}

ResultTerm Parser::result_term() {
  ResultTerm term;
  term.at = peek().at;
  if (accept_symbol("*")) {
    term.kind = ResultTerm::Kind::star;
    return term;
  }
  if ((peek().kind == TokenKind::word || peek().kind == TokenKind::quoted_identifier) && at_symbol(".", 1) &&
      at_symbol("*", 2)) {
    term.kind = ResultTerm::Kind::table_star;
    term.qualifier = name("a table's name");
    take();
    take();
    return term;
  }
  term.value = expression();
  const std::string written = text_from(term.at);
  term.alias = optional_alias();
  term.named = !term.alias.empty();
  if (term.named) {
    term.name = term.alias;
  } else if (term.value.kind == ExprKind::column) {
    term.name = term.value.text;
  } else {
    term.name = base::to_valid_utf8(std::string_view(written).substr(0, max_result_name_bytes));
    const auto folded = lower_case(term.name);
    if (term.name.front() == '_' || folded == "true" || folded == "false") term.name = "(" + term.name + ")";
  }
  return term;
}

void Parser::from_clause(Core& into) { joined_sources(into.from, Join::first, peek(), false); }

constexpr auto not_in_parentheses =
    "LEFT JOIN with joins in parentheses stands first in FROM only; write (SELECT … JOIN …) in their place";

// Inner joins in parentheses are the same joins without them. `join` is how the first of them is joined to what stands
// before.
void Parser::joined_sources(std::vector<Source>& into, Join join, const Token& at, bool only_inner) {
  source_or_joins(into, join, at);
  for (;;) {
    const Token start = peek();
    if (accept_symbol(",")) {
      source_or_joins(into, Join::inner, start);
    } else {
      if (at_word("NATURAL") || at_word("RIGHT") || at_word("FULL")) {
        refuse(start, "joins are INNER, LEFT and CROSS; found " + start.upper);
      }
      Join kind = Join::first;
      if (accept_word("LEFT")) {
        accept_word("OUTER");
        kind = Join::left;
      } else if (accept_word("INNER")) {
        kind = Join::inner;
      } else if (accept_word("CROSS")) {
        kind = Join::cross;
      }
      if (kind == Join::first && !at_word("JOIN")) return;
      expect_word("JOIN");
      if (kind == Join::first) kind = Join::inner;
      if (kind == Join::left && only_inner) refuse(start, not_in_parentheses);
      const auto before = into.size();
      source_or_joins(into, kind, start);
      join_condition(into.back(), kind, into.size() > before + 1);
    }
    if (into.size() > limits_.max_joins + 1) {
      refuse(start, "at most " + std::to_string(limits_.max_joins) + " joins are allowed in one SELECT");
    }
  }
}

void Parser::join_condition(Source& joined, Join kind, bool of_several) {
  if (accept_word("ON")) {
    auto condition = expression();
    // Of inner joins it does not matter which of them has it.
    joined.on = joined.on ? made_and(std::move(*joined.on), std::move(condition)) : std::move(condition);
  } else if (at_word("USING")) {
    if (of_several) refuse(peek(), "USING cannot follow joins in parentheses; use ON");
    joined.using_at = take().at;
    expect_symbol("(");
    do joined.using_columns.push_back(name("a column name"));
    while (accept_symbol(","));
    expect_symbol(")");
  } else if (kind == Join::left) {
    refuse(peek(), "a LEFT JOIN needs ON or USING; found " + shown(peek()));
  }
}

// A source, or what is joined in parentheses.
void Parser::source_or_joins(std::vector<Source>& into, Join join, const Token& at) {
  const bool joins = at_symbol("(") && !at_word("SELECT", 1) && !at_word("WITH", 1);
  if (!joins) {
    into.push_back(source());
    into.back().join = join;
    return;
  }
  const Depth nested(joins_depth_, limits_.max_nesting, peek(), "joins in parentheses");
  take();
  // What stands first in FROM may hold any join. Elsewhere LEFT and USING mean something within the parentheses only.
  const bool elsewhere = join != Join::first;
  if (join == Join::left) refuse(at, not_in_parentheses);
  const auto before = into.size();
  joined_sources(into, join, at, elsewhere);
  for (auto i = before; elsewhere && i < into.size(); ++i) {
    if (!into[i].using_columns.empty())
      refuse(peek(), "USING cannot stand in joins in parentheses after others; use ON");
  }
  expect_symbol(")");
  if (at_word("AS")) refuse(peek(), "joins in parentheses have no name");
}

Source Parser::source() {
  Source into;
  into.at = peek().at;
  if (accept_symbol("(")) {
    if (!at_word("SELECT") && !at_word("WITH")) refuse(peek(), "expected SELECT after (; found " + shown(peek()));
    into.derived = select();
    expect_symbol(")");
  } else {
    into.table = name("a table's name");
    if (at_symbol(".")) refuse(peek(), "tables have no schema here; leave out " + into.table + ".");
    if (accept_symbol("(")) {
      into.is_function = true;
      if (!at_symbol(")")) into.arguments = expression_list();
      expect_symbol(")");
    }
  }
  into.alias = optional_alias();
  return into;
}

std::vector<OrderTerm> Parser::order_terms() {
  std::vector<OrderTerm> terms;
  do {
    OrderTerm term;
    term.value = expression();
    if (accept_word("DESC"))
      term.descending = true;
    else
      accept_word("ASC");
    if (accept_word("NULLS")) {
      if (accept_word("FIRST"))
        term.nulls = "FIRST";
      else if (accept_word("LAST"))
        term.nulls = "LAST";
      else
        refuse(peek(), "expected FIRST or LAST after NULLS; found " + shown(peek()));
    }
    terms.push_back(std::move(term));
  } while (accept_symbol(","));
  return terms;
}

void Parser::limit_clause(Select& into) {
  if (!accept_word("LIMIT")) return;
  into.limit = expression();
  if (accept_word("OFFSET")) {
    into.offset = expression();
  } else if (accept_symbol(",")) {  // LIMIT offset, count
    into.offset = std::move(into.limit);
    into.limit = expression();
  }
}

Window Parser::window_definition() {
  Window into;
  into.at = peek().at;
  expect_symbol("(");
  const auto begins_a_clause = [&] {
    for (const auto* const word : {"PARTITION", "ORDER", "ROWS", "RANGE", "GROUPS"}) {
      if (at_word(word)) return true;
    }
    return false;
  };
  if (!at_symbol(")") && !begins_a_clause()) into.base = name("a window's name, PARTITION, ORDER or a frame");
  if (at_word("PARTITION") && !into.base.empty()) {
    refuse(peek(), "a window built on another has that one's PARTITION BY");
  }
  if (accept_word("PARTITION")) {
    expect_word("BY");
    into.partition = expression_list();
  }
  if (accept_word("ORDER")) {
    expect_word("BY");
    into.order = order_terms();
  }
  frame_clause(into);
  expect_symbol(")");
  return into;
}

void Parser::frame_clause(Window& into) {
  const Token start = peek();
  if (start.kind != TokenKind::word || (start.upper != "ROWS" && start.upper != "RANGE" && start.upper != "GROUPS"))
    return;
  into.unit = take().upper;
  if (accept_word("BETWEEN")) {
    into.from = frame_bound(true);
    expect_word("AND");
    into.to = frame_bound(false);
  } else {
    into.from = frame_bound(true);
  }
  constexpr auto order = std::to_array<std::string_view>(
      {"UNBOUNDED PRECEDING", "PRECEDING", "CURRENT ROW", "FOLLOWING", "UNBOUNDED FOLLOWING"});
  const auto place = [&](const FrameBound& bound) { return std::ranges::find(order, bound.kind) - order.begin(); };
  if (place(into.from) > place(into.to)) refuse(start, "this frame ends before it begins");
  const bool has_distance = into.from.distance || into.to.distance;
  if (!into.base.empty()) {
    // What it is built on may have the ORDER BY: the binder looks.
  } else if (into.unit == "RANGE" && has_distance && into.order.size() != 1) {
    refuse(start, "RANGE with a distance needs exactly one ORDER BY term in the window");
  }
  if (into.base.empty() && into.unit == "GROUPS" && into.order.empty())
    refuse(start, "GROUPS needs ORDER BY in the window");
  if (accept_word("EXCLUDE")) {
    if (accept_word("NO")) {
      expect_word("OTHERS");
      into.exclude = "NO OTHERS";
    } else if (accept_word("CURRENT")) {
      expect_word("ROW");
      into.exclude = "CURRENT ROW";
    } else if (accept_word("GROUP")) {
      into.exclude = "GROUP";
    } else if (accept_word("TIES")) {
      into.exclude = "TIES";
    } else {
      refuse(peek(), "expected NO OTHERS, CURRENT ROW, GROUP or TIES after EXCLUDE; found " + shown(peek()));
    }
  }
}

FrameBound Parser::frame_bound(bool is_start) {
  FrameBound bound;
  const Token start = peek();
  if (accept_word("UNBOUNDED")) {
    if (accept_word("PRECEDING"))
      bound.kind = "UNBOUNDED PRECEDING";
    else if (accept_word("FOLLOWING"))
      bound.kind = "UNBOUNDED FOLLOWING";
    else
      refuse(peek(), "expected PRECEDING or FOLLOWING; found " + shown(peek()));
    if (is_start == (bound.kind == "UNBOUNDED FOLLOWING")) refuse(start, "this frame ends before it begins");
  } else if (at_word("CURRENT") && at_word("ROW", 1)) {
    take();
    take();
  } else {
    // A constant: SQLite evaluates it once a partition and names no column of it.
    if (start.kind != TokenKind::integer && start.kind != TokenKind::real && start.kind != TokenKind::parameter) {
      refuse(start, "the distance of a frame is a number or a parameter; found " + shown(start));
    }
    bound.distance = literal_or_name();
    if (accept_word("PRECEDING"))
      bound.kind = "PRECEDING";
    else if (accept_word("FOLLOWING"))
      bound.kind = "FOLLOWING";
    else
      refuse(peek(), "expected PRECEDING or FOLLOWING; found " + shown(peek()));
  }
  return bound;
}

Select parse_statement(std::string_view text, const Limits& limits) { return Parser(text, limits).statement(); }
Expr parse_condition(std::string_view text, const Limits& limits) { return Parser(text, limits).condition(); }

}  // namespace daemoneye::sql
