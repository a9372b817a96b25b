// Necessary texts of LIKE, GLOB and REGEXP patterns.
#include <re2/filtered_re2.h>

#include <algorithm>
#include <span>

#include "sql/necessary.h"
#include "sql/regexp.h"

namespace daemoneye::sql {
namespace {

using event::Column;
using Clauses = std::vector<NecessaryClause>;
using Place = NecessaryText::Place;

constexpr std::size_t max_runs = 4;  // of one pattern
constexpr std::size_t max_regexp_clauses = 4;
constexpr int least_atom = 2;  // shorter ones are everywhere

bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Collects runs of plain ASCII between wildcards. Bytes beyond ASCII end a run: what SQLite reads there may come from
// other bytes as well.
class Runs {
 public:
  Runs(Column column, bool any_case) : column_(column), any_case_(any_case) {}
  void plain(char c) {
    if (!is_ascii(c)) return end();
    text_ += any_case_ ? lower(c) : c;
  }
  void end() {
    if (!text_.empty()) {
      text_.resize(std::min(text_.size(), max_necessary_text_bytes));
      clauses_.push_back({{column_, at_begin_ ? Place::begin : Place::anywhere, any_case_, false, std::move(text_)}});
      text_.clear();
    }
    at_begin_ = false;
  }
  // The longest are the rarest.
  Clauses take() {
    end();
    std::sort(clauses_.begin(), clauses_.end(), [](const auto& a, const auto& b) {
      const auto left = a.front().text.size(), right = b.front().text.size();
      return left != right ? left > right : a < b;
    });
    if (clauses_.size() > max_runs) clauses_.resize(max_runs);
    return std::move(clauses_);
  }

 private:
  Column column_;
  bool any_case_;
  bool at_begin_ = true;
  std::string text_;
  Clauses clauses_;
};

// What RE2 itself says must be found, as a question: can the expression match a text that holds these atoms?
class Atoms {
 public:
  explicit Atoms(std::string_view pattern) : filter_(least_atom) {
    RE2::Options options;  // as predicate::Regexp has them
    options.set_log_errors(false);
    options.set_dot_nl(true);
    int id = 0;
    if (filter_.Add(re2::StringPiece(pattern.data(), pattern.size()), options, &id) != RE2::NoError) return;
    filter_.Compile(&texts_);
    usable_ = !texts_.empty() && texts_.size() <= max_necessary_regexp_atoms;
  }
  [[nodiscard]] bool usable() const { return usable_; }
  [[nodiscard]] const std::vector<std::string>& texts() const { return texts_; }
  // `absent`: by atom.
  [[nodiscard]] bool may_match_without(const std::vector<bool>& absent) const {
    std::vector<int> present, found;
    for (std::size_t i = 0; i < absent.size(); ++i) {
      if (!absent[i]) present.push_back(static_cast<int>(i));
    }
    filter_.AllPotentials(present, &found);
    return !found.empty();
  }

 private:
  re2::FilteredRE2 filter_;
  std::vector<std::string> texts_;
  bool usable_ = false;
};

// The longest run of ASCII; of an atom that is not all ASCII, what any value with it has beside other bytes.
std::string ascii_part(std::string_view text) {
  std::string_view longest;
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = begin;
    while (end < text.size() && is_ascii(text[end])) ++end;
    if (end - begin > longest.size()) longest = text.substr(begin, end - begin);
    begin = end + 1;
  }
  return std::string(longest);
}

NecessaryText text_of(Column column, const std::string& atom) {
  NecessaryText one{column, Place::anywhere, true, false, atom};
  if (!std::ranges::all_of(atom, is_ascii)) {
    one.beyond_ascii = true;
    one.text = ascii_part(atom);
  }
  one.text.resize(std::min(one.text.size(), max_necessary_text_bytes));
  std::ranges::transform(one.text, one.text.begin(), lower);
  return one;
}

}  // namespace

Clauses necessary_of_like(Column column, std::string_view pattern, std::string_view escape) {
  // An escape that is a wildcard itself, or no single byte, has rules of its own.
  if (escape.size() > 1 || escape == "%" || escape == "_" || (escape.size() == 1 && !is_ascii(escape[0]))) return {};
  Runs runs(column, true);
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (!escape.empty() && pattern[i] == escape[0]) {
      if (++i == pattern.size()) break;  // escapes nothing: matches nothing
      runs.plain(pattern[i]);
    } else if (pattern[i] == '%' || pattern[i] == '_') {
      runs.end();
    } else {
      runs.plain(pattern[i]);
    }
  }
  return runs.take();
}

Clauses necessary_of_glob(Column column, std::string_view pattern) {
  Runs runs(column, false);
  for (const char c : pattern) {
    if (c == '[') break;  // where a class ends is a question of its own
    if (c == '*' || c == '?')
      runs.end();
    else
      runs.plain(c);
  }
  return runs.take();
}

Clauses necessary_of_regexp(Column column, std::string_view pattern) {
  if (pattern.size() > max_regexp_bytes) return {};
  const Atoms atoms(pattern);
  if (!atoms.usable()) return {};
  const std::size_t count = atoms.texts().size();
  // The shortest are dropped first.
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const auto left = atoms.texts()[a].size(), right = atoms.texts()[b].size();
    return left != right ? left < right : a < b;
  });
  Clauses clauses;
  std::vector<bool> left(count, true);  // not in a clause yet
  while (clauses.size() < max_regexp_clauses) {
    // A set of atoms is a clause when there is no match without any of them. What is found present can only make a
    // match possible, so a set stays a clause until the first atom that it cannot do without.
    std::vector<bool> absent = left;
    if (atoms.may_match_without(absent)) break;
    for (const auto i : order) {
      if (!absent[i]) continue;
      absent[i] = false;
      if (atoms.may_match_without(absent)) absent[i] = true;
    }
    NecessaryClause clause;
    for (std::size_t i = 0; i < count; ++i) {
      if (!absent[i]) continue;
      left[i] = false;
      clause.push_back(text_of(column, atoms.texts()[i]));
    }
    clauses.push_back(std::move(clause));
  }
  return clauses;
}

}  // namespace daemoneye::sql
