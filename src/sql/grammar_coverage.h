// For tests: which productions of the grammar a statement uses, by its tree and its tokens.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "sql/functions.h"
#include "sql/parser.h"

namespace daemoneye::sql::test {

class GrammarCoverage {
 public:
  void add(const std::string& text) {
    if (text.find("/*") != std::string::npos) hit("comment /* */");
    if (text.find("--") != std::string::npos) hit("comment --");
    const Limits limits;
    words(tokenize(text, limits));
    select(parse_statement(text, limits));
  }
  [[nodiscard]] std::vector<std::string> missing() const {
    std::vector<std::string> names;
    for (const auto& name : productions()) {
      if (!hits_.contains(name)) names.push_back(name);
    }
    return names;
  }
  // What was met and is in no list: the list is not the whole grammar then.
  [[nodiscard]] std::vector<std::string> unlisted() const {
    std::vector<std::string> names;
    for (const auto& [name, count] : hits_) {
      if (!productions().contains(name)) names.push_back(name);
    }
    return names;
  }

  static const std::set<std::string>& productions() {
    static const auto all = [] {
      std::set<std::string> names = {"comment /* */",
                                     "comment --",
                                     "SELECT ALL",
                                     "SELECT DISTINCT",
                                     "result *",
                                     "result table.*",
                                     "result AS name",
                                     "result name",
                                     "result",
                                     "FROM none",
                                     "FROM table",
                                     "FROM function",
                                     "FROM (SELECT)",
                                     "FROM name of WITH",
                                     "source alias",
                                     "join ,",
                                     "join JOIN",
                                     "join INNER",
                                     "join LEFT",
                                     "join LEFT OUTER",
                                     "join CROSS",
                                     "ON",
                                     "USING one",
                                     "USING several",
                                     "WHERE",
                                     "GROUP BY one",
                                     "GROUP BY several",
                                     "HAVING",
                                     "ORDER BY one",
                                     "ORDER BY several",
                                     "ASC",
                                     "DESC",
                                     "NULLS FIRST",
                                     "NULLS LAST",
                                     "LIMIT",
                                     "OFFSET",
                                     "LIMIT ,",
                                     "UNION",
                                     "UNION ALL",
                                     "INTERSECT",
                                     "EXCEPT",
                                     "WITH",
                                     "WITH RECURSIVE",
                                     "WITH several",
                                     "WITH columns",
                                     "WITH within",
                                     "AS MATERIALIZED",
                                     "AS NOT MATERIALIZED",
                                     "WINDOW",
                                     "OVER name",
                                     "OVER ()",
                                     "OVER (name …)",
                                     "PARTITION BY",
                                     "window ORDER BY",
                                     "EXCLUDE NO OTHERS",
                                     "EXCLUDE CURRENT ROW",
                                     "EXCLUDE GROUP",
                                     "EXCLUDE TIES",
                                     "ROWS",
                                     "RANGE",
                                     "GROUPS",
                                     "frame BETWEEN",
                                     "frame of one bound",
                                     "UNBOUNDED PRECEDING",
                                     "PRECEDING",
                                     "CURRENT ROW",
                                     "FOLLOWING",
                                     "UNBOUNDED FOLLOWING",
                                     "FILTER",
                                     "DISTINCT in an aggregate",
                                     "ALL in an aggregate",
                                     "call *",
                                     "string",
                                     "string ''",
                                     "blob",
                                     "integer",
                                     "integer 0x",
                                     "real",
                                     "real .5",
                                     "real 5.",
                                     "real e",
                                     "NULL",
                                     "TRUE",
                                     "FALSE",
                                     "CURRENT_DATE",
                                     "CURRENT_TIME",
                                     "CURRENT_TIMESTAMP",
                                     ":name",
                                     "?",
                                     "?N",
                                     "\"name\"",
                                     "column",
                                     "table.column",
                                     "unary -",
                                     "unary +",
                                     "unary ~",
                                     "unary NOT",
                                     "AND",
                                     "OR",
                                     "IS NULL",
                                     "IS NOT NULL",
                                     "ISNULL",
                                     "NOTNULL",
                                     "NOT NULL",
                                     "IS DISTINCT FROM",
                                     "IS NOT DISTINCT FROM",
                                     "BETWEEN",
                                     "NOT BETWEEN",
                                     "IN ()",
                                     "IN (…)",
                                     "NOT IN (…)",
                                     "IN (SELECT)",
                                     "NOT IN (SELECT)",
                                     "ESCAPE",
                                     "EXISTS",
                                     "(SELECT)",
                                     "(a, b)",
                                     "(a, b) compared",
                                     "(a, b) IN",
                                     "(a, b) BETWEEN",
                                     "CASE (a, b)",
                                     "CASE WHEN",
                                     "CASE x WHEN",
                                     "ELSE",
                                     "CAST AS INTEGER",
                                     "CAST AS REAL",
                                     "CAST AS TEXT",
                                     "CAST AS BLOB",
                                     "CAST AS NUMERIC",
                                     "COLLATE BINARY",
                                     "COLLATE NOCASE",
                                     "COLLATE RTRIM",
                                     ";"};
      for (const auto* const op : {"=",  "==", "<>", "!=", "<", "<=", ">",  ">=", "&",   "|",  "<<",
                                   ">>", "+",  "-",  "*",  "/", "%",  "||", "->", "->>", "IS", "IS NOT"}) {
        names.insert(std::string("operator ") + op);
      }
      for (const auto* const op : {"LIKE", "GLOB", "REGEXP"}) {
        names.insert(op);
        names.insert(std::string("NOT ") + op);
      }
      for (const auto& function : functions()) names.insert("function " + function);
      // It asks the live store for a process: nothing to compare with. connection_test.cc has it.
      names.erase("function has_ancestor");
      return names;
    }();
    return all;
  }

