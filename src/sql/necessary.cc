#include "sql/necessary.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/text.h"
#include "sql/ast.h"

namespace daemoneye::sql {
namespace {

using event::Column;
using Clauses = std::vector<NecessaryClause>;
using Place = NecessaryText::Place;

std::string ascii_lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

double how_common(const NecessaryText& one) {
  switch (one.column) {
    case Column::kind: return 0.4;
    case Column::source:
    case Column::status: return 0.5;
    case Column::executable_state: return one.text == "ok" ? 0.9 : 0.01;
    case Column::user: return 0.2;
    default: break;
  }
  if (one.beyond_ascii) return 0.01;
  if (one.place == Place::whole) return 0.005;
  // What half of all paths and command lines begin with.
  constexpr std::string_view everywhere = "/usr/local/bin/usr/sbin/bin/sh -c /usr/lib/x86_64-linux-gnu/usr/share/ --";
  if (everywhere.find(one.text) != std::string_view::npos) return 0.3;
  constexpr double a_byte = 0.4;
  constexpr double least = 1e-6;
  return std::max(least, std::pow(a_byte, static_cast<double>(one.text.size()) - 1));
}

// The rarest first, each once, not more than there may be.
void tidy(Clauses& clauses) {
  for (auto& clause : clauses) {
    std::sort(clause.begin(), clause.end());
    clause.erase(std::unique(clause.begin(), clause.end()), clause.end());
  }
  std::erase_if(clauses,
                [](const NecessaryClause& clause) { return clause.empty() || clause.size() > max_necessary_texts; });
  std::sort(clauses.begin(), clauses.end(), [](const NecessaryClause& a, const NecessaryClause& b) {
    const double left = how_common(a), right = how_common(b);
    return left != right ? left < right : a < b;
  });
  clauses.erase(std::unique(clauses.begin(), clauses.end()), clauses.end());
  if (clauses.size() > max_necessary_clauses) clauses.resize(max_necessary_clauses);
}

// The column that all texts of the clause are of.
std::optional<Column> only_column(const NecessaryClause& clause) {
  const Column first = clause.front().column;
  const bool all = std::ranges::all_of(clause, [&](const NecessaryText& one) { return one.column == first; });
  return all ? std::optional(first) : std::nullopt;
}

const std::string* text_literal(const Expr& expr) {
  const bool is_text = expr.kind == ExprKind::literal && expr.literal_kind == LiteralKind::text;
  return is_text && expr.text.find('\0') == std::string::npos ? &expr.text : nullptr;
}

bool is_null_literal(const Expr& expr) {
  return expr.kind == ExprKind::literal && expr.literal_kind == LiteralKind::null;
}

class Finder {
 public:
  Finder(std::string_view alias, bool of_processes) : alias_(alias), of_processes_(of_processes) {}

  // What holds of the row when `expr` is true.
  [[nodiscard]] Clauses when_true(const Expr& expr) const {
    switch (expr.kind) {
      case ExprKind::chain: return expr.text == "AND" ? all_of(expr.args) : any_of(expr.args);
      case ExprKind::binary: return comparison(expr);
      case ExprKind::in_list: return in_list(expr);
      case ExprKind::like: return like(expr);
      case ExprKind::call: return holds(expr);
      default: return {};
    }
  }

  [[nodiscard]] Clauses all_of(const std::vector<Expr>& parts) const {
    Clauses all;
    for (const auto& part : parts) {
      auto more = when_true(part);
      all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
    }
    tidy(all);
    return all;
  }

 private:
  // A text column of the driving row, as it is or through lower() or upper().
  struct Subject {
    Column column{};
    bool any_case = false;
    std::string collation;  // given with it, at whatever depth: the outermost one's; empty: none
  };

  [[nodiscard]] std::optional<Subject> subject(const Expr& expr) const {
    if (expr.kind == ExprKind::collate) {
      auto inner = subject(expr.args[0]);
      if (inner) inner->collation = ascii_lower(expr.text);
      return inner;
    }
    const bool folds = expr.kind == ExprKind::call && (expr.text == "lower" || expr.text == "upper");
    if (folds && expr.args.size() == 1) {
      // A collation that is given within a function's arguments holds for its result, too.
      auto inner = subject(expr.args[0]);
      if (inner) inner->any_case = true;
      return inner;
    }
    if (expr.kind != ExprKind::column || expr.qualifier != alias_) return std::nullopt;
    const auto column = event::find_column(expr.text);
    if (!column || event::info(*column).type != event::ColumnType::text) return std::nullopt;
    // Of `processes` an ended instance has a status that its event has not.
    if (of_processes_ && *column == Column::status) return std::nullopt;
    return Subject{*column, false, {}};
  }

  static NecessaryText whole(const Subject& of, std::string_view text, bool any_case) {
    return {of.column, Place::whole, any_case, false, any_case ? ascii_lower(text) : std::string(text)};
  }

  // Whether the collation makes letters match either case; nothing when it does something else.
  static std::optional<bool> ignores_case(std::string_view collation) {
    if (collation.empty() || collation == "binary") return false;
    if (collation == "nocase") return true;
    return std::nullopt;
  }

