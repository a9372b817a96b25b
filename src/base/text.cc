#include "base/text.h"

#include <algorithm>

namespace daemoneye::base {
namespace {

// Length of the valid UTF-8 sequence at the front of `bytes`; 0 when it is invalid.
std::size_t utf8_sequence(std::string_view bytes) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const auto continues = [&](std::size_t i) { return i < bytes.size() && (at(i) & 0xc0) == 0x80; };
  const unsigned char lead = at(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return continues(1) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef) {
    if (!continues(1) || !continues(2)) return 0;
    if (lead == 0xe0 && at(1) < 0xa0) return 0;  // overlong
    if (lead == 0xed && at(1) > 0x9f) return 0;  // surrogate
    return 3;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    if (lead == 0xf0 && at(1) < 0x90) return 0;  // overlong
    if (lead == 0xf4 && at(1) > 0x8f) return 0;  // above U+10FFFF
    return 4;
  }
  return 0;
}

void append_hex_byte(std::string& out, std::string_view prefix, unsigned char byte) {
  constexpr char digits[] = "0123456789abcdef";
  out += prefix;
  out += digits[byte >> 4];
  out += digits[byte & 15];
}

constexpr std::string_view replacement = "\xef\xbf\xbd";  // U+FFFD

// Of a valid sequence.
char32_t code_point(std::string_view sequence) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(sequence[i]); };
  if (sequence.size() == 1) return at(0);
  char32_t point = at(0) & (0xffU >> (sequence.size() + 1));
  for (std::size_t i = 1; i < sequence.size(); ++i) point = point << 6 | (at(i) & 0x3fU);
  return point;
}

// Shown as they are these make a text look like another: they turn the direction of what follows, end a line, or are
// not seen at all. Joiners are left: scripts and emoji need them.
bool deceives(char32_t point) {
  constexpr std::pair<char32_t, char32_t> ranges[] = {{0x61c, 0x61c},   {0x200b, 0x200b},  {0x200e, 0x200f},
                                                      {0x2028, 0x202e}, {0x2060, 0x206f},  {0xfeff, 0xfeff},
                                                      {0xfff9, 0xfffb}, {0xe0000, 0xe007f}};
  return std::ranges::any_of(ranges, [&](const auto& range) { return point >= range.first && point <= range.second; });
}

void append_code_point(std::string& out, char32_t point) {
  char digits[8];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, static_cast<std::uint32_t>(point), 16);
  out += "\\u{";
  out.append(digits, end);
  out += '}';
}

}  // namespace

std::string_view trim(std::string_view text) {
  constexpr std::string_view blanks = " \t\r\n\f\v";
  const auto first = text.find_first_not_of(blanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const auto at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0U : 1U)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string_view nearest(std::string_view text, const std::vector<std::string_view>& candidates) {
  constexpr std::size_t longest_considered = 64;
  if (text.empty() || text.size() > longest_considered) return {};
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(1, text.size() / 3) + 1;
  for (const auto candidate : candidates) {
    const auto distance = edit_distance(text, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string to_valid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const std::size_t length = utf8_sequence(bytes);
    if (length == 0) {
      out += replacement;
      bytes.remove_prefix(1);
    } else {
      out += bytes.substr(0, length);
      bytes.remove_prefix(length);
    }
  }
  return out;
}

std::string printable(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const auto lead = static_cast<unsigned char>(bytes.front());
    const std::size_t length = utf8_sequence(bytes);
    const bool c1_control = length == 2 && lead == 0xc2 && static_cast<unsigned char>(bytes[1]) < 0xa0;
    if (lead == '\n')
      out += "\\n";
    else if (lead == '\t')
      out += "\\t";
    else if (lead == '\r')
      out += "\\r";
    else if (lead < 0x20 || lead == 0x7f || length == 0)
      append_hex_byte(out, "\\x", lead);
    else if (c1_control)
      append_hex_byte(out, "\\x", static_cast<unsigned char>(bytes[1]));
    else if (const auto point = code_point(bytes.substr(0, length)); length > 1 && deceives(point))
      append_code_point(out, point);
    else
      out += bytes.substr(0, length);
    bytes.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return out;
}

std::string json_quote(std::string_view bytes) {
  std::string out = "\"";
  out.reserve(bytes.size() + 2);
  while (!bytes.empty()) {
    const auto lead = static_cast<unsigned char>(bytes.front());
    const std::size_t length = utf8_sequence(bytes);
    if (lead == '"')
      out += "\\\"";
    else if (lead == '\\')
      out += "\\\\";
    else if (lead == '\n')
      out += "\\n";
    else if (lead == '\t')
      out += "\\t";
    else if (lead == '\r')
      out += "\\r";
    else if (lead < 0x20 || lead == 0x7f)
      append_hex_byte(out, "\\u00", lead);
    else if (length == 0)
      out += replacement;
    else if (length == 2 && lead == 0xc2 && static_cast<unsigned char>(bytes[1]) < 0xa0)
      append_hex_byte(out, "\\u00", static_cast<unsigned char>(bytes[1]));  // a terminal may obey it
    else
      out += bytes.substr(0, length);
    bytes.remove_prefix(std::max<std::size_t>(length, 1));
  }
  out += '"';
  return out;
}

}  // namespace daemoneye::base
