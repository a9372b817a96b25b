// LIKE and GLOB. SQLite's matcher is recursive; here a mismatch goes back to the last wildcard only, which decides the
// same and never costs more than pattern x text.
#include <optional>
#include <string>

#include "predicate/predicate.h"

namespace daemoneye::predicate {
namespace {

// Characters as sqlite3Utf8Read gives them, broken sequences included. 0 is the end: SQLite's strings end at a NUL.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}
  [[nodiscard]] char32_t peek() const {
    Cursor copy = *this;
    return copy.next();
  }
  char32_t next() {
    if (at_ >= text_.size()) return 0;
    const auto lead = static_cast<unsigned char>(text_[at_]);
    if (lead == 0) return 0;
    ++at_;
    if (lead < 0xc0) return lead;
    char32_t value = lead & (lead < 0xe0   ? 0x1fU
                             : lead < 0xf0 ? 0x0fU
                             : lead < 0xf8 ? 0x07U
                             : lead < 0xfc ? 0x03U
                                           : 0x01U);
    if (lead >= 0xfe) value = 0;
    while (at_ < text_.size() && (static_cast<unsigned char>(text_[at_]) & 0xc0U) == 0x80) {
      value = (value << 6) + (static_cast<unsigned char>(text_[at_++]) & 0x3fU);
    }
    if (value < 0x80 || (value & 0xfffff800U) == 0xd800 || (value & 0xfffffffeU) == 0xfffe) value = 0xfffd;
    return value;
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
};

char32_t lower(char32_t c) { return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c; }

enum class Step : unsigned char { wildcard, matched, mismatched, impossible };

// Both languages differ only in what one pattern element is: `step` takes it and, unless it is the wildcard, one
// character of the text.
template <class StepFunction>
std::optional<bool> matches(std::string_view pattern_text, std::string_view subject, StepFunction step,
                            const ShouldStop* stop) {
  constexpr std::size_t steps_between_looks = 1'000'000;
  std::size_t steps = 0;
  Cursor pattern(pattern_text), text(subject);
  Cursor retry_pattern = pattern, retry_text = text;
  bool have_wildcard = false;
  for (;;) {
    if (++steps % steps_between_looks == 0 && stop != nullptr && (*stop)()) return std::nullopt;
    Step outcome = Step::mismatched;
    if (pattern.peek() != 0)
      outcome = step(pattern, text);
    else if (text.peek() == 0)
      return true;
    switch (outcome) {
      case Step::wildcard:
        have_wildcard = true;
        retry_pattern = pattern;
        retry_text = text;
        break;
      case Step::matched: break;
      case Step::impossible: return false;
      case Step::mismatched:
        if (!have_wildcard || retry_text.next() == 0) return false;
        pattern = retry_pattern;
        text = retry_text;
        break;
    }
  }
}

// The rest of a class after '['; whether `c` is in it. False as well when the class has no end.
bool in_class(Cursor& pattern, char32_t c) {
  bool seen = false, inverted = false;
  char32_t prior = 0;
  char32_t element = pattern.next();
  if (element == '^') {
    inverted = true;
    element = pattern.next();
  }
  if (element == ']') {
    seen = c == ']';
    element = pattern.next();
  }
  while (element != 0 && element != ']') {
    const char32_t following = pattern.peek();
    if (element == '-' && following != ']' && following != 0 && prior > 0) {
      const char32_t last = pattern.next();
      if (c >= prior && c <= last) seen = true;
      prior = 0;
      element = pattern.next();
    } else {
      if (c == element) seen = true;
      prior = element;
      element = pattern.next();
    }
  }
  return element == ']' && seen != inverted;
}

std::optional<bool> like(std::string_view pattern_text, std::string_view subject, char32_t escape,
                         const ShouldStop* stop) {
  const auto step = [escape](Cursor& pattern, Cursor& text) {
    char32_t wanted = pattern.next();
    bool literal = false;
    if (escape != 0 && wanted == escape) {
      wanted = pattern.next();
      if (wanted == 0) return Step::impossible;  // an escape that escapes nothing
      literal = true;
    }
    if (!literal && wanted == '%') return Step::wildcard;
    const char32_t found = text.next();
    if (found == 0) return Step::impossible;  // a shorter rest of the text cannot match either
    if (!literal && wanted == '_') return Step::matched;
    return lower(wanted) == lower(found) ? Step::matched : Step::mismatched;
  };
  return matches(pattern_text, subject, step, stop);
}

std::optional<bool> glob(std::string_view pattern_text, std::string_view subject, const ShouldStop* stop) {
  const auto step = [](Cursor& pattern, Cursor& text) {
    const char32_t wanted = pattern.next();
    if (wanted == '*') return Step::wildcard;
    const char32_t found = text.next();
    if (found == 0) return Step::impossible;
    if (wanted == '?') return Step::matched;
    if (wanted == '[') return in_class(pattern, found) ? Step::matched : Step::mismatched;
    return wanted == found ? Step::matched : Step::mismatched;
  };
  return matches(pattern_text, subject, step, stop);
}

// The longest run between `wild` characters. Bytes that are not ASCII end a run too: what SQLite reads there may come
// from other bytes as well. Whether the pattern is that run between two `any` is told as `enough`.
std::optional<NecessaryLiteral> longest_run(std::string_view pattern, std::string_view wild, char any, char ends) {
  pattern = pattern.substr(0, pattern.find('\0'));
  std::string_view longest;
  for (std::size_t at = 0; at < pattern.size();) {
    if (pattern[at] == ends) break;  // what follows is no plain text
    std::size_t end = at;
    while (end < pattern.size() && pattern[end] != ends && wild.find(pattern[end]) == std::string_view::npos &&
           static_cast<unsigned char>(pattern[end]) < 0x80) {
      ++end;
    }
    if (end - at > longest.size()) longest = pattern.substr(at, end - at);
    at = end == at ? at + 1 : end;
  }
  if (longest.empty()) return std::nullopt;
  const auto begin = pattern.find_first_not_of(any);
  const auto end = pattern.find_last_not_of(any) + 1;
  const bool enough = begin > 0 && end < pattern.size() && pattern.substr(begin, end - begin) == longest;
  return NecessaryLiteral{std::string(longest), false, enough};
}

}  // namespace

std::optional<char32_t> only_character(std::string_view text) {
  Cursor cursor(text);
  const auto character = cursor.next();
  return character != 0 && cursor.peek() == 0 ? std::optional(character) : std::nullopt;
}

bool like_matches(std::string_view pattern, std::string_view text, char escape) {
  return *like(pattern, text, static_cast<unsigned char>(escape), nullptr);
}

bool glob_matches(std::string_view pattern, std::string_view text) { return *glob(pattern, text, nullptr); }

std::optional<bool> pattern_matches(PatternKind kind, std::string_view pattern, std::string_view text, char32_t escape,
                                    const ShouldStop& stop) {
  return kind == PatternKind::like ? like(pattern, text, escape, &stop) : glob(pattern, text, &stop);
}

std::optional<NecessaryLiteral> like_literal(std::string_view pattern) {
  auto literal = longest_run(pattern, "%_", '%', '\0');
  if (literal) literal->any_case = true;
  return literal;
}

std::optional<NecessaryLiteral> glob_literal(std::string_view pattern) { return longest_run(pattern, "*?", '*', '['); }

}  // namespace daemoneye::predicate
