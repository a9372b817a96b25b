// Times: what text means beside a time column, and what `now` means.
#include <algorithm>

#include "base/text.h"
#include "sql/binder.h"
#include "sql/catalog.h"
#include "sql/regexp.h"
#include "sql/time.h"

namespace daemoneye::sql {
namespace {

bool is_text_literal(const Expr& expr) {
  return expr.kind == ExprKind::literal && expr.literal_kind == LiteralKind::text;
}

bool is_date_call(const Expr& expr) {
  const auto* const info = expr.kind == ExprKind::call ? find_function(expr.text) : nullptr;
  return info != nullptr && info->kind == FunctionKind::date;
}

Expr integer_literal(std::int64_t value, const Position& at) {
  Expr expr;
  expr.kind = ExprKind::literal;
  expr.literal_kind = LiteralKind::integer;
  expr.type = Type::integer;
  expr.at = at;
  expr.text = std::to_string(value);
  return expr;
}

}  // namespace

Expr Binder::parameter_for_now(std::string_view name, const Position& at) const {
  Expr expr;
  expr.kind = ExprKind::parameter;
  expr.at = at;
  expr.text = name;
  expr.type = name == now_ns_parameter ? Type::time : Type::text;
  return expr;
}

void Binder::as_time(Expr& node) {
  if (node.kind == ExprKind::collate) return as_time(node.args[0]);
  if (is_text_literal(node)) {
    const auto time = parse_time(node.text);
    if (!time) refuse(node.at, quote_for_message(node.text), time.error().message);
    node = integer_literal(time->ns, node.at);
    node.type = Type::time;
    return;
  }
  if (is_date_call(node) && (node.text == "julianday" || node.text == "unixepoch")) {
    refuse(node.at, node.text,
           node.text + "() gives " + (node.text == "julianday" ? "days" : "seconds") +
               ", but a time is in nanoseconds; compare with datetime(…) or ago('5m')");
  }
  switch (node.type) {
    case Type::time:
    case Type::integer:
    case Type::real:
    case Type::null: return;
    default: break;
  }
  const Position at = node.at;
  std::vector<Expr> one;
  one.push_back(std::move(node));
  node = make_call(to_ns_function, Type::time, at, std::move(one));
}

void Binder::as_time_pair(Expr& left, Expr& right) {
  if (left.type == Type::time && right.type != Type::time)
    as_time(right);
  else if (right.type == Type::time && left.type != Type::time)
    as_time(left);
}

// SELECT _to_ns(a), b FROM (SELECT …), where a column of a SELECT stands beside a time.
void Binder::columns_as_time(Box<Select>& select, const std::vector<bool>& wanted) {
  if (std::ranges::none_of(wanted, [](bool one) { return one; })) return;
  Select outer;
  outer.at = select->at;
  outer.height = select->height + 1;
  Source source;
  const auto results = select->cores.front().results;
  source.derived = std::move(select);
  source.printed_alias = unique_name("times");
  Core core;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    Expr value;
    value.kind = ExprKind::column;
    value.at = outer.at;
    value.qualifier = source.printed_alias;
    value.text = results[i].alias;
    value.type = results[i].value.type;
    if (wanted[i]) {
      std::vector<Expr> one;
      one.push_back(std::move(value));
      value = make_call(to_ns_function, Type::time, outer.at, std::move(one));
    }
    ResultTerm term;
    term.alias = results[i].alias;
    term.value = std::move(value);
    core.results.push_back(std::move(term));
  }
  core.from.push_back(std::move(source));
  outer.cores.push_back(std::move(core));
  select = std::move(outer);
}

void Binder::date_call(Expr& node) {
  const std::size_t at = node.text == "strftime" ? 1 : 0;
  if (node.args.size() == at) {  // without a time it is now
    node.args.push_back(parameter_for_now(now_text_parameter, node.at));
    return;
  }
  Expr& value = node.args[at];
  if (is_text_literal(value)) {
    if (same_name(value.text, "now")) value = parameter_for_now(now_text_parameter, value.at);
    return;
  }
  std::vector<Expr> arguments;
  const Position position = value.at;
  if (value.type == Type::time) {
    if (node.args.size() > at + 1 && is_text_literal(node.args[at + 1])) {
      const auto modifier = lower_case(node.args[at + 1].text);
      if (modifier == "unixepoch" || modifier == "auto" || modifier == "julianday") {
        refuse(node.args[at + 1].at, quote_for_message(modifier),
               "this is a time already; leave out '" + modifier + "'");
      }
    }
    arguments.push_back(std::move(value));
    value = make_call(time_value_function, Type::text, position, std::move(arguments));
  } else if ((value.type == Type::unknown || value.type == Type::text) && !is_date_call(value)) {
    // Text that may turn out to be 'now'.
    arguments.push_back(std::move(value));
    arguments.push_back(parameter_for_now(now_text_parameter, position));
    value = make_call(not_now_function, Type::unknown, position, std::move(arguments));
  }
}

void Binder::ago_call(Expr& node) {
  Expr& span = node.args[0];
  Expr now = parameter_for_now(now_ns_parameter, node.at);
  if (!is_text_literal(span)) {
    std::vector<Expr> both;
    both.push_back(std::move(now));
    both.push_back(std::move(span));
    node = make_call(ago_function, Type::time, node.at, std::move(both));
    return;
  }
  const auto parsed = base::parse_duration(span.text);
  if (!parsed) refuse(span.at, quote_for_message(span.text), parsed.error().message);
  Expr difference;
  difference.kind = ExprKind::binary;
  difference.text = "-";
  difference.type = Type::time;
  difference.at = node.at;
  difference.height = 2;
  difference.args.push_back(std::move(now));
  difference.args.push_back(integer_literal(parsed->count(), span.at));
  node = std::move(difference);
}

}  // namespace daemoneye::sql
