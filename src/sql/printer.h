// AST -> SQL. Names are quoted and operations parenthesised, so that SQLite reads exactly the tree that was checked.
#pragma once

#include <string>
#include <string_view>

#include "sql/ast.h"

namespace daemoneye::sql {

struct PrintOptions {
  // The source, of the outermost FROM, that reads the driving rows; its event id becomes the last column.
  const Source* driving = nullptr;
  std::string_view driving_table, driving_id;
};

// Of a statement as parsed: text that parses to the same tree. Of a bound one: what SQLite is given.
// `parser_depth` gets how deep SQLite's parser stack becomes at most when it reads the text.
std::string print(const Select& select, const PrintOptions& options = {}, unsigned* parser_depth = nullptr);
std::string print(const Expr& expr);

std::string quote_name(std::string_view name);
std::string quote_text(std::string_view text);
}  // namespace daemoneye::sql
