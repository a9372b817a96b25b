#include "procmond/sensors.h"

#include <future>

#include "base/time.h"
#include "collector/budget.h"
#include "observe/log.h"
#include "sensor/source_chain.h"

namespace daemoneye::procmond {
namespace {

constexpr std::size_t netlink_bytes = 16 * 1024 * 1024;

}  // namespace

Result<Sensors> open_sensors(const config::Settings& settings, const std::string& failures_path,
                             const event::BootId& boot) {
  const auto uptime = sensor::uptime_now();
  auto failures = sensor::recent_failures(failures_path, boot, uptime);
  if (!failures) {
    observe::log(observe::Level::warn, "procmond", "earlier failures of sources are not known",
                 {{"error", failures.error().message}});
    failures.emplace();
  }
  // The best first.
  const auto ring_bytes = collector::Budget::of(settings.app.memory_budget_mb).ring_bytes;
  const bool forks_at_once = settings.collection.store_forks;
  const std::vector<sensor::Candidate> candidates{
      {"ebpf", [=] { return sensor::open_bpf_source(ring_bytes, forks_at_once); }},
      {"netlink", [] { return sensor::open_netlink_source(netlink_bytes); }}};
  // The kernel looks through each program for a tenth of a second and more; side by side it is half of that. `off`
  // reads /proc alone: it is what is left where the kernel's programs must not run at all.
  std::future<Result<std::unique_ptr<sensor::Snapshot>>> opening;
  if (settings.collection.realtime != "off") {
    opening = std::async(std::launch::async, [] { return sensor::open_bpf_snapshot(); });
  }
  DE_TRY(auto choice,
         sensor::choose_source(settings.collection.realtime, candidates, *failures, uptime, base::wall_now()));
  Sensors sensors{.source = std::move(choice.source),
                  .snapshot = nullptr,
                  .spare_snapshot = nullptr,
                  .reason = std::move(choice.reason),
                  .limits = std::move(choice.limits)};
  if (opening.valid()) {
    auto snapshot = opening.get();
    if (snapshot) {
      sensors.snapshot = std::move(*snapshot);
      DE_TRY(sensors.spare_snapshot, sensor::open_procfs_snapshot());
    } else if (sensors.source) {
      sensors.limits += (sensors.limits.empty() ? "" : "; ") + std::string("scans read /proc (") +
                        snapshot.error().message +
                        "): executables of other users' processes that started before are not seen";
    }
  }
  if (!sensors.snapshot) {
    DE_TRY(sensors.snapshot, sensor::open_procfs_snapshot());
  }
  return sensors;
}

}  // namespace daemoneye::procmond
