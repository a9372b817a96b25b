// What of the log may change while it is written.
#pragma once

#include <string_view>

namespace daemoneye::observe {

// As logging.level and logging.format; any time. An unknown level changes nothing.
void set_log(std::string_view level, std::string_view format);

}  // namespace daemoneye::observe