 private:
  void hit(const std::string& name) { ++hits_[name]; }
  void hit_if(bool condition, const std::string& name) {
    if (condition) hit(name);
  }

  // What the tree does not tell.
  void words(const std::vector<Token>& tokens) {
    int since_limit = -1;  // depth of parentheses since LIMIT
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      const Token& one = tokens[i];
      const auto& next = tokens[i + 1];
      const auto source = std::string(one.source);
      switch (one.kind) {
        case TokenKind::string:
          hit(source.find("''", 1) + 1 < source.size() - 1 && source.size() > 3 ? "string ''" : "string");
          break;
        case TokenKind::blob: hit("blob"); break;
        case TokenKind::integer: hit(one.text.starts_with("0x") ? "integer 0x" : "integer"); break;
        case TokenKind::real:
          hit("real");
          hit_if(source.front() == '.', "real .5");
          hit_if(source.back() == '.', "real 5.");
          hit_if(source.find_first_of("eE") != std::string::npos, "real e");
          break;
        case TokenKind::parameter: hit(one.text.front() == ':' ? ":name" : one.text == "?" ? "?" : "?N"); break;
        case TokenKind::quoted_identifier: hit("\"name\""); break;
        case TokenKind::symbol:
          hit_if(one.text == ";", ";");
          for (const auto* const op : {"==", "!=", "=", "<>"}) hit_if(one.text == op, std::string("operator ") + op);
          if (since_limit >= 0) since_limit += one.text == "(" ? 1 : one.text == ")" ? -1 : 0;
          hit_if(since_limit == 0 && one.text == ",", "LIMIT ,");
          break;
        case TokenKind::word:
          if (one.upper == "LIMIT") since_limit = 0;
          for (const auto* const word :
               {"ASC", "ISNULL", "NOTNULL", "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP"}) {
            hit_if(one.upper == word, word);
          }
          hit_if(one.upper == "SELECT" && next.upper == "ALL", "SELECT ALL");
          hit_if(i > 0 && tokens[i - 1].text == "(" && one.upper == "ALL", "ALL in an aggregate");
          hit_if(one.upper == "LEFT" && next.upper == "JOIN", "join LEFT");
          hit_if(one.upper == "LEFT" && next.upper == "OUTER", "join LEFT OUTER");
          hit_if(one.upper == "INNER", "join INNER");
          hit_if(one.upper == "JOIN" && i > 0 && !is_join_kind(tokens[i - 1].upper), "join JOIN");
          hit_if(one.upper == "AS" && next.upper == "MATERIALIZED", "AS MATERIALIZED");
          hit_if(one.upper == "NOT" && next.upper == "MATERIALIZED", "AS NOT MATERIALIZED");
          hit_if(one.upper == "NOT" && next.upper == "NULL" && i > 0 && tokens[i - 1].upper != "IS", "NOT NULL");
          hit_if(one.upper == "IS" && next.upper == "NULL", "IS NULL");
          hit_if(one.upper == "IS" && next.upper == "DISTINCT", "IS DISTINCT FROM");
          hit_if(one.upper == "DISTINCT" && i > 0 && tokens[i - 1].upper == "NOT", "IS NOT DISTINCT FROM");
          hit_if(is_unit(one.upper) && next.upper == "BETWEEN", "frame BETWEEN");
          hit_if(is_unit(one.upper) && next.upper != "BETWEEN", "frame of one bound");
          break;
        default: break;
      }
    }
  }
  static bool is_join_kind(std::string_view word) {
    return word == "LEFT" || word == "INNER" || word == "CROSS" || word == "OUTER";
  }
  static bool is_unit(std::string_view word) { return word == "ROWS" || word == "RANGE" || word == "GROUPS"; }

