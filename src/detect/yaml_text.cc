#include "detect/yaml_text.h"

#include <algorithm>

#include "base/text.h"

namespace daemoneye::detect {
namespace {

// Not anything that YAML could read as something else than this text.
bool is_plain(std::string_view text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (text.empty() || !letter(text.front()) || text.back() == ' ') return false;
  constexpr std::string_view words[] = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"};
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c | 0x20) : c; });
  if (std::ranges::find(words, lower) != std::end(words)) return false;
  return std::ranges::all_of(text, [&](char c) {
    return letter(c) || (c >= '0' && c <= '9') || c == ' ' || c == '.' || c == '_' || c == '-' || c == '/';
  });
}

bool fits_block(std::string_view text) {
  if (text.empty() || text.front() == ' ' || text.front() == '\n' || !text.ends_with('\n') || text.ends_with("\n\n")) {
    return false;
  }
  return std::ranges::all_of(text, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return c == '\n' || (byte >= 0x20 && byte < 0x7f);
  });
}

}  // namespace

std::string yaml_scalar(std::string_view text) {
  if (is_plain(text)) return std::string(text);
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7f) {
      out += "\\x";
      out += digits[byte >> 4U];
      out += digits[byte & 15U];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

void YamlText::comment(std::string_view text) { out_ += "# " + base::printable(text) + "\n"; }

void YamlText::text(std::string_view key, std::string_view value) {
  out_ += std::string(key) + ": " + yaml_scalar(value) + "\n";
}

void YamlText::list(std::string_view key, const std::vector<std::string>& items) {
  if (items.empty()) return;
  out_ += std::string(key) + ":\n";
  for (const auto& item : items) out_ += "  - " + yaml_scalar(item) + "\n";
}

void YamlText::block(std::string_view key, std::string_view value) {
  if (!fits_block(value)) return text(key, value);
  out_ += std::string(key) + ": |\n";
  while (!value.empty()) {
    const auto end = value.find('\n');
    const auto line = value.substr(0, end);
    out_ += (line.empty() ? "" : "  ") + std::string(line) + "\n";
    value.remove_prefix(end + 1);
  }
}

void YamlText::begin_map(std::string_view key) { out_ += std::string(key) + ":\n"; }

void YamlText::nested_text(std::string_view key, std::string_view value) {
  out_ += "  ";
  text(key, value);
}

void YamlText::nested_list(std::string_view key, const std::vector<std::string>& items) {
  out_ += "  " + std::string(key) + ":\n";
  for (const auto& item : items) out_ += "    - " + yaml_scalar(item) + "\n";
}

}  // namespace daemoneye::detect