  [[nodiscard]] Clauses any_of(const std::vector<Expr>& parts) const {
    std::vector<Clauses> of_parts;
    for (const auto& part : parts) {
      of_parts.push_back(when_true(part));
      if (of_parts.back().empty()) return {};
    }
    // One clause of each, whichever, makes one of the whole. Those that are alike make the most useful: the rarest of
    // each, and those about one column.
    Clauses all;
    NecessaryClause rarest;
    for (const auto& clauses : of_parts) rarest.insert(rarest.end(), clauses.front().begin(), clauses.front().end());
    all.push_back(std::move(rarest));
    for (const auto& clause : of_parts.front()) {
      const auto column = only_column(clause);
      if (!column) continue;
      NecessaryClause united;
      const bool everywhere = std::ranges::all_of(of_parts, [&](const Clauses& clauses) {
        const auto same =
            std::ranges::find_if(clauses, [&](const auto& other) { return only_column(other) == column; });
        if (same == clauses.end()) return false;
        united.insert(united.end(), same->begin(), same->end());
        return true;
      });
      if (everywhere) all.push_back(std::move(united));
    }
    tidy(all);
    return all;
  }

  [[nodiscard]] Clauses comparison(const Expr& expr) const {
    if (expr.args.size() != 2) return {};
    if (expr.text == ">" || expr.text == ">=" || expr.text == "<>") {
      // instr(column, 'x') > 0
      const Expr& number = expr.args[1];
      const bool positive = number.kind == ExprKind::literal && number.literal_kind == LiteralKind::integer &&
                            number.text == (expr.text == ">=" ? "1" : "0");
      return positive && expr.args[0].kind == ExprKind::call ? holds(expr.args[0]) : Clauses{};
    }
    if (expr.text != "=" && expr.text != "IS") return {};
    std::string collation;
    const Expr* sides[2] = {&expr.args[0], &expr.args[1]};
    for (auto& side : sides) {
      if (side->kind != ExprKind::collate) continue;
      if (collation.empty()) collation = ascii_lower(side->text);  // of two the left one's counts
      side = &side->args[0];
    }
    const auto ignoring = ignores_case(collation);
    if (!ignoring) return {};
    for (int i = 0; i < 2; ++i) {
      const auto of = subject(*sides[i]);
      const auto* const text = text_literal(*sides[1 - i]);
      if (!of || text == nullptr || !of->collation.empty()) continue;
      return {{whole(*of, *text, of->any_case || *ignoring)}};
    }
    return {};
  }

  [[nodiscard]] Clauses in_list(const Expr& expr) const {
    if (expr.negated || expr.args.size() < 2) return {};
    const auto of = subject(expr.args[0]);
    const auto ignoring = of ? ignores_case(of->collation) : std::nullopt;
    if (!ignoring) return {};
    NecessaryClause clause;
    for (std::size_t i = 1; i < expr.args.size(); ++i) {
      if (is_null_literal(expr.args[i])) continue;  // makes nothing true
      const auto* const text = text_literal(expr.args[i]);
      if (text == nullptr) return {};
      clause.push_back(whole(*of, *text, of->any_case || *ignoring));
    }
    Clauses clauses{std::move(clause)};
    tidy(clauses);
    return clauses;
  }

  [[nodiscard]] Clauses like(const Expr& expr) const {
    if (expr.negated || expr.args.size() < 2) return {};
    const auto of = subject(expr.args[0]);  // a collation means nothing to these
    const auto* const pattern = text_literal(expr.args[1]);
    if (!of || pattern == nullptr) return {};
    Clauses clauses;
    if (expr.text == "LIKE") {
      const auto* const escape = expr.args.size() > 2 ? text_literal(expr.args[2]) : nullptr;
      if (expr.args.size() > 2 && escape == nullptr) return {};
      clauses = necessary_of_like(of->column, *pattern, escape == nullptr ? "" : *escape);
    } else if (expr.text == "GLOB") {
      clauses = necessary_of_glob(of->column, *pattern);
    } else if (expr.text == "REGEXP") {
      clauses = necessary_of_regexp(of->column, *pattern);
    }
    if (of->any_case) {
      for (auto& clause : clauses) {
        for (auto& one : clause) {
          one.any_case = true;
          one.text = ascii_lower(one.text);
        }
      }
    }
    tidy(clauses);
    return clauses;
  }

  // instr(column, 'x'), which is true where it is found.
  [[nodiscard]] Clauses holds(const Expr& expr) const {
    if (expr.text != "instr" || expr.args.size() != 2) return {};
    const auto of = subject(expr.args[0]);
    const auto* const text = text_literal(expr.args[1]);
    if (!of || text == nullptr || text->empty()) return {};
    // Beyond ASCII, characters count and not bytes.
    if (std::ranges::any_of(*text, [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) return {};
    NecessaryText one{of->column, Place::anywhere, of->any_case, false, *text};
    if (one.any_case) one.text = ascii_lower(one.text);
    one.text.resize(std::min(one.text.size(), max_necessary_text_bytes));
    return {{std::move(one)}};
  }

  std::string_view alias_;
  bool of_processes_;
};

}  // namespace

double how_common(const NecessaryClause& clause) {
  double sum = 0;
  for (const auto& one : clause) sum += how_common(one);
  return std::min(sum, 1.0);
}

std::vector<NecessaryClause> find_necessary(const Select& select, const Source& driving) {
  const Finder finder(driving.printed_alias, driving.printed_table == "processes");
  const Core& core = select.cores.front();
  Clauses all;
  const auto add = [&](const Expr& condition) {
    auto more = finder.when_true(condition);
    all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  };
  if (core.where) add(*core.where);
  for (const auto& source : core.from) {
    // What a LEFT JOIN does not find it fills with NULL: its condition excludes no row of the left side.
    if (source.on && source.join != Join::left) add(*source.on);
  }
  tidy(all);
  return all;
}

}  // namespace daemoneye::sql
