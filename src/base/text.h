// Text from outside: bounded, checked, made safe to show.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace daemoneye::base {

// The whole text as a decimal integer of type T, or nothing.
template <class T>
std::optional<T> parse_integer(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::string_view trim(std::string_view text);
std::vector<std::string_view> split(std::string_view text, char separator);
// Levenshtein distance over bytes; for "did you mean".
std::size_t edit_distance(std::string_view a, std::string_view b);
// The candidate nearest to `text` when it is near enough to be a likely slip; otherwise empty.
std::string_view nearest(std::string_view text, const std::vector<std::string_view>& candidates);

// Invalid UTF-8 sequences become U+FFFD.
std::string to_valid_utf8(std::string_view bytes);
// For a terminal: valid UTF-8, and control characters (escape sequences above all) as \xNN, \n, \t.
std::string printable(std::string_view bytes);
// A JSON string literal with its quotes; input made valid UTF-8 first.
std::string json_quote(std::string_view bytes);

}  // namespace daemoneye::base
