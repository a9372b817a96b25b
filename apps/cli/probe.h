// Has procmond try what it could see processes with.
#pragma once

#include <string>

#include "base/result.h"
#include "base/time.h"

namespace daemoneye::apps {

// What it prints ({"sources":[…]}); it lies beside this program, or where packages put it.
Result<std::string> probe_sources(Deadline deadline);

}  // namespace daemoneye::apps
