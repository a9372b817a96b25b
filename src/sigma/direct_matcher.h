// Whether a Sigma rule holds for a row, straight from its YAML: written apart from the translation, for tests to hold
// the translation against. Slow, and strict about nothing: rules that the translation refuses are not for it.
#pragma once

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <regex>
#include <string>
#include <utility>
#include <vector>

namespace daemoneye::sigma::testing {

using Fields = std::map<std::string, std::string>;  // a field that is missing is null

inline std::u32string characters(const std::string& text) {
  std::u32string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const int more = byte < 0x80 ? 0 : byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    char32_t code = more == 0 ? byte : byte & (0x3f >> more);
    for (int k = 1; k <= more; ++k)
      code = code * 64 + (static_cast<unsigned char>(text.at(i + static_cast<std::size_t>(k))) & 0x3f);
    out += code;
    i += static_cast<std::size_t>(more) + 1;
  }
  return out;
}

// Unicode's simple folding of the letters that the tests use; ASCII's fold to ASCII's, and no other does.
inline char32_t folded(char32_t c) {
  if (c >= U'A' && c <= U'Z') return c + 32;
  if ((c >= 0xc0 && c <= 0xde && c != 0xd7)) return c + 32;
  if (c >= 0x391 && c <= 0x3a9) return c + 32;
  if (c == 0x386) return 0x3ac;
  if (c >= 0x388 && c <= 0x38a) return c + 37;
  if (c == 0x3c2) return 0x3c3;
  if (c >= 0x410 && c <= 0x42f) return c + 32;
  return c;
}

inline bool same_character(char32_t wanted, char32_t found, bool cased) {
  if (wanted == found) return true;
  if (cased || ((wanted < 0x80) != (found < 0x80))) return false;
  return folded(wanted) == folded(found);
}

inline std::u32string as_compared(const std::string& text, bool cased) {
  auto out = characters(text);
  if (!cased) std::transform(out.begin(), out.end(), out.begin(), folded);
  return out;
}

// What a text value stands for: literal characters and wildcards.
struct Element {
  enum Kind { literal, many, one, dash } kind = literal;
  char32_t code = 0;
};
using Elements = std::vector<Element>;

inline Elements elements(const std::string& value) {
  Elements out;
  const auto text = characters(value);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escapes =
        text[i] == U'\\' && i + 1 < text.size() && (text[i + 1] == U'*' || text[i + 1] == U'?' || text[i + 1] == U'\\');
    if (escapes)
      out.push_back({Element::literal, text[++i]});
    else if (text[i] == U'*')
      out.push_back({Element::many, 0});
    else if (text[i] == U'?')
      out.push_back({Element::one, 0});
    else
      out.push_back({Element::literal, text[i]});
  }
  return out;
}

inline bool is_dash(char32_t c) { return c == U'-' || c == U'/' || (c >= 0x2013 && c <= 0x2015); }

inline Elements with_loose_dashes(Elements in) {
  const auto word = [&](std::size_t i) {
    if (i >= in.size() || in[i].kind != Element::literal) return false;
    const auto c = in[i].code;
    return (c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z') || (c >= U'0' && c <= U'9') || c == U'_' || c > 0x7f;
  };
  const Elements before = in;
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (before[i].kind != Element::literal || (before[i].code != U'-' && before[i].code != U'/')) continue;
    if (i > 0 && word(i - 1)) continue;
    if (word(i + 1)) in[i].kind = Element::dash;
  }
  return in;
}

