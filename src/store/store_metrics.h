// Metrics of the writer that health shows as well.
#pragma once

#include "observe/metrics.h"

namespace daemoneye::store {

inline observe::Gauge queue_depth_gauge() {
  return observe::gauge("daemoneye_store_queue_depth", "Operations that wait for the store's writer.");
}

}  // namespace daemoneye::store
