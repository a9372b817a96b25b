#include "sigma/pattern.h"

#include <algorithm>

#include "sigma/refused.h"

namespace daemoneye::sigma {
namespace {

using Kind = Piece::Kind;

constexpr std::size_t max_dash_forms = 25;     // spelled out; more are asked for by REGEXP
constexpr std::size_t max_like_wildcards = 8;  // LIKE tries again at each: more are asked for by REGEXP

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }
bool is_word(char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '_' || !is_ascii(c); }
char swapped(char c) { return static_cast<char>(c ^ 0x20); }

// The character that begins at `at`, and moves behind it. Bytes that are not UTF-8 are refused.
char32_t next_character(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  if (first < 0x80) return text[at++] & 0x7f;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || at + length > text.size()) throw Refused("a value is not UTF-8");
  char32_t code = first & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0U) != 0x80) throw Refused("a value is not UTF-8");
    code = code << 6U | (byte(at + i) & 0x3fU);
  }
  at += length;
  return code;
}

// To Unicode an s and a K; ASCII's letters fold among themselves here.
bool folds_to_ascii(char32_t code) { return code == 0x17f || code == 0x212a; }

// Dashes and quotation marks: without case, so that LIKE compares them as well as REGEXP does.
bool without_case(char32_t code) { return code < 0x80 || (code >= 0x2010 && code <= 0x2027) || folds_to_ascii(code); }

bool has_case_beyond_ascii(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    if (!without_case(next_character(text, at))) return true;
  }
  return false;
}

std::string for_regexp(std::string_view text, bool cased) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t code = next_character(text, at);
    const std::string_view character = text.substr(begin, at - begin);
    if (code >= 0x80)
      out += cased || folds_to_ascii(code) ? std::string(character) : "(?i:" + std::string(character) + ")";
    else if (is_letter(text[begin]))
      out += cased ? std::string(character) : std::string{'[', text[begin], swapped(text[begin]), ']'};
    else if (is_word(text[begin]))
      out += character;
    else if (code < 0x20 || code == 0x7f)
      out += character;  // a control character stands for itself; RE2 takes no backslash before one
    else
      out += '\\' + std::string(character);
  }
  return out;
}

}  // namespace

const std::vector<std::string_view>& dashes() {
  static const std::vector<std::string_view> all = {"-", "/", "\u2013", "\u2014", "\u2015"};
  return all;
}

std::string quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\0') throw Refused("a value has a NUL, which no column has");
    out += c;
    if (c == '\'') out += c;
  }
  return out + "'";
}

Pattern Pattern::parse(std::string_view value) {
  Pattern pattern;
  std::string text;
  const auto flush = [&] {
    if (!text.empty()) pattern.add(Kind::literal, text);
    text.clear();
  };
  for (std::size_t at = 0; at < value.size(); ++at) {
    const char c = value[at];
    const char next = at + 1 < value.size() ? value[at + 1] : '\0';
    if (c == '\\' && (next == '*' || next == '?' || next == '\\')) {
      text += next;
      ++at;
    } else if (c == '*' || c == '?') {
      flush();
      pattern.add(c == '*' ? Kind::any_many : Kind::any_one);
    } else {
      text += c;
    }
  }
  flush();
  return pattern;
}

Pattern Pattern::literal(std::string text) {
  Pattern pattern;
  if (!text.empty()) pattern.add(Kind::literal, text);
  return pattern;
}

void Pattern::add(Kind kind, std::string_view text) {
  if (kind == Kind::any_many && !pieces_.empty() && pieces_.back().kind == kind) return;
  if (kind == Kind::literal && !pieces_.empty() && pieces_.back().kind == kind)
    pieces_.back().text += text;
  else
    pieces_.push_back({kind, std::string(text)});
}

bool Pattern::has_wildcards() const {
  return std::ranges::any_of(pieces_, [](const Piece& piece) { return piece.kind != Kind::literal; });
}

std::string Pattern::plain() const {
  std::string text;
  for (const auto& piece : pieces_) text += piece.text;
  return text;
}

void Pattern::prepend_any() {
  if (pieces_.empty() || pieces_.front().kind != Kind::any_many) pieces_.insert(pieces_.begin(), {Kind::any_many, ""});
}
void Pattern::append_any() { add(Kind::any_many); }

void Pattern::loosen_dashes() {
  Pattern loose;
  for (const auto& piece : pieces_) {
    if (piece.kind != Kind::literal) {
      loose.add(piece.kind, piece.text);
      continue;
    }
    const std::string_view text = piece.text;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const bool begins = i == 0 || !is_word(text[i - 1]);
      const bool word = i + 1 < text.size() && is_word(text[i + 1]);
      if ((text[i] == '-' || text[i] == '/') && begins && word)
        loose.add(Kind::dash);
      else
        loose.add(Kind::literal, text.substr(i, 1));
    }
  }
  *this = std::move(loose);
}

bool Pattern::needs_regexp() const {
  std::size_t wildcards = 0, forms = 1;
  for (const auto& piece : pieces_) {
    wildcards += piece.kind == Kind::any_many ? 1 : 0;
    if (piece.kind == Kind::dash) forms = std::min(forms * dashes().size(), max_dash_forms + 1);
  }
  return wildcards > max_like_wildcards || forms > max_dash_forms;
}

