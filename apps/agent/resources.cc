#include "agent/resources.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>

#include "observe/metrics.h"
#include "observe/process_use.h"

namespace daemoneye::apps {
namespace {

constexpr std::uint64_t mib = 1024 * 1024;

std::string megabytes(std::uint64_t bytes) { return std::to_string((bytes + mib / 2) / mib) + " MiB"; }

std::string percent(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

double own_cpu_seconds() {
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

Resources::Resources(std::uint32_t memory_budget_mb, bool supervised)
    : budget_bytes_(memory_budget_mb * mib), supervised_(supervised) {
  sample();
}

void Resources::sample() { cpu_.sample(own_cpu_seconds()); }

Resources::Sum Resources::resident(const std::optional<CollectorPeer::Use>& collector) const {
  Sum sum;
  if (const auto use = observe::read_process_use(::getpid())) sum.agent = use->resident_bytes();
  // The same program as ours: its pages are counted.
  if (supervised_) {
    if (const auto use = observe::read_process_use(::getppid())) sum.supervisor = use->own_bytes;
  }
  if (collector) sum.collector = collector->own_bytes + collector->file_bytes;
  return sum;
}

observe::ComponentHealth Resources::health(const std::optional<CollectorPeer::Use>& collector) const {
  observe::ComponentHealth health{
      .component = "resources", .state = observe::HealthState::ok, .reason = {}, .details = {}};
  const auto degrade = [&](const std::string& reason) {
    health.state = observe::HealthState::degraded;
    health.reason += (health.reason.empty() ? "" : "; ") + reason;
  };
  const auto sum = resident(collector);
  health.details["memory"] = megabytes(sum.all()) + " of " + megabytes(budget_bytes_);
  health.details["memory_bytes"] = std::to_string(sum.all());
  health.details["memory_budget_bytes"] = std::to_string(budget_bytes_);
  health.details["agent_memory_bytes"] = std::to_string(sum.agent);
  if (supervised_) health.details["supervisor_memory_bytes"] = std::to_string(sum.supervisor);
  if (collector) health.details["collector_memory_bytes"] = std::to_string(sum.collector);
  if (sum.all() > budget_bytes_) {
    degrade("both daemons have " + megabytes(sum.all()) + " resident, and app.memory_budget_mb is " +
            std::to_string(budget_bytes_ / mib));
  }
  double cpu = 0;
  if (const auto own = cpu_.per_second()) {
    cpu += *own * 100;
    health.details["agent_cpu_percent"] = percent(*own * 100);
  }
  if (collector && collector->cpu_percent) {
    cpu += *collector->cpu_percent;
    health.details["collector_cpu_percent"] = percent(*collector->cpu_percent);
  }
  health.details["cpu"] = percent(cpu) + " % of a core over the last minute, of " + percent(cpu_budget_percent) + " %";
  if (cpu > cpu_budget_percent) {
    degrade("both daemons used " + percent(cpu) + " % of a core over the last minute, more than the " +
            percent(cpu_budget_percent) + " % they should need");
  }
  if (!collector) health.details["collector"] = "not known: it is away, or has not told";
  return health;
}

void Resources::publish_metrics(const std::optional<CollectorPeer::Use>& collector) const {
  const auto sum = resident(collector);
  const auto set = [](const char* program, std::uint64_t bytes) {
    observe::gauge("daemoneye_resident_memory_bytes", "Resident memory, by program", {{"program", program}})
        .set(static_cast<double>(bytes));
  };
  set("agent", sum.agent);
  if (supervised_) set("supervisor", sum.supervisor);
  set("procmond", sum.collector);
  observe::gauge("daemoneye_memory_budget_bytes", "app.memory_budget_mb: of all programs together")
      .set(static_cast<double>(budget_bytes_));
  const auto cpu = [](const char* program, double percent_of_core) {
    observe::gauge("daemoneye_cpu_cores", "Processor time used over the last minute, in cores, by program",
                   {{"program", program}})
        .set(percent_of_core / 100);
  };
  cpu("agent", cpu_.per_second().value_or(0) * 100);
  cpu("procmond", collector && collector->cpu_percent ? *collector->cpu_percent : 0);
}

}  // namespace daemoneye::apps
