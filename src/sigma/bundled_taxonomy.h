// The text of taxonomy.yaml as it was when this was built.
#pragma once

#include <string_view>

namespace daemoneye::sigma {

std::string_view bundled_taxonomy();

}  // namespace daemoneye::sigma
