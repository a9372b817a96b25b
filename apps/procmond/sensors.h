// What procmond sees by: the source chain and the snapshot, opened while privileged.
#pragma once

#include <memory>
#include <string>

#include "config/config.h"
#include "sensor/source.h"

namespace daemoneye::procmond {

struct Sensors {
  std::unique_ptr<sensor::Source> source;                      // null: only scans see processes
  std::unique_ptr<sensor::Snapshot> snapshot, spare_snapshot;  // the spare one may be null
  std::string reason;                                          // why this source
  std::string limits;  // what is not seen for want of a better one; empty: nothing
  // Whether something learns of executables by /proc/PID/exe.
  [[nodiscard]] bool read_proc_links() const {
    return snapshot->name() == "procfs" || (source && source->kind() == event::EventSource::netlink);
  }
};
// `failures_path`: the file of sources that failed while they ran (sensor::remember_failure).
Result<Sensors> open_sensors(const config::Settings& settings, const std::string& failures_path,
                             const event::BootId& boot);

}  // namespace daemoneye::procmond