// By a table of what each beginning of the pattern matches of each beginning of the text.
inline bool wildcard_match(const Elements& pattern, const std::string& value, bool cased) {
  const auto text = characters(value);
  std::vector<bool> row(text.size() + 1, false);
  row[0] = true;
  for (const auto& element : pattern) {
    std::vector<bool> next(text.size() + 1, false);
    if (element.kind == Element::many) next[0] = row[0];
    for (std::size_t i = 0; i < text.size(); ++i) {
      switch (element.kind) {
        case Element::many: next[i + 1] = row[i + 1] || next[i]; break;
        case Element::one: next[i + 1] = row[i]; break;
        case Element::dash: next[i + 1] = row[i] && is_dash(text[i]); break;
        case Element::literal: next[i + 1] = row[i] && same_character(element.code, text[i], cased); break;
      }
    }
    row = next;
  }
  return row.back();
}

inline std::string text_of(const Elements& pattern) {
  std::string out;
  for (const auto& element : pattern) {
    const auto c = element.code;
    if (c < 0x80) {
      out += static_cast<char>(c);
    } else if (c < 0x800) {
      out += {static_cast<char>(0xc0 | (c >> 6)), static_cast<char>(0x80 | (c & 63))};
    } else if (c < 0x10000) {
      out += {static_cast<char>(0xe0 | (c >> 12)), static_cast<char>(0x80 | ((c >> 6) & 63)),
              static_cast<char>(0x80 | (c & 63))};
    } else {
      out += {static_cast<char>(0xf0 | (c >> 18)), static_cast<char>(0x80 | ((c >> 12) & 63)),
              static_cast<char>(0x80 | ((c >> 6) & 63)), static_cast<char>(0x80 | (c & 63))};
    }
  }
  return out;
}

// Digits of base64 whose six bits all come from `bytes`, when `before` bytes of something else come first.
inline std::string digits_within(const std::string& bytes, std::size_t before) {
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  const std::size_t first = before * 8, last = first + bytes.size() * 8;
  for (std::size_t digit = (first + 5) / 6; digit * 6 + 6 <= last; ++digit) {
    unsigned value = 0;
    for (std::size_t bit = digit * 6; bit < digit * 6 + 6; ++bit) {
      const auto byte = static_cast<unsigned char>(bytes[(bit - first) / 8]);
      value = value * 2 + (byte >> (7 - (bit - first) % 8) & 1U);
    }
    out += digits[value];
  }
  return out;
}

inline std::string whole_base64(const std::string& bytes) {
  const std::string padded = bytes + std::string((3 - bytes.size() % 3) % 3, '\0');
  std::string out = digits_within(padded, 0);
  for (std::size_t i = 0; i < padded.size() - bytes.size(); ++i) out[out.size() - 1 - i] = '=';
  return out;
}

inline std::string utf16_bytes(const std::string& text, const std::string& form) {
  std::string out;
  const auto put = [&](char32_t unit) {
    if (form == "utf16be")
      out += {static_cast<char>(unit / 256), static_cast<char>(unit % 256)};
    else
      out += {static_cast<char>(unit % 256), static_cast<char>(unit / 256)};
  };
  if (form == "utf16") out += "\xff\xfe";
  for (const auto c : characters(text)) {
    if (c >= 0x10000) put(0xd800 + (c - 0x10000) / 0x400);
    put(c >= 0x10000 ? 0xdc00 + (c - 0x10000) % 0x400 : c);
  }
  return out;
}

inline std::string ascii_lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return text;
}

inline std::optional<unsigned long> address(const std::string& text) {
  std::smatch parts;
  static const std::regex form("(0|[1-9][0-9]{0,2})\\.(0|[1-9][0-9]{0,2})\\.(0|[1-9][0-9]{0,2})\\.(0|[1-9][0-9]{0,2})");
  if (!std::regex_match(text, parts, form)) return std::nullopt;
  unsigned long value = 0;
  for (std::size_t i = 1; i <= 4; ++i) {
    const auto octet = std::stoul(parts[i]);
    if (octet > 255) return std::nullopt;
    value = value * 256 + octet;
  }
  return value;
}

class DirectMatcher {
 public:
  explicit DirectMatcher(const YAML::Node& rule) : detection_(rule["detection"]) {}

  // Whether a search holds, by its name.
  using Truth = std::function<bool(const std::string&)>;

