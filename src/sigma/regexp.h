// The regular expressions of Sigma (PCRE) as those of REGEXP (RE2), where there is one that means the same.
#pragma once

#include <string>
#include <string_view>

namespace daemoneye::sigma {

struct RegexpFlags {
  bool any_case = false, multiline = false, dot_all = false;
};

// Throws Refused for what RE2 does not have, or has with another meaning.
std::string to_re2(std::string_view pattern, const RegexpFlags& flags);

}  // namespace daemoneye::sigma