  void select(const Select& node) {
    if (!node.with.empty()) hit(node.recursive ? "WITH RECURSIVE" : "WITH");
    hit_if(node.with.size() > 1, "WITH several");
    for (const auto& table : node.with) {
      hit_if(!table.columns.empty(), "WITH columns");
      hit_if(!table.select->with.empty(), "WITH within");
      with_names_.insert(table.name);
      select(*table.select);
    }
    for (const auto& part : node.cores) {
      if (!part.op.empty()) hit(part.op);
      core(part);
    }
    if (!node.order.empty()) hit(node.order.size() > 1 ? "ORDER BY several" : "ORDER BY one");
    order(node.order);
    if (node.limit) {
      hit("LIMIT");
      expr(*node.limit);
    }
    if (node.offset) {
      hit("OFFSET");
      expr(*node.offset);
    }
  }

  void order(const std::vector<OrderTerm>& terms) {
    for (const auto& term : terms) {
      hit_if(term.descending, "DESC");
      if (!term.nulls.empty()) hit("NULLS " + term.nulls);
      expr(term.value);
    }
  }

  void core(const Core& node) {
    hit_if(node.distinct, "SELECT DISTINCT");
    for (const auto& term : node.results) {
      switch (term.kind) {
        case ResultTerm::Kind::star: hit("result *"); break;
        case ResultTerm::Kind::table_star: hit("result table.*"); break;
        case ResultTerm::Kind::expression:
          hit(!term.named ? "result" : term.alias.starts_with("d") ? "result name" : "result AS name");
          expr(term.value);
          break;
      }
    }
    hit_if(node.from.empty(), "FROM none");
    for (const auto& source : node.from) {
      if (source.derived)
        hit("FROM (SELECT)");
      else
        hit(source.is_function                   ? "FROM function"
            : with_names_.contains(source.table) ? "FROM name of WITH"
                                                 : "FROM table");
      hit_if(!source.alias.empty(), "source alias");
      hit_if(source.join == Join::cross, "join CROSS");
      hit_if(source.join == Join::inner && !source.on && source.using_columns.empty(), "join ,");
      if (!source.using_columns.empty()) hit(source.using_columns.size() > 1 ? "USING several" : "USING one");
      if (source.derived) select(*source.derived);
      for (const auto& argument : source.arguments) expr(argument);
      if (source.on) {
        hit("ON");
        expr(*source.on);
      }
    }
    if (node.where) {
      hit("WHERE");
      expr(*node.where);
    }
    if (!node.group_by.empty()) hit(node.group_by.size() > 1 ? "GROUP BY several" : "GROUP BY one");
    for (const auto& term : node.group_by) expr(term);
    if (node.having) {
      hit("HAVING");
      expr(*node.having);
    }
    for (const auto& one : node.windows) {
      hit("WINDOW");
      window(one);
    }
  }

