// Groups by name. Inside the room only.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"

namespace daemoneye::ipc {

// not_found when there is no such group.
Result<gid_t> group_id(const std::string& name);

}  // namespace daemoneye::ipc
