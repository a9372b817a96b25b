#include "base/bounded_queue.h"

namespace daemoneye::base {

std::string_view to_string(OnFull policy) {
  switch (policy) {
    case OnFull::wait: return "wait";
    case OnFull::drop_oldest: return "drop_oldest";
    case OnFull::drop_newest: return "drop_newest";
  }
  return "unknown";
}

}  // namespace daemoneye::base
