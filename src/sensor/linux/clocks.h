// The wall clock and the clock of process start times and kernel records (CLOCK_BOOTTIME), held against each other.
#pragma once

#include "base/time.h"

namespace daemoneye::sensor {

// CLOCK_REALTIME - CLOCK_BOOTTIME, ns: what turns a boot-time stamp of now into wall-clock time. Moves with clock
// steps and slewing. In a time namespace of its own, CLOCK_BOOTTIME is shifted here but not in kernel records.
std::int64_t wall_minus_boot_ns();

}  // namespace daemoneye::sensor
