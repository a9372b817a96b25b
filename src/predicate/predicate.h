// Conditions of the form column-operator-value, joined by AND. Evaluated alike in the collector (exclusions, tasks),
// in the block scan and in SQL push-down: the meaning is SQLite's with BINARY collation and the column's own type.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "event/columns.h"

namespace daemoneye::predicate {

enum class Operator : std::uint8_t {
  equal,
  not_equal,
  less,
  less_equal,
  greater,
  greater_equal,
  in,
  like,
  glob,
  regexp,
  is_null,
  is_not_null,
};
std::string_view to_string(Operator op);  // the SQL spelling

struct Condition {
  event::Column column;
  Operator op;
  std::vector<event::Value> values;  // one; for `in` any number; for is_null and is_not_null none
  bool negated = false;              // NOT IN, NOT LIKE, NOT GLOB, NOT REGEXP
};

// What every text that a LIKE or GLOB matches must hold.
struct NecessaryLiteral {
  std::string text;       // ASCII
  bool any_case = false;  // letters match either case
  bool enough = false;    // a text that holds it, before any NUL, is matched
};

inline constexpr std::size_t max_conditions = 64;
inline constexpr std::size_t max_in_values = 1000;             // of the text form
inline constexpr std::size_t max_compiled_in_values = 100000;  // a set that was found by another query
inline constexpr std::size_t max_predicate_bytes = 64 * 1024;  // of the text form
inline constexpr std::size_t max_pattern_bytes = 50000;        // LIKE and GLOB, as SQLite has it

// A compiled conjunction. Immutable and thread-safe once made.
class Predicate {
 public:
  // invalid_input names the condition: a bad REGEXP, a wrong number of values, a real that is not finite. A value of
  // another type than the column's is compared as SQLite does, after the column's affinity (pid = '5', pid < 'x').
  static Result<Predicate> compile(std::vector<Condition> conditions);
  // "name = 'sleep' AND uid >= 1000 AND command_line LIKE '%x%'"; AND only, the empty text is true of everything. A
  // text compared with a time column is an ISO 8601 time. Errors give the byte offset.
  static Result<Predicate> parse(std::string_view text);

  // True when every condition is true; NULL is not true, as in WHERE.
  [[nodiscard]] bool matches(const event::ProcessEvent& event, event::EventId event_id = 0) const;
  // The conditions on one column alone, for a scan that evaluates once a distinct value.
  [[nodiscard]] bool matches_value(std::size_t condition_index, const event::Value& value) const;
  // Of a condition that is a LIKE or GLOB with a literal in its pattern; negation is not looked at.
  [[nodiscard]] const std::optional<NecessaryLiteral>& literal(std::size_t condition_index) const;
  [[nodiscard]] const std::vector<Condition>& conditions() const;
  [[nodiscard]] std::string text() const;  // parse(text()) gives the same predicate

  Predicate(Predicate&&) noexcept;
  Predicate& operator=(Predicate&&) noexcept;
  ~Predicate();

 private:
  struct State;
  explicit Predicate(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// SQLite's own pattern meaning, shared with whoever must agree with it: pattern and text end at a NUL, bytes that are
// not UTF-8 are read as SQLite reads them. O(pattern x text).
bool like_matches(std::string_view pattern, std::string_view text, char escape = '\0');  // ASCII case-insensitive
bool glob_matches(std::string_view pattern, std::string_view text);                      // case-sensitive
// The same, asked each million steps whether to stop: then there is no answer. 0: no escape.
enum class PatternKind : std::uint8_t { like, glob };
using ShouldStop = std::function<bool()>;
std::optional<bool> pattern_matches(PatternKind kind, std::string_view pattern, std::string_view text, char32_t escape,
                                    const ShouldStop& stop);
// The character that is the whole text, as an escape must be.
std::optional<char32_t> only_character(std::string_view text);
// The longest there is in the pattern; nothing when it has none that is ASCII.
std::optional<NecessaryLiteral> like_literal(std::string_view pattern);
std::optional<NecessaryLiteral> glob_literal(std::string_view pattern);

// REGEXP as predicates and SQL have it: RE2 syntax, linear time, found anywhere in the text. `.` also matches a line
// break, and bytes that are not UTF-8 count as U+FFFD, so that neither can hide what follows. Thread-safe.
class Regexp {
 public:
  // invalid_input holds RE2's reason.
  static Result<Regexp> compile(std::string_view pattern);
  [[nodiscard]] bool matches(std::string_view text) const;

  Regexp(Regexp&&) noexcept;
  Regexp& operator=(Regexp&&) noexcept;
  ~Regexp();

 private:
  struct State;
  explicit Regexp(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace daemoneye::predicate
