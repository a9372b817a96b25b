// The condition of a Sigma rule: `selection and not 1 of filter_*`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace daemoneye::sigma {

struct Condition {
  enum class Kind : std::uint8_t { search, all, any, negation };
  Kind kind = Kind::search;
  std::string search;  // a search's name
  std::vector<Condition> parts;
};

inline constexpr unsigned max_condition_depth = 32;
inline constexpr std::size_t max_condition_bytes = 8 * 1024;

// `searches`: the names there are. Throws Refused.
Condition parse_condition(std::string_view text, const std::vector<std::string>& searches);

}  // namespace daemoneye::sigma
