// An address range as a regular expression over addresses in their usual text form.
#pragma once

#include <string>
#include <string_view>

namespace daemoneye::sigma {

// "192.168.0.0/16". IPv4 alone: an IPv6 address has many spellings. Throws Refused.
std::string network_regexp(std::string_view range);

}  // namespace daemoneye::sigma
