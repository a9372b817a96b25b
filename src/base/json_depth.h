// How deeply a JSON text nests, found without following it on the stack as parsers and printers do.
#pragma once

#include <string_view>

namespace daemoneye::base {

// Brackets within texts do not count. Of what is no JSON the answer is for its brackets as they stand.
bool json_nests_deeper_than(std::string_view json, int levels);

}  // namespace daemoneye::base
