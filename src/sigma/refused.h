// Why a Sigma rule is not taken over. Thrown and caught within this room.
#pragma once

#include <string>
#include <utility>

namespace daemoneye::sigma {

struct Refused {
  std::string reason;
  unsigned line = 0;  // of the file; 0: not known
  explicit Refused(std::string why, unsigned at = 0) : reason(std::move(why)), line(at) {}
};

}  // namespace daemoneye::sigma
