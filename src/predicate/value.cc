#include "predicate/value.h"

#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/text.h"

namespace daemoneye::predicate {
namespace {

using event::ColumnType;
using event::Value;

std::strong_ordering compare_reals(double a, double b) {
  if (a < b) return std::strong_ordering::less;
  return a > b ? std::strong_ordering::greater : std::strong_ordering::equal;
}

// Exact: a 64-bit integer does not fit a double, so converting it could make different numbers equal.
std::strong_ordering compare_integer_real(std::int64_t integer, double real) {
  constexpr double two_to_63 = 9223372036854775808.0;
  if (real < -two_to_63) return std::strong_ordering::greater;
  if (real >= two_to_63) return std::strong_ordering::less;
  const auto whole = static_cast<std::int64_t>(real);
  if (integer != whole) return integer <=> whole;
  return compare_reals(static_cast<double>(integer), real);
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// [+-]digits[.digits][e[+-]digits] with at least one digit before the exponent.
bool is_number(std::string_view text) {
  std::size_t at = 0;
  const auto digits = [&] {
    const std::size_t begin = at;
    while (at < text.size() && is_digit(text[at])) ++at;
    return at - begin;
  };
  const auto sign = [&] {
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
  };
  sign();
  std::size_t count = digits();
  if (at < text.size() && text[at] == '.') {
    ++at;
    count += digits();
  }
  if (count == 0) return false;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    sign();
    if (digits() == 0) return false;
  }
  return at == text.size();
}

Value numeric(const std::string& constant) {
  auto text = base::trim(constant);
  if (!is_number(text)) return constant;
  if (text.front() == '+') text.remove_prefix(1);  // from_chars knows no plus
  if (const auto integer = base::parse_integer<std::int64_t>(text)) return *integer;
  double real = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), real);
  if (error == std::errc::result_out_of_range) {
    // Too large or too small; strtod says which. The text is a checked number, so it ends where strtod stops.
    real = std::strtod(std::string(text).c_str(), nullptr);
  }
  return real;
}

}  // namespace

Value with_affinity(const Value& constant, ColumnType column) {
  if (column == ColumnType::text) {
    const bool is_number = std::holds_alternative<std::int64_t>(constant) || std::holds_alternative<double>(constant);
    return is_number ? Value(to_text(constant)) : constant;
  }
  const auto* text = std::get_if<std::string>(&constant);
  return text != nullptr ? numeric(*text) : constant;
}

std::strong_ordering compare(const Value& a, const Value& b) {
  const auto storage_class = [](const Value& value) {
    return std::holds_alternative<std::monostate>(value) ? 0 : std::holds_alternative<std::string>(value) ? 2 : 1;
  };
  const int class_a = storage_class(a), class_b = storage_class(b);
  if (class_a != class_b) return class_a <=> class_b;
  if (class_a == 0) return std::strong_ordering::equal;
  if (class_a == 2) return std::get<std::string>(a).compare(std::get<std::string>(b)) <=> 0;
  const auto* integer_a = std::get_if<std::int64_t>(&a);
  const auto* integer_b = std::get_if<std::int64_t>(&b);
  if (integer_a != nullptr && integer_b != nullptr) return *integer_a <=> *integer_b;
  if (integer_a != nullptr) return compare_integer_real(*integer_a, std::get<double>(b));
  if (integer_b != nullptr) return 0 <=> compare_integer_real(*integer_b, std::get<double>(a));
  return compare_reals(std::get<double>(a), std::get<double>(b));
}

std::string real_to_text(double value) {
  if (std::isinf(value)) return value > 0 ? "Inf" : "-Inf";
  if (value == 0.0) return "0.0";  // SQLite shows -0.0 so, too
  char buffer[40];
  const int length = std::snprintf(buffer, sizeof buffer, "%.15g", value);
  std::string text(buffer, static_cast<std::size_t>(length));
  const auto exponent = text.find('e');
  if (text.find('.') == std::string::npos) text.insert(exponent == std::string::npos ? text.size() : exponent, ".0");
  return text;
}

std::string to_text(const Value& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return std::to_string(*integer);
  if (const auto* real = std::get_if<double>(&value)) return real_to_text(*real);
  return {};
}

}  // namespace daemoneye::predicate
