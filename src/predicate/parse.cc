// The text form: conditions of the shape column-operator-value, joined by AND.
#include <charconv>
#include <cmath>

#include "base/text.h"
#include "predicate/predicate.h"

namespace daemoneye::predicate {
namespace {

using event::Value;

bool is_word_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<std::vector<Condition>> conjunction() {
    std::vector<Condition> conditions;
    skip_blanks();
    if (at_end()) return conditions;
    do {
      if (conditions.size() == max_conditions)
        return error("more than " + std::to_string(max_conditions) + " conditions");
      DE_TRY(auto condition, this->condition());
      conditions.push_back(std::move(condition));
    } while (take_word("and"));
    skip_blanks();
    if (!at_end()) return error("wanted AND or the end");
    return conditions;
  }

 private:
  Result<Condition> condition() {
    skip_blanks();
    const std::size_t column_at = at_;
    const auto name = lower(word());
    const auto column = event::find_column(name);
    if (!column) {
      at_ = column_at;
      return error(name.empty() ? "wanted a column" : "no column '" + name + "'" + suggestion(name));
    }
    Condition condition{*column, Operator::equal, {}, false};
    if (take_word("is")) {
      const bool negated = take_word("not");
      if (!take_word("null")) return error("wanted NULL");
      condition.op = negated ? Operator::is_not_null : Operator::is_null;
      return condition;
    }
    condition.negated = take_word("not");
    if (take_word("in")) return in_list(std::move(condition));
    if (take_word("like"))
      condition.op = Operator::like;
    else if (take_word("glob"))
      condition.op = Operator::glob;
    else if (take_word("regexp"))
      condition.op = Operator::regexp;
    else if (condition.negated || !take_comparison(condition.op)) {
      return error(condition.negated ? "wanted IN, LIKE, GLOB or REGEXP"
                                     : "wanted =, !=, <, <=, >, >=, [NOT] IN, LIKE, GLOB or REGEXP, IS [NOT] NULL");
    }
    DE_TRY(auto value, literal(condition));
    condition.values.push_back(std::move(value));
    return condition;
  }

  Result<Condition> in_list(Condition condition) {
    condition.op = Operator::in;
    if (!take("(")) return error("wanted (");
    if (take(")")) return condition;
    do {
      if (condition.values.size() == max_in_values)
        return error("more than " + std::to_string(max_in_values) + " values");
      DE_TRY(auto value, literal(condition));
      condition.values.push_back(std::move(value));
    } while (take(","));
    if (!take(")")) return error("wanted , or )");
    return condition;
  }

  Result<Value> literal(const Condition& condition) {
    skip_blanks();
    if (!at_end() && text_[at_] == '\'') return quoted(condition);
    if (take_word("null")) return Value();
    return number();
  }

  Result<Value> quoted(const Condition& condition) {
    const std::size_t begin = at_;
    std::string value;
    for (++at_; !at_end(); ++at_) {
      if (text_[at_] != '\'') {
        value += text_[at_];
      } else if (at_ + 1 < text_.size() && text_[at_ + 1] == '\'') {
        value += '\'';
        ++at_;
      } else {
        ++at_;
        return time_or_text(condition, std::move(value), begin);
      }
    }
    at_ = begin;
    return error("text without its closing '");
  }

  // As in the contract: compared with a time, a text is one.
  Result<Value> time_or_text(const Condition& condition, std::string text, std::size_t begin) {
    const bool compares = condition.op <= Operator::in;
    if (!event::info(condition.column).is_time || !compares) return Value(std::move(text));
    if (const auto time = base::parse_iso(text))
      return Value(time->ns);
    else {
      at_ = begin;
      return error(time.error().message);
    }
  }

  Result<Value> number() {
    const std::size_t begin = at_;
    std::size_t end = at_;
    if (end < text_.size() && (text_[end] == '-' || text_[end] == '+')) ++end;
    bool real = false;
    while (end < text_.size()) {
      const char c = text_[end];
      const bool exponent_sign = (c == '-' || c == '+') && (text_[end - 1] == 'e' || text_[end - 1] == 'E');
      if (!is_word_character(c) && c != '.' && !exponent_sign) break;
      real = real || c == '.' || c == 'e' || c == 'E';
      ++end;
    }
    auto digits = text_.substr(begin, end - begin);
    if (digits.starts_with('+')) digits.remove_prefix(1);
    if (!real) {
      if (const auto integer = base::parse_integer<std::int64_t>(digits)) {
        at_ = end;
        return Value(*integer);
      }
    }
    // An integer beyond 64 bits is a real, as in SQL.
    double value = 0;
    const auto [stop, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (failed != std::errc{} || stop != digits.data() + digits.size() || !std::isfinite(value)) {
      return error("wanted a number, a text in ' or NULL");
    }
    at_ = end;
    return Value(value);
  }

  bool take_comparison(Operator& op) {
    // Longer ones first.
    if (take("<="))
      op = Operator::less_equal;
    else if (take(">="))
      op = Operator::greater_equal;
    else if (take("<>") || take("!="))
      op = Operator::not_equal;
    else if (take("==") || take("="))
      op = Operator::equal;
    else if (take("<"))
      op = Operator::less;
    else if (take(">"))
      op = Operator::greater;
    else
      return false;
    return true;
  }

  std::string_view word() {
    const std::size_t begin = at_;
    while (!at_end() && is_word_character(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  bool take_word(std::string_view wanted) {
    skip_blanks();
    const std::size_t begin = at_;
    if (lower(word()) == wanted) return true;
    at_ = begin;
    return false;
  }

  bool take(std::string_view symbol) {
    skip_blanks();
    if (text_.substr(at_, symbol.size()) != symbol) return false;
    at_ += symbol.size();
    return true;
  }

  static std::string suggestion(std::string_view name) {
    std::vector<std::string_view> names;
    for (const auto& column : event::columns()) names.push_back(column.name);
    const auto nearest = base::nearest(name, names);
    return nearest.empty() ? "" : " (did you mean " + std::string(nearest) + "?)";
  }

  void skip_blanks() {
    while (!at_end() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) ++at_;
  }
  [[nodiscard]] bool at_end() const { return at_ >= text_.size(); }
  [[nodiscard]] std::unexpected<Error> error(std::string_view what) const {
    return fail(Errc::invalid_input, "predicate: at byte " + std::to_string(at_) + ": " + std::string(what));
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

Result<Predicate> Predicate::parse(std::string_view text) {
  if (text.size() > max_predicate_bytes) {
    return fail(Errc::limit_exceeded,
                "predicate: " + std::to_string(text.size()) + " bytes, at most " + std::to_string(max_predicate_bytes));
  }
  DE_TRY(auto conditions, Parser(text).conjunction());
  return compile(std::move(conditions));
}

}  // namespace daemoneye::predicate
