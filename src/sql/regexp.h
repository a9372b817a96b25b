// REGEXP in SQL: the predicate room's expressions, kept compiled.
#pragma once

#include <list>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/result.h"
#include "predicate/predicate.h"

namespace daemoneye::sql {

inline constexpr std::size_t max_regexp_bytes = 16 * 1024;

// invalid_input with the reason.
Result<void> check_regexp(std::string_view pattern);
// 'pattern', shortened, for a message.
std::string quote_for_message(std::string_view text);

// Compiled patterns, the least recently used one dropped first. One thread.
class RegexpCache {
 public:
  Result<bool> matches(std::string_view pattern, std::string_view text);

 private:
  static constexpr std::size_t capacity = 512;
  struct Entry {
    std::string pattern;
    predicate::Regexp compiled;
  };
  std::list<Entry> entries_;  // most recently used first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> by_pattern_;
};

}  // namespace daemoneye::sql
