#include "sql/printer.h"

#include <algorithm>
#include <span>

namespace daemoneye::sql {
namespace {

std::string quoted(std::string_view text, char quote) {
  std::string out(1, quote);
  for (const char c : text) {
    out += c;
    if (c == quote) out += c;
  }
  out += quote;
  return out;
}

class Printer {
 public:
  explicit Printer(const PrintOptions& options) : options_(options) {}
  std::string out;
  unsigned deepest = 0;

  void select(const Select& node, bool outermost) {
    if (!node.with.empty()) {
      out += node.recursive ? "WITH RECURSIVE " : "WITH ";
      for (std::size_t i = 0; i < node.with.size(); ++i) {
        if (i > 0) out += ", ";
        common_table(node.with[i]);
      }
      out += ' ';
    }
    for (const auto& part : node.cores) {
      if (!part.op.empty()) out += ' ' + part.op + ' ';
      within((node.with.empty() ? 0 : 2) + (part.op.empty() ? 0 : 2), [&] { core(part, outermost); });
    }
    if (!node.order.empty()) {
      out += " ORDER BY ";
      within(12, [&] { order(node.order); });
    }
    if (node.limit) {
      out += " LIMIT ";
      within(12, [&] { expr(*node.limit); });
    }
    if (node.offset) {
      out += " OFFSET ";
      within(14, [&] { expr(*node.offset); });
    }
  }

  void expr(const Expr& node) {
    deepest = std::max(deepest, pending_ + 3);
    switch (node.kind) {
      case ExprKind::literal: literal(node); return;
      case ExprKind::parameter: out += node.text.front() == '?' ? node.text : ':' + node.text; return;
      case ExprKind::column:
        if (!node.qualifier.empty()) out += quote_name(node.qualifier) + '.';
        out += quote_name(node.text);
        return;
      case ExprKind::output: out += node.text; return;
      case ExprKind::call: call(node); return;
      case ExprKind::chain: chain(node.text, node.args); return;
      case ExprKind::scalar: within(1, [&] { subselect(node); }); return;
      case ExprKind::exists:
        out += "EXISTS ";
        within(2, [&] { subselect(node); });
        return;
      case ExprKind::cast:
        out += "CAST(";
        within(2, [&] { expr(node.args[0]); });
        out += " AS " + node.text + ')';
        return;
      case ExprKind::case_of: case_of(node); return;
      case ExprKind::row:
        out += '(';
        within(3, [&] { list(node.args); });
        out += ')';
        return;
      default: break;
    }
    out += '(';
    operation(node);
    out += ')';
  }

 private:
  // `symbols` of what is being printed wait on SQLite's parser stack while `body` prints what is within.
  template <class F>
  void within(unsigned symbols, F&& body) {
    pending_ += symbols;
    body();
    pending_ -= symbols;
  }

  void literal(const Expr& node) {
    if (node.literal_kind == LiteralKind::text)
      out += quote_text(node.text);
    else if (node.literal_kind == LiteralKind::blob)
      out += "x'" + node.text + '\'';
    else
      out += node.text;
  }