  void window(const Window& node) {
    hit_if(!node.partition.empty(), "PARTITION BY");
    hit_if(!node.order.empty(), "window ORDER BY");
    for (const auto& part : node.partition) expr(part);
    order(node.order);
    if (node.unit.empty()) return;
    hit(node.unit);
    hit(node.from.kind);
    hit(node.to.kind);
    for (const auto* const bound : {&node.from, &node.to}) {
      if (bound->distance) expr(*bound->distance);
    }
    if (!node.exclude.empty()) hit("EXCLUDE " + node.exclude);
  }

  void expr(const Expr& node) {
    const std::string negation = node.negated ? "NOT " : "";
    const bool row = !node.args.empty() && node.args[0].kind == ExprKind::row;
    switch (node.kind) {
      case ExprKind::literal:
        hit_if(node.literal_kind == LiteralKind::null || node.literal_kind == LiteralKind::boolean, node.text);
        break;
      case ExprKind::column: hit(node.qualifier.empty() ? "column" : "table.column"); break;
      case ExprKind::unary: hit("unary " + node.text); break;
      case ExprKind::binary:
        hit_if(node.text != "=" && node.text != "<>", "operator " + node.text);
        hit_if(row, "(a, b) compared");
        break;
      case ExprKind::chain: hit(node.text); break;
      case ExprKind::like:
        hit(negation + node.text);
        hit_if(node.args.size() > 2, "ESCAPE");
        break;
      case ExprKind::between: hit(row ? "(a, b) BETWEEN" : negation + "BETWEEN"); break;
      case ExprKind::in_list: hit(node.args.size() == 1 ? "IN ()" : negation + "IN (…)"); break;
      case ExprKind::in_select: hit(row ? "(a, b) IN" : negation + "IN (SELECT)"); break;
      case ExprKind::is_null: hit_if(node.negated, "IS NOT NULL"); break;
      case ExprKind::exists: hit("EXISTS"); break;
      case ExprKind::scalar: hit("(SELECT)"); break;
      case ExprKind::row: hit("(a, b)"); break;
      case ExprKind::case_of:
        hit(!node.has_base ? "CASE WHEN" : row ? "CASE (a, b)" : "CASE x WHEN");
        hit_if(node.has_else, "ELSE");
        break;
      case ExprKind::cast: hit("CAST AS " + node.text); break;
      case ExprKind::collate: hit("COLLATE " + node.text); break;
      case ExprKind::call:
        hit("function " + node.text);
        hit_if(node.star, "call *");
        hit_if(node.distinct, "DISTINCT in an aggregate");
        if (node.filter) {
          hit("FILTER");
          expr(*node.filter);
        }
        if (node.over) {
          hit(node.over->is_reference ? "OVER name" : node.over->base.empty() ? "OVER ()" : "OVER (name …)");
          window(*node.over);
        }
        break;
      default: break;
    }
    for (const auto& argument : node.args) expr(argument);
    if (node.select) select(*node.select);
  }

  std::map<std::string, int> hits_;
  std::set<std::string> with_names_;
};

}  // namespace daemoneye::sql::test
