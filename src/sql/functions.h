// The functions a statement may call: a closed list.
#pragma once

#include <cstdint>
#include <string_view>

#include "sql/ast.h"

namespace daemoneye::sql {

enum class FunctionKind : std::uint8_t {
  scalar,
  date,                 // a date or time function of SQLite: 'now' and time columns are given their meaning
  aggregate,            // also with OVER
  window,               // only with OVER
  scalar_or_aggregate,  // min, max: aggregate with one argument
};

struct FunctionInfo {
  std::string_view name;  // lower case
  FunctionKind kind;
  int min_arguments, max_arguments;  // -1: any number (SQLite's bound of 127 stands)
  Type result;                       // unknown: follows the arguments
  std::string_view usage;
};

const FunctionInfo* find_function(std::string_view lower_name);

// The runtime's own, which only derived SQL calls.
inline constexpr std::string_view to_ns_function = "_to_ns";           // text -> ns; NULL and numbers pass
inline constexpr std::string_view time_value_function = "_time_text";  // ns -> text for the date functions
inline constexpr std::string_view not_now_function = "_time_value";    // ('now', :_now_text) -> :_now_text; else itself
inline constexpr std::string_view ago_function = "_ago";               // (now ns, '5m') -> ns
inline constexpr std::string_view recursion_guard_function = "_recursion_step";  // (…) -> 1, or an error past the bound

}  // namespace daemoneye::sql