  void operation(const Expr& node) {
    const std::string_view negation = node.negated ? " NOT " : " ";
    switch (node.kind) {
      case ExprKind::unary:
        out += node.text;
        out += ' ';
        within(2, [&] { expr(node.args[0]); });
        return;
      case ExprKind::binary:
        within(1, [&] { expr(node.args[0]); });
        out += ' ' + node.text + ' ';
        within(3, [&] { expr(node.args[1]); });
        return;
      case ExprKind::like:
        within(1, [&] { expr(node.args[0]); });
        out += negation;
        out += node.text + ' ';
        within(3, [&] { expr(node.args[1]); });
        if (node.args.size() > 2) {
          out += " ESCAPE ";
          within(5, [&] { expr(node.args[2]); });
        }
        return;
      case ExprKind::between:
        within(1, [&] { expr(node.args[0]); });
        out += negation;
        out += "BETWEEN ";
        within(3, [&] { expr(node.args[1]); });
        out += " AND ";
        within(5, [&] { expr(node.args[2]); });
        return;
      case ExprKind::in_list:
        within(1, [&] { expr(node.args[0]); });
        out += negation;
        out += "IN (";
        within(6, [&] { list(std::span(node.args).subspan(1)); });
        out += ')';
        return;
      case ExprKind::in_select:
        within(1, [&] { expr(node.args[0]); });
        out += negation;
        out += "IN ";
        within(4, [&] { subselect(node); });
        return;
      case ExprKind::is_null:
        within(1, [&] { expr(node.args[0]); });
        out += node.negated ? " IS NOT NULL" : " IS NULL";
        return;
      case ExprKind::collate:
        within(1, [&] { expr(node.args[0]); });
        out += " COLLATE " + node.text;
        return;
      default: return;
    }
  }

  // Balanced, so that a long list does not become a deep tree.
  void chain(const std::string& op, std::span<const Expr> parts) {
    if (parts.size() == 1) return expr(parts.front());
    const std::size_t half = parts.size() / 2;
    out += '(';
    within(1, [&] { chain(op, parts.first(half)); });
    out += ' ' + op + ' ';
    within(3, [&] { chain(op, parts.subspan(half)); });
    out += ')';
  }

  void list(std::span<const Expr> items) {
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out += ", ";
      expr(items[i]);
    }
  }

  void subselect(const Expr& node) {
    out += '(';
    select(*node.select, false);
    out += ')';
  }

  void case_of(const Expr& node) {
    out += "CASE";
    std::size_t next = 0;
    if (node.has_base) {
      out += ' ';
      within(1, [&] { expr(node.args[next++]); });
    }
    const std::size_t end = node.args.size() - (node.has_else ? 1 : 0);
    for (; next < end; next += 2) {
      out += " WHEN ";
      within(4, [&] { expr(node.args[next]); });
      out += " THEN ";
      within(6, [&] { expr(node.args[next + 1]); });
    }
    if (node.has_else) {
      out += " ELSE ";
      within(4, [&] { expr(node.args.back()); });
    }
    out += " END";
  }

  void call(const Expr& node) {
    out += node.text + '(';
    if (node.star) out += '*';
    if (node.distinct) out += "DISTINCT ";
    within(5, [&] { list(node.args); });
    out += ')';
    if (node.filter) {
      out += " FILTER (WHERE ";
      within(8, [&] { expr(*node.filter); });
      out += ')';
    }
    if (node.over) {
      out += " OVER ";
      if (node.over->is_reference)
        out += quote_name(node.over->name);
      else
        window(*node.over);
    }
  }

  void window(const Window& node) {
    out += '(';
    if (!node.base.empty()) out += quote_name(node.base);
    if (!node.partition.empty()) {
      out += "PARTITION BY ";
      within(12, [&] { list(node.partition); });
    }
    if (!node.order.empty()) {
      if (out.back() != '(') out += ' ';
      out += "ORDER BY ";
      within(15, [&] { order(node.order); });
    }
    if (!node.unit.empty()) {
      if (out.back() != '(') out += ' ';
      out += node.unit + " BETWEEN ";
      bound_of(node.from);
      out += " AND ";
      bound_of(node.to);
      if (!node.exclude.empty()) out += " EXCLUDE " + node.exclude;
    }
    out += ')';
  }

  void bound_of(const FrameBound& bound) {
    if (bound.distance) {
      within(23, [&] { expr(*bound.distance); });
      out += ' ';
    }
    out += bound.kind;
  }

  void order(const std::vector<OrderTerm>& terms) {
    for (std::size_t i = 0; i < terms.size(); ++i) {
      if (i > 0) out += ", ";
      expr(terms[i].value);
      if (terms[i].descending) out += " DESC";
      if (!terms[i].nulls.empty()) out += " NULLS " + terms[i].nulls;
    }
  }

