#include "sigma/condition.h"

#include <algorithm>

#include "base/text.h"
#include "sigma/refused.h"

namespace daemoneye::sigma {
namespace {

using Kind = Condition::Kind;

std::string shown(std::string_view word) { return "'" + base::printable(word.substr(0, 64)) + "'"; }

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  const auto flush = [&] {
    if (!word.empty()) words.push_back(word);
    word.clear();
  };
  for (const char c : text) {
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      flush();
    } else if (c == '(' || c == ')') {
      flush();
      words.emplace_back(1, c);
    } else if (c == '|') {
      throw Refused("condition: aggregations after | are not supported; they are correlation rules now");
    } else {
      word += c;
    }
  }
  flush();
  return words;
}

bool is_word(const std::string& word, std::string_view wanted) {
  return word.size() == wanted.size() &&
         std::ranges::equal(word, wanted, [](char a, char b) { return (a | 0x20) == b; });
}

// `*` stands for any text; nothing else is special.
bool glob(std::string_view pattern, std::string_view name) {
  std::size_t in_pattern = 0, in_name = 0, star = std::string_view::npos, after_star = 0;
  while (in_name < name.size()) {
    if (in_pattern < pattern.size() && pattern[in_pattern] == '*') {
      star = in_pattern++;
      after_star = in_name;
    } else if (in_pattern < pattern.size() && pattern[in_pattern] == name[in_name]) {
      ++in_pattern;
      ++in_name;
    } else if (star != std::string_view::npos) {
      in_pattern = star + 1;
      in_name = ++after_star;
    } else {
      return false;
    }
  }
  while (in_pattern < pattern.size() && pattern[in_pattern] == '*') ++in_pattern;
  return in_pattern == pattern.size();
}

class Parser {
 public:
  Parser(std::vector<std::string> words, const std::vector<std::string>& searches)
      : words_(std::move(words)), searches_(searches) {}

  Condition parse() {
    auto whole = chain("or", 0);
    if (at_ < words_.size()) throw Refused("condition: found " + shown(words_[at_]) + " where it should end");
    return whole;
  }

 private:
  [[nodiscard]] bool here(std::string_view keyword) const {
    // A search may be called like a keyword only where a keyword cannot stand.
    return at_ < words_.size() && is_word(words_[at_], keyword);
  }

  // or binds less than and, and less than not.
  Condition chain(std::string_view keyword, unsigned depth) {
    if (depth > max_condition_depth) {
      throw Refused("condition: nested deeper than " + std::to_string(max_condition_depth));
    }
    const bool is_or = keyword == "or";
    Condition whole{is_or ? Kind::any : Kind::all, {}, {}};
    whole.parts.push_back(is_or ? chain("and", depth + 1) : operand(depth + 1));
    while (here(keyword)) {
      ++at_;
      whole.parts.push_back(is_or ? chain("and", depth + 1) : operand(depth + 1));
    }
    return whole.parts.size() == 1 ? Condition(std::move(whole.parts.front())) : whole;
  }

  Condition operand(unsigned depth) {
    if (depth > max_condition_depth) {
      throw Refused("condition: nested deeper than " + std::to_string(max_condition_depth));
    }
    if (at_ >= words_.size()) throw Refused("condition: ends where a search is wanted");
    if (here("not")) {
      ++at_;
      return {Kind::negation, {}, {operand(depth + 1)}};
    }
    const std::string word = words_[at_++];
    if (word == "(") {
      auto inner = chain("or", depth + 1);
      if (at_ >= words_.size() || words_[at_] != ")") throw Refused("condition: a parenthesis is not closed");
      ++at_;
      return inner;
    }
    if (here("of")) return quantified(word);
    if (std::ranges::find(searches_, word) == searches_.end()) {
      throw Refused("condition: there is no search " + shown(word));
    }
    return {Kind::search, word, {}};
  }

  Condition quantified(const std::string& how_many) {
    ++at_;
    const bool all = is_word(how_many, "all");
    if (!all && how_many != "1" && !is_word(how_many, "any")) {
      throw Refused("condition: only 1, any and all can stand before 'of'; found " + shown(how_many));
    }
    if (at_ >= words_.size()) throw Refused("condition: ends where a search is wanted");
    const std::string which = words_[at_++];
    Condition whole{all ? Kind::all : Kind::any, {}, {}};
    for (const auto& search : searches_) {
      // A name that begins with an underscore is meant for use by name only.
      if (is_word(which, "them") ? !search.starts_with('_') : glob(which, search)) {
        whole.parts.push_back({Kind::search, search, {}});
      }
    }
    if (whole.parts.empty()) throw Refused("condition: no search is like " + shown(which));
    return whole;
  }

  const std::vector<std::string> words_;
  const std::vector<std::string>& searches_;
  std::size_t at_ = 0;
};

}  // namespace

Condition parse_condition(std::string_view text, const std::vector<std::string>& searches) {
  if (text.size() > max_condition_bytes) throw Refused("condition: longer than 8 KiB");
  return Parser(split(text), searches).parse();
}

}  // namespace daemoneye::sigma
