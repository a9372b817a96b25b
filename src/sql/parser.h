// Tokens -> AST: the grammar in docs/sql.md, recursive descent. Recursion is bounded by the limits, not by the stack.
#pragma once

#include <string_view>
#include <vector>

#include "sql/ast.h"

namespace daemoneye::sql {

// One SELECT, and at most one `;`. Throws Refusal.
Select parse_statement(std::string_view text, const Limits& limits);
// One expression and nothing after it, as in a rule's `except:`. Throws Refusal.
Expr parse_condition(std::string_view text, const Limits& limits);

class Parser {
 public:
  Parser(std::string_view text, const Limits& limits);
  Select statement();
  Expr condition();

 private:
  // parser.cc: statement and clauses
  Select select();
  void with_clause(Select& into);
  Core core();
  void from_clause(Core& into);
  void joined_sources(std::vector<Source>& into, Join join, const Token& at, bool only_inner);
  void source_or_joins(std::vector<Source>& into, Join join, const Token& at);
  void join_condition(Source& joined, Join kind, bool of_several);
  Expr made_and(Expr left, Expr right);
  Source source();
  ResultTerm result_term();
  std::vector<OrderTerm> order_terms();
  void limit_clause(Select& into);
  Window window_definition();
  void frame_clause(Window& into);
  FrameBound frame_bound(bool is_start);
  std::string name(std::string_view what);      // bare or quoted; refuses keywords and reserved beginnings
  std::string new_name(std::string_view what);  // one that the statement gives
  std::string optional_alias();

  // parser_expression.cc
  Expr expression(int min_level = 0);
  Expr operand();
  Expr infix(Expr left, int level);
  Expr comparison_tail(Expr left);
  Expr in_tail(Expr left, bool negated);
  Expr literal_or_name();
  Expr parenthesised();
  Expr case_expression();
  Expr cast_expression();
  Expr call(const Token& function_name);
  std::vector<Expr> expression_list();
  Expr made(Expr expr);  // checks the height

  // tokens
  [[nodiscard]] const Token& peek(std::size_t ahead = 0) const;
  Token take();
  [[nodiscard]] bool at_word(std::string_view upper, std::size_t ahead = 0) const;
  [[nodiscard]] bool at_symbol(std::string_view symbol, std::size_t ahead = 0) const;
  bool accept_word(std::string_view upper);
  bool accept_symbol(std::string_view symbol);
  void expect_word(std::string_view upper);
  void expect_symbol(std::string_view symbol);
  [[nodiscard]] std::string text_from(const Position& start) const;  // the source up to the last token taken

  class Depth;  // counts recursion while it lives
  std::string_view text_;
  const Limits limits_;
  std::vector<Token> tokens_;
  std::size_t next_ = 0;
  std::size_t end_of_last_ = 0;
  unsigned nesting_ = 0, depth_ = 0, joins_depth_ = 0;
  unsigned tallest_ = 0;  // expression of the SELECT being read
  unsigned next_positional_ = 1;
};

// Shared by the two files: counts while it lives, refuses above `most`.
class Parser::Depth {
 public:
  Depth(unsigned& counter, unsigned most, const Token& at, std::string_view what) : counter_(counter) {
    if (counter_ >= most) {
      refuse(at, std::string(what) + " are nested deeper than " + std::to_string(most));
    }
    ++counter_;
  }
  ~Depth() { --counter_; }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;

 private:
  unsigned& counter_;
};

}  // namespace daemoneye::sql
