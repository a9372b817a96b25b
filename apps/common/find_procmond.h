// Where procmond is: beside this program, or where packages put it.
#pragma once

#include <string>

#include "base/result.h"

namespace daemoneye::apps {

// not_found names the places that were looked at.
Result<std::string> find_procmond();

}  // namespace daemoneye::apps
