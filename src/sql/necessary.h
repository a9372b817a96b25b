// What a row must hold for a statement to give anything for it: read off the AST, so that rows which cannot matter need
// not be shown to the statement. Necessary, never sufficient: the statement itself decides. docs/adr/0016 says why.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "event/columns.h"

namespace daemoneye::sql {

struct Source;
struct Select;

// A text that the value of a text column is, or has in it.
struct NecessaryText {
  enum class Place : std::uint8_t { whole, begin, anywhere };
  event::Column column{};
  Place place = Place::whole;
  bool any_case = false;  // ASCII letters match either case; then `text` has none in upper case
  // Counts only in values with a byte beyond ASCII: there a regular expression that ignores case has more letters than
  // A to Z. `text` may be empty then: every such value may match.
  bool beyond_ascii = false;
  std::string text;
  auto operator<=>(const NecessaryText&) const = default;
};

// Of each clause at least one text is in the row. In values with bytes beyond ASCII the characters that fold to ASCII
// letters count as those: LONG S as s, KELVIN SIGN as k, I WITH DOT ABOVE as i.
using NecessaryClause = std::vector<NecessaryText>;

inline constexpr std::size_t max_necessary_clauses = 6;
inline constexpr std::size_t max_necessary_texts = 1000;        // of a clause
inline constexpr std::size_t max_necessary_text_bytes = 64;     // of a text that is not the whole value: its beginning
inline constexpr std::size_t max_necessary_regexp_atoms = 256;  // beyond: the expression tells nothing

// Of the rows of `driving`, a source of the outermost SELECT of a bound statement. The rarest clause first.
std::vector<NecessaryClause> find_necessary(const Select& select, const Source& driving);

// A guess at which part of all rows meets it, to choose between clauses.
double how_common(const NecessaryClause& clause);

// Of a pattern that is taken as LIKE, GLOB and REGEXP do; in any order. necessary_patterns.cc.
std::vector<NecessaryClause> necessary_of_like(event::Column column, std::string_view pattern, std::string_view escape);
std::vector<NecessaryClause> necessary_of_glob(event::Column column, std::string_view pattern);
std::vector<NecessaryClause> necessary_of_regexp(event::Column column, std::string_view pattern);

}  // namespace daemoneye::sql
