#include "base/freed_memory.h"

#include <malloc.h>

namespace daemoneye::base {

void keep_freed_memory() {
  constexpr int kept = 8 * 1024 * 1024, largest = 4 * 1024 * 1024;
  ::mallopt(M_TRIM_THRESHOLD, kept);
  ::mallopt(M_MMAP_THRESHOLD, largest);
}

}  // namespace daemoneye::base
