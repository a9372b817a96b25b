#include "predicate/predicate.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/text.h"
#include "predicate/value.h"

namespace daemoneye::predicate {

using event::ColumnType;
using event::Value;

namespace {

struct OperatorName {
  Operator op;
  std::string_view name;
};
constexpr OperatorName operator_names[] = {
    {Operator::equal, "="},       {Operator::not_equal, "!="},    {Operator::less, "<"},
    {Operator::less_equal, "<="}, {Operator::greater, ">"},       {Operator::greater_equal, ">="},
    {Operator::in, "IN"},         {Operator::like, "LIKE"},       {Operator::glob, "GLOB"},
    {Operator::regexp, "REGEXP"}, {Operator::is_null, "IS NULL"}, {Operator::is_not_null, "IS NOT NULL"},
};

bool is_null(const Value& value) { return std::holds_alternative<std::monostate>(value); }

bool can_be_negated(Operator op) {
  return op == Operator::in || op == Operator::like || op == Operator::glob || op == Operator::regexp;
}

std::string real_literal(double value) {
  char buffer[40];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  std::string text(buffer, end);
  // Without a point or an exponent it would be read as an integer.
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

void append_literal(std::string& out, const Value& value) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    out += '\'';
    for (const char c : *text) {
      if (c == '\'') out += '\'';
      out += c;
    }
    out += '\'';
  } else if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    out += std::to_string(*integer);
  } else if (const auto* real = std::get_if<double>(&value)) {
    out += real_literal(*real);
  } else {
    out += "NULL";
  }
}

std::string to_string(const Condition& condition) {
  std::string text(event::info(condition.column).name);
  text += ' ';
  if (condition.negated) text += "NOT ";
  text += to_string(condition.op);
  if (condition.op == Operator::is_null || condition.op == Operator::is_not_null) return text;
  text += ' ';
  if (condition.op != Operator::in) {
    if (!condition.values.empty()) append_literal(text, condition.values.front());
    return text;
  }
  text += '(';
  for (std::size_t i = 0; i < condition.values.size(); ++i) {
    if (i > 0) text += ", ";
    append_literal(text, condition.values[i]);
  }
  return text + ')';
}

// What one condition needs at hand when it is evaluated.
struct Test {
  Operator op{};
  bool negated = false;
  Value constant;              // comparisons; after affinity
  std::vector<Value> members;  // in; after affinity, sorted, without NULL
  bool member_is_null = false;
  std::string pattern;  // like, glob
  std::optional<Regexp> regexp;
  std::optional<NecessaryLiteral> literal;  // like, glob
};

bool less(const Value& a, const Value& b) { return compare(a, b) < 0; }

std::unexpected<Error> bad(const Condition& condition, std::string_view what) {
  constexpr std::size_t longest_shown = 200;
  return fail(Errc::invalid_input, "condition '" + base::printable(to_string(condition).substr(0, longest_shown)) +
                                       "': " + std::string(what));
}

Result<Test> compile_condition(const Condition& condition) {
  if (static_cast<std::size_t>(condition.column) >= event::column_count) {
    return fail(Errc::invalid_input, "condition on a column that does not exist");
  }
  const auto count = condition.values.size();
  const bool is_unary = condition.op == Operator::is_null || condition.op == Operator::is_not_null;
  if (is_unary && count != 0) return bad(condition, "takes no value");
  if (!is_unary && condition.op != Operator::in && count != 1) return bad(condition, "takes exactly one value");
  if (count > max_compiled_in_values) {
    return bad(condition, "more than " + std::to_string(max_compiled_in_values) + " values");
  }
  if (condition.negated && !can_be_negated(condition.op)) return bad(condition, "cannot be negated");
  for (const auto& value : condition.values) {
    if (const auto* real = std::get_if<double>(&value); real != nullptr && !std::isfinite(*real)) {
      return bad(condition, "a number that is not finite");
    }
  }
  const ColumnType type = event::info(condition.column).type;
  Test test;
  test.op = condition.op;
  test.negated = condition.negated;
  switch (condition.op) {
    case Operator::is_null:
    case Operator::is_not_null: return test;
    case Operator::in:
      for (const auto& value : condition.values) {
        if (is_null(value))
          test.member_is_null = true;
        else
          test.members.push_back(with_affinity(value, type));
      }
      std::sort(test.members.begin(), test.members.end(), less);
      return test;
    case Operator::like:
    case Operator::glob:
    case Operator::regexp:
      test.constant = condition.values.front();
      if (is_null(test.constant)) return test;
      test.pattern = to_text(test.constant);
      if (condition.op != Operator::regexp) {
        test.literal = condition.op == Operator::like ? like_literal(test.pattern) : glob_literal(test.pattern);
        if (test.pattern.size() <= max_pattern_bytes) return test;
        return bad(condition, "pattern longer than " + std::to_string(max_pattern_bytes) + " bytes");
      }
      if (auto regexp = Regexp::compile(test.pattern))
        test.regexp = *std::move(regexp);
      else
        return bad(condition, regexp.error().message);
      return test;
    default: test.constant = with_affinity(condition.values.front(), type); return test;
  }
}