  void common_table(const CommonTable& table) {
    out += quote_name(table.printed_name.empty() ? table.name : table.printed_name);
    if (!table.columns.empty()) {
      out += " (";
      for (std::size_t i = 0; i < table.columns.size(); ++i) out += (i > 0 ? ", " : "") + quote_name(table.columns[i]);
      out += ')';
    }
    out += " AS (";
    within(7, [&] { select(*table.select, false); });
    out += ')';
  }

  void core(const Core& node, bool outermost) {
    out += node.distinct ? "SELECT DISTINCT " : "SELECT ";
    for (std::size_t i = 0; i < node.results.size(); ++i) {
      if (i > 0) out += ", ";
      result(node.results[i]);
    }
    if (outermost && options_.driving != nullptr) {
      out += ", " + quote_name(options_.driving->printed_alias) + '.' + quote_name(options_.driving_id);
    }
    if (!node.from.empty()) out += " FROM ";
    for (const auto& item : node.from) source(item);
    if (node.where) {
      out += " WHERE ";
      within(6, [&] { expr(*node.where); });
    }
    if (!node.group_by.empty()) {
      out += " GROUP BY ";
      within(9, [&] { list(node.group_by); });
    }
    if (node.having) {
      out += " HAVING ";
      within(8, [&] { expr(*node.having); });
    }
    for (std::size_t i = 0; i < node.windows.size(); ++i) {
      out += (i == 0 ? " WINDOW " : ", ") + quote_name(node.windows[i].name) + " AS ";
      within(5, [&] { window(node.windows[i]); });
    }
  }

  void result(const ResultTerm& term) {
    switch (term.kind) {
      case ResultTerm::Kind::star: out += '*'; return;
      case ResultTerm::Kind::table_star: out += quote_name(term.qualifier) + ".*"; return;
      case ResultTerm::Kind::expression: break;
    }
    within(5, [&] { expr(term.value); });
    if (!term.alias.empty()) out += " AS " + quote_name(term.alias);
  }

  void source(const Source& node) {
    switch (node.join) {
      case Join::first: break;
      case Join::inner: out += " JOIN "; break;
      case Join::left: out += " LEFT JOIN "; break;
      case Join::cross: out += " CROSS JOIN "; break;
    }
    if (node.derived) {
      out += '(';
      within(7, [&] { select(*node.derived, false); });
      out += ')';
    } else {
      const bool drives = options_.driving == &node;
      out += quote_name(drives ? options_.driving_table : node.printed_table.empty() ? node.table : node.printed_table);
      if (node.is_function) {
        out += '(';
        within(10, [&] { list(node.arguments); });
        out += ')';
      }
    }
    const auto& alias = node.printed_alias.empty() ? node.alias : node.printed_alias;
    if (!alias.empty()) out += " AS " + quote_name(alias);
    if (node.on) {
      out += " ON ";
      within(10, [&] { expr(*node.on); });
    }
    if (!node.using_columns.empty() && !node.on) {
      out += " USING (";
      for (std::size_t i = 0; i < node.using_columns.size(); ++i) {
        out += (i > 0 ? ", " : "") + quote_name(node.using_columns[i]);
      }
      out += ')';
    }
  }

  const PrintOptions& options_;
  unsigned pending_ = 3;
};

}  // namespace

std::string print(const Select& select, const PrintOptions& options, unsigned* parser_depth) {
  Printer printer(options);
  printer.select(select, true);
  if (parser_depth != nullptr) *parser_depth = printer.deepest;
  return std::move(printer.out);
}

std::string print(const Expr& expr) {
  const PrintOptions options;
  Printer printer(options);
  printer.expr(expr);
  return std::move(printer.out);
}

std::string quote_name(std::string_view name) { return quoted(name, '"'); }
std::string quote_text(std::string_view text) { return quoted(text, '\''); }

}  // namespace daemoneye::sql
