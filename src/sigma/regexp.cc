#include "sigma/regexp.h"

#include "predicate/predicate.h"
#include "sigma/refused.h"

namespace daemoneye::sigma {
namespace {

bool is_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

// PCRE's white space has the vertical tab, RE2's has not.
constexpr std::string_view space = "\\s\\x0b";
// PCRE's `$` also stands before a line break that ends the text.
constexpr std::string_view end_of_text = "(?:\\n?\\z)";

class Rewriter {
 public:
  Rewriter(std::string_view in, const RegexpFlags& flags) : in_(in), flags_(flags) {}

  std::string run() {
    while (at_ < in_.size()) step();
    std::string on, off;
    if (flags_.any_case) on += 'i';
    if (flags_.multiline) on += 'm';
    if (flags_.dot_all)
      on += 's';
    else if (has_dot_)
      off = "-s";  // REGEXP's dot takes line breaks, Sigma's does not
    if (on.empty() && off.empty()) return out_;
    return "(?" + on + off + ")" + out_;
  }

 private:
  [[nodiscard]] char peek(std::size_t ahead = 0) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  [[noreturn]] static void refuse(const std::string& what) { throw Refused("regular expression: " + what); }

  void step() {
    const char c = peek();
    if (c == '\\') return escape();
    if (in_class_) return class_member();
    switch (c) {
      case '[': return begin_class();
      case '(': return group();
      case '$': return dollar();
      case '.': has_dot_ = true; break;
      case '{':
        if (peek(1) == ',') refuse("{,n} has no fixed meaning");
        break;
      default: break;
    }
    out_ += c;
    ++at_;
  }

  void begin_class() {
    in_class_ = true;
    out_ += in_[at_++];
    if (peek() == '^') out_ += in_[at_++];
    if (peek() == ']') {  // the first is an ordinary one
      out_ += "\\]";
      ++at_;
    }
  }

  void class_member() {
    const char c = in_[at_++];
    if (c == '[' && peek() == ':') {
      const auto end = in_.find(":]", at_ + 1);
      if (end == std::string_view::npos) refuse("[: without :]");
      out_ += '[';
      out_ += in_.substr(at_, end + 2 - at_);
      at_ = end + 2;
      return;
    }
    if (c == ']') in_class_ = false;
    out_ += c == '[' ? "\\[" : std::string(1, c);
  }

  void group() {
    out_ += '(';
    ++at_;
    if (peek() == '*') refuse("verbs like (*FAIL) are not supported");
    if (peek() != '?') return;
    std::size_t end = at_ + 1;
    while (end < in_.size() && (in_[end] == 'i' || in_[end] == 'm' || in_[end] == 's' || in_[end] == '-')) ++end;
    const char after = end < in_.size() ? in_[end] : '\0';
    if (after != ':' && after != ')') {
      refuse("only (?:…) and the flags i, m and s are supported after (?: no look-around, no names, no conditions");
    }
    for (std::size_t i = at_; i < end; ++i) {
      if (in_[i] == 'm') inline_multiline_ = true;
    }
    if (inline_multiline_ && has_dollar_) refuse("$ together with the flag m in the text");
    out_ += in_.substr(at_, end - at_);
    at_ = end;
  }

  void dollar() {
    ++at_;
    if (flags_.multiline) {
      out_ += '$';
      return;
    }
    if (inline_multiline_) refuse("$ together with the flag m in the text");
    if (peek() != '\0' && peek() != ')' && peek() != '|') refuse("$ that is not at the end of an alternative");
    has_dollar_ = true;
    out_ += end_of_text;
  }

  void escape() {
    const char c = peek(1);
    if (at_ + 1 >= in_.size()) refuse("ends with a backslash");
    at_ += 2;
    if (c == 's' || c == 'S') return white_space(c == 'S');
    if (c == 'Z' && !in_class_) {
      out_ += end_of_text;
      return;
    }
    constexpr std::string_view same = "tnrfadDwWbBAzx";
    if (is_alnum(c) && same.find(c) == std::string_view::npos) {
      refuse(std::string("\\") + c + " is not supported");
    }
    if (in_class_ && (c == 'b' || c == 'B' || c == 'A' || c == 'z')) {
      refuse(std::string("\\") + c + " within [] is not supported");
    }
    if (static_cast<unsigned char>(c) >= 0x80 || c == '_') {  // nothing to take a meaning from
      out_ += c;
      return;
    }
    out_ += '\\';
    out_ += c;
  }

  void white_space(bool negated) {
    if (in_class_) {
      if (negated) refuse("\\S within [] is not supported");
      out_ += space;
    } else {
      out_ += (negated ? "[^" : "[") + std::string(space) + "]";
    }
  }

  const std::string_view in_;
  const RegexpFlags flags_;
  std::string out_;
  std::size_t at_ = 0;
  bool in_class_ = false, has_dot_ = false, has_dollar_ = false, inline_multiline_ = false;
};

}  // namespace

std::string to_re2(std::string_view pattern, const RegexpFlags& flags) {
  std::string made = Rewriter(pattern, flags).run();
  if (const auto compiled = predicate::Regexp::compile(made); !compiled) throw Refused(compiled.error().message);
  return made;
}

}  // namespace daemoneye::sigma