  bool matches(const Fields& row) const {
    return condition([&](const std::string& name) { return search(name, row); });
  }

  // The condition alone.
  bool condition(const Truth& truth) const {
    const auto condition = detection_["condition"];
    if (condition.IsScalar()) return holds(condition.Scalar(), truth);
    return std::any_of(condition.begin(), condition.end(), [&](const auto& one) { return holds(one.Scalar(), truth); });
  }

  // One search alone.
  bool search(const std::string& name, const Fields& row) const { return node(detection_[name], row); }

  static bool entry(const std::string& key, const YAML::Node& value, const Fields& row) {
    std::vector<std::string> words;
    for (std::size_t at = 0; at <= key.size();) {
      const auto bar = std::min(key.find('|', at), key.size());
      words.push_back(key.substr(at, bar - at));
      at = bar + 1;
    }
    const std::string field = words.front();
    words.erase(words.begin());
    const bool all = std::erase(words, "all") > 0;
    if (!value.IsSequence()) return value_matches(field, words, value, row);
    const auto one = [&](const YAML::Node& item) { return value_matches(field, words, item, row); };
    return all ? std::all_of(value.begin(), value.end(), one) : std::any_of(value.begin(), value.end(), one);
  }

 private:
  static bool value_matches(const std::string& field, const std::vector<std::string>& words, const YAML::Node& value,
                            const Fields& row) {
    if (!field.empty()) return text_matches(field, words, value, row, false);
    for (const char* name : {"Image", "CommandLine", "CurrentDirectory", "User", "ParentImage", "ParentCommandLine"}) {
      if (text_matches(name, words, value, row, true)) return true;
    }
    return false;
  }

  static bool text_matches(const std::string& field, std::vector<std::string> words, const YAML::Node& value,
                           const Fields& row, bool anywhere) {
    const auto has = [&](const char* word) { return std::find(words.begin(), words.end(), word) != words.end(); };
    const auto found = row.find(field);
    const bool is_null = found == row.end();
    if (value.IsNull()) return is_null;
    const std::string wanted = value.Scalar();
    if (has("exists")) return is_null != (ascii_lower(wanted) == "true");
    if (is_null) return false;
    const std::string& text = found->second;
    if (has("re")) {
      auto flags = std::regex::ECMAScript;
      if (has("i")) flags |= std::regex::icase;
      if (has("m")) flags |= std::regex::multiline;
      std::string pattern = wanted;
      if (has("s")) pattern = std::regex_replace(pattern, std::regex("\\."), "[\\s\\S]");
      std::string subject = text;
      // PCRE's $ also stands before the last line break.
      if (!has("m") && pattern.ends_with('$') && subject.ends_with('\n')) subject.pop_back();
      return std::regex_search(text, std::regex(pattern, flags)) ||
             std::regex_search(subject, std::regex(pattern, flags));
    }
    if (has("cidr")) {
      const auto slash = wanted.find('/');
      const auto bits = slash == std::string::npos ? 32 : std::stoul(wanted.substr(slash + 1));
      const auto network = address(wanted.substr(0, slash)), asked = address(text);
      const auto hosts = 1UL << (32 - bits);
      return asked && *asked / hosts == *network / hosts;
    }
    for (const char* word : {"lt", "lte", "gt", "gte"}) {
      if (!has(word)) continue;
      const auto left = std::stoll(text), right = std::stoll(wanted);
      const std::string name = word;
      return name == "lt" ? left < right : name == "lte" ? left <= right : name == "gt" ? left > right : left >= right;
    }
    if (has("fieldref")) {
      const auto other = row.find(wanted);
      if (other == row.end()) return false;
      const auto a = as_compared(text, has("cased")), b = as_compared(other->second, has("cased"));
      if (has("contains")) return a.find(b) != std::u32string::npos;
      if (has("startswith")) return a.starts_with(b);
      if (has("endswith")) return a.ends_with(b);
      return a == b;
    }
    std::vector<Elements> forms = {elements(wanted)};
    std::string bytes = text_of(forms.front());
    for (const char* form : {"wide", "utf16le", "utf16be", "utf16"}) {
      if (has(form)) bytes = utf16_bytes(bytes, form);
    }
    if (has("base64") || has("base64offset")) {
      forms.clear();
      const auto add = [&](const std::string& plain) {
        Elements form;
        for (const char c : plain) form.push_back({Element::literal, static_cast<char32_t>(c)});
        forms.push_back(form);
      };
      if (has("base64")) add(whole_base64(bytes));
      for (std::size_t before = 0; has("base64offset") && before < 3; ++before) add(digits_within(bytes, before));
    }
    for (auto& form : forms) {
      if (has("windash")) form = with_loose_dashes(form);
      const bool unbound = anywhere && !has("startswith") && !has("endswith");
      if (has("contains") || has("endswith") || unbound) form.insert(form.begin(), {Element::many, 0});
      if (has("contains") || has("startswith") || unbound) form.push_back({Element::many, 0});
      if (wildcard_match(form, text, has("cased"))) return true;
    }
    return false;
  }