bool is_true(const Test& test, const Value& value) {
  if (test.op == Operator::is_null) return is_null(value);
  if (test.op == Operator::is_not_null) return !is_null(value);
  if (test.op == Operator::in) {
    // Of an empty list even NULL is not a member.
    if (test.members.empty() && !test.member_is_null) return test.negated;
    if (is_null(value)) return false;
    if (std::binary_search(test.members.begin(), test.members.end(), value, less)) return !test.negated;
    return test.negated && !test.member_is_null;
  }
  if (is_null(value) || is_null(test.constant)) return false;
  if (can_be_negated(test.op)) {
    std::string converted;
    const auto* text = std::get_if<std::string>(&value);
    if (text == nullptr) {
      converted = to_text(value);
      text = &converted;
    }
    const bool matched = test.op == Operator::like   ? like_matches(test.pattern, *text)
                         : test.op == Operator::glob ? glob_matches(test.pattern, *text)
                                                     : test.regexp->matches(*text);
    return matched != test.negated;
  }
  const auto order = compare(value, test.constant);
  switch (test.op) {
    case Operator::equal: return order == 0;
    case Operator::not_equal: return order != 0;
    case Operator::less: return order < 0;
    case Operator::less_equal: return order <= 0;
    case Operator::greater: return order > 0;
    default: return order >= 0;
  }
}

}  // namespace

std::string_view to_string(Operator op) {
  for (const auto& entry : operator_names) {
    if (entry.op == op) return entry.name;
  }
  return "?";
}

struct Predicate::State {
  std::vector<Condition> conditions;
  std::vector<Test> tests;
};

Predicate::Predicate(std::unique_ptr<State> state) : state_(std::move(state)) {}
Predicate::Predicate(Predicate&&) noexcept = default;
Predicate& Predicate::operator=(Predicate&&) noexcept = default;
Predicate::~Predicate() = default;

Result<Predicate> Predicate::compile(std::vector<Condition> conditions) {
  if (conditions.size() > max_conditions) {
    return fail(Errc::limit_exceeded, "predicate: " + std::to_string(conditions.size()) + " conditions, at most " +
                                          std::to_string(max_conditions));
  }
  auto state = std::make_unique<State>();
  for (const auto& condition : conditions) {
    DE_TRY(auto test, compile_condition(condition));
    state->tests.push_back(std::move(test));
  }
  state->conditions = std::move(conditions);
  return Predicate(std::move(state));
}

bool Predicate::matches(const event::ProcessEvent& event, event::EventId event_id) const {
  for (std::size_t i = 0; i < state_->tests.size(); ++i) {
    if (!is_true(state_->tests[i], event::column_value(event, event_id, state_->conditions[i].column))) return false;
  }
  return true;
}

bool Predicate::matches_value(std::size_t condition_index, const Value& value) const {
  return is_true(state_->tests.at(condition_index), value);
}

const std::optional<NecessaryLiteral>& Predicate::literal(std::size_t condition_index) const {
  return state_->tests.at(condition_index).literal;
}

const std::vector<Condition>& Predicate::conditions() const { return state_->conditions; }

std::string Predicate::text() const {
  std::string text;
  for (const auto& condition : state_->conditions) {
    if (!text.empty()) text += " AND ";
    text += to_string(condition);
  }
  return text;
}

}  // namespace daemoneye::predicate
