// The exit codes of the contract.
#pragma once

#include "base/result.h"

namespace daemoneye::cli {

enum class Exit : int {
  done = 0,
  failed = 1,
  usage = 2,        // a bad flag, SQL, rule or configuration
  degraded = 3,     // done, but the result is not whole
  unavailable = 4,  // agent, store or privilege
  integrity = 5,
};

// What an error means when it comes from doing something: a store that is not there is unavailable, not a usage error.
constexpr Exit exit_of(Errc code) {
  switch (code) {
    case Errc::invalid_input: return Exit::usage;
    case Errc::not_found:
    case Errc::permission_denied:
    case Errc::unavailable: return Exit::unavailable;
    case Errc::corrupt: return Exit::integrity;
    case Errc::timeout:
    case Errc::limit_exceeded:
    case Errc::cancelled:
    case Errc::io:
    case Errc::internal: return Exit::failed;
  }
  return Exit::failed;
}

}  // namespace daemoneye::cli