  static bool node(const YAML::Node& search, const Fields& row) {
    if (search.IsMap()) {
      for (const auto& one : search) {
        if (!entry(one.first.Scalar(), one.second, row)) return false;
      }
      return true;
    }
    if (!search.IsSequence()) return entry("", search, row);
    for (const auto& one : search) {
      if (one.IsMap() ? node(one, row) : entry("", one, row)) return true;
    }
    return false;
  }

  // not before and before or; every part is looked at.
  bool holds(const std::string& condition, const Truth& truth) const {
    std::vector<std::string> tokens;
    std::string word;
    for (const char c : condition + " ") {
      const bool alone = c == '(' || c == ')';
      if ((alone || c == ' ' || c == '\t' || c == '\n') && !word.empty()) tokens.push_back(std::exchange(word, ""));
      if (alone)
        tokens.emplace_back(1, c);
      else if (c != ' ' && c != '\t' && c != '\n')
        word += c;
    }
    std::size_t at = 0;
    return or_part(tokens, at, truth);
  }
  static bool is(const std::vector<std::string>& tokens, std::size_t at, const std::string& word) {
    return at < tokens.size() && ascii_lower(tokens[at]) == word;
  }
  bool or_part(const std::vector<std::string>& tokens, std::size_t& at, const Truth& truth) const {
    bool value = and_part(tokens, at, truth);
    while (is(tokens, at, "or")) value = and_part(tokens, ++at, truth) || value;
    return value;
  }
  bool and_part(const std::vector<std::string>& tokens, std::size_t& at, const Truth& truth) const {
    bool value = not_part(tokens, at, truth);
    while (is(tokens, at, "and")) value = not_part(tokens, ++at, truth) && value;
    return value;
  }
  bool not_part(const std::vector<std::string>& tokens, std::size_t& at, const Truth& truth) const {
    if (is(tokens, at, "not")) return !not_part(tokens, ++at, truth);
    if (tokens.at(at) == "(") {
      const bool value = or_part(tokens, ++at, truth);
      ++at;
      return value;
    }
    if (!is(tokens, at + 1, "of")) return truth(tokens[at++]);
    const bool all = is(tokens, at, "all");
    const bool them = is(tokens, at + 2, "them");
    const auto pattern = elements(tokens.at(at + 2));
    at += 3;
    bool any = false, every = true;
    for (const auto& one : detection_) {
      const auto name = one.first.Scalar();
      if (name == "condition" || (them ? name.starts_with('_') : !wildcard_match(pattern, name, true))) continue;
      const bool value = truth(name);
      any = any || value;
      every = every && value;
    }
    return all ? every : any;
  }

  YAML::Node detection_;
};

}  // namespace daemoneye::sigma::testing
