// The closed lists of system calls, as data. Inside this room only.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "sandbox/sandbox.h"

namespace daemoneye::sandbox {

// A condition on one argument: (argument & mask) == value.
struct ArgumentCheck {
  unsigned index = 0;
  std::uint64_t mask = 0, value = 0;
};

// A call, allowed when all checks hold. The same call may be listed again with others.
struct AllowedCall {
  int number = 0;
  std::vector<ArgumentCheck> checks = {};
};

std::vector<AllowedCall> allowed_calls(SystemCalls list);

}  // namespace daemoneye::sandbox