std::vector<Pattern> Pattern::without_dashes() const {
  std::vector<Pattern> forms(1);
  for (const auto& piece : pieces_) {
    if (piece.kind != Kind::dash) {
      for (auto& form : forms) form.add(piece.kind, piece.text);
      continue;
    }
    std::vector<Pattern> more;
    for (const auto& form : forms) {
      for (const auto dash : dashes()) {
        more.push_back(form);
        more.back().add(Kind::literal, dash);
      }
    }
    forms = std::move(more);
  }
  return forms;
}

std::string Pattern::like(const std::string& column) const {
  std::string pattern;
  const bool escaped = std::ranges::any_of(
      pieces_, [](const Piece& piece) { return piece.text.find_first_of("%_") != std::string::npos; });
  for (const auto& piece : pieces_) {
    if (piece.kind == Kind::any_many) pattern += '%';
    if (piece.kind == Kind::any_one) pattern += '_';
    for (const char c : piece.text) {
      if (escaped && (c == '%' || c == '_' || c == '\\')) pattern += '\\';
      pattern += c;
    }
  }
  return column + " LIKE " + quoted(pattern) + (escaped ? " ESCAPE '\\'" : "");
}

std::string Pattern::glob(const std::string& column) const {
  if (!has_wildcards()) return column + " = " + quoted(plain());
  std::string pattern;
  for (const auto& piece : pieces_) {
    if (piece.kind == Kind::any_many) pattern += '*';
    if (piece.kind == Kind::any_one) pattern += '?';
    for (const char c : piece.text) {
      if (c == '*' || c == '?' || c == '[')
        pattern += std::string{'[', c, ']'};
      else
        pattern += c;
    }
  }
  return column + " GLOB " + quoted(pattern);
}

std::string Pattern::regexp(bool cased) const {
  std::string pattern;
  for (const auto& piece : pieces_) {
    switch (piece.kind) {
      case Kind::literal: pattern += for_regexp(piece.text, cased); break;
      case Kind::any_many: pattern += "(?s:.*)"; break;
      case Kind::any_one: pattern += "(?s:.)"; break;
      case Kind::dash:
        pattern += "[";
        for (const auto dash : dashes()) pattern += dash == "-" ? "\\-" : std::string(dash);
        pattern += "]";
        break;
    }
  }
  // Anything may stand before and behind: found anywhere means the same and is faster.
  constexpr std::string_view any = "(?s:.*)";
  std::string_view middle = pattern;
  const bool open_front = middle.starts_with(any);
  if (open_front) middle.remove_prefix(any.size());
  const bool open_back = middle.ends_with(any);
  if (open_back) middle.remove_suffix(any.size());
  return (open_front ? "" : "\\A") + std::string(middle) + (open_back ? "" : "\\z");
}

std::string Pattern::sql(const std::string& column, bool cased) const {
  const bool folds =
      !cased && std::ranges::any_of(pieces_, [](const Piece& piece) { return has_case_beyond_ascii(piece.text); });
  if (folds || needs_regexp()) return column + " REGEXP " + quoted(regexp(cased));
  std::string all;
  const auto forms = without_dashes();
  for (const auto& form : forms) {
    all += (all.empty() ? "" : " OR ") + (cased ? form.glob(column) : form.like(column));
  }
  return forms.size() == 1 ? all : "(" + all + ")";
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    unsigned long group = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      group = group << 8U | (at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0U);
    }
    for (unsigned i = 0; i < 4; ++i) {
      out += at + i <= bytes.size() ? digits[(group >> (18U - 6U * i)) & 63U] : '=';
    }
  }
  return out;
}

std::vector<std::string> base64_offsets(std::string_view bytes) {
  std::vector<std::string> texts;
  for (std::size_t before = 0; before < 3; ++before) {
    // What a digit shares with bytes that are not ours is left out: at the front and at the end.
    const std::string whole = base64(std::string(before, ' ') + std::string(bytes));
    const std::size_t front = before == 0 ? 0 : before + 1;
    const std::size_t rest = (before + bytes.size()) % 3;
    const std::size_t back = rest == 0 ? 0 : 4 - rest;
    texts.push_back(whole.size() > front + back ? whole.substr(front, whole.size() - front - back) : "");
    if (texts.back().empty()) throw Refused("a value is too short for base64offset");
  }
  return texts;
}

std::string utf16(std::string_view utf8, Utf16 form) {
  std::string out;
  const auto unit = [&](unsigned value) {
    const char high = static_cast<char>(value >> 8U), low = static_cast<char>(value & 0xffU);
    out += form == Utf16::big ? high : low;
    out += form == Utf16::big ? low : high;
  };
  if (form == Utf16::marked) unit(0xfeff);
  for (std::size_t at = 0; at < utf8.size();) {
    const char32_t code = next_character(utf8, at);
    if (code < 0x10000) {
      unit(static_cast<unsigned>(code));
    } else {
      unit(static_cast<unsigned>(0xd800 + ((code - 0x10000) >> 10U)));
      unit(static_cast<unsigned>(0xdc00 + ((code - 0x10000) & 0x3ffU)));
    }
  }
  return out;
}

}  // namespace daemoneye::sigma
