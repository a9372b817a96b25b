// What the collector says of itself: health for people, metrics for machines.
#include <unistd.h>

#include <algorithm>

#include "base/text.h"
#include "collector/collector.h"
#include "observe/metrics.h"

namespace daemoneye::collector {
namespace {

using observe::HealthState;

// A loss stays in the component's state this long, so that a person who looks sees it; in the store it stays.
constexpr std::chrono::minutes loss_shown{10};
constexpr std::chrono::seconds use_interval{10};
constexpr std::size_t max_shown_predicates = 16, max_shown_predicate_bytes = 120;

std::string shown(const predicate::Predicate& predicate) {
  const auto text = predicate.text();
  if (text.size() <= max_shown_predicate_bytes) return text;
  return base::to_valid_utf8(text.substr(0, max_shown_predicate_bytes)) + "...";
}

std::string milliseconds(std::chrono::nanoseconds span) {
  return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(span).count());
}

}  // namespace

observe::ComponentHealth Collector::collector_health() const {
  observe::ComponentHealth collector{.component = "collector", .state = HealthState::ok, .reason = {}, .details = {}};
  auto& details = collector.details;
  const auto number = [&](const char* name, std::uint64_t value) { details[name] = std::to_string(value); };
  const auto& told = tracker_.counters();
  details["realtime"] = parts_.source ? std::string(parts_.source->name()) : "off";
  if (!options_.source_reason.empty()) details["realtime_reason"] = options_.source_reason;
  if (!options_.source_limits.empty()) details["realtime_limits"] = options_.source_limits;
  details["snapshot"] = snapshot_in_use().name();
  number("processes", tracker_.size());
  number("processes_at_most", tracker_.options().max_processes);
  number("processes_untracked", told.untracked);
  number("table_bytes", tracker_.bytes());
  number("table_bytes_at_most", tracker_.options().max_bytes);
  number("arguments_kept_short", told.shortened);
  number("hashes_not_awaited", told.not_kept_for_hash);
  details["last_scan"] = base::to_iso(last_scan_.time);
  details["last_scan_ms"] = milliseconds(last_scan_.duration);
  details["last_scan_cpu_ms"] = milliseconds(last_scan_.cpu);
  details["last_scan_depth"] = last_scan_.depth == sensor::Depth::full ? "full" : "counters";
  number("scans_full", scans_.full);
  number("scans_of_counters", scans_.counters);
  number("scans_failed", scans_.failed);
  number("scans_stretched", scans_.stretched);
  number("scan_forbidden", last_scan_.result.forbidden);
  number("events_emitted", told.emitted);
  number("events_excluded", told.excluded);
  number("events_late", told.late);
  number("scans_shed", uplink_.counters().scans_shed);
  number("events_shed", uplink_.counters().shed);
  number("batches_held", uplink_.held_batches());
  number("bytes_held", uplink_.held_bytes());
  number("tasks_running", tasks_.running());
  number("tasks_refused", tasks_.counters().refused);
  number("bytes_held_at_most", options_.uplink.max_held_bytes);
  number("memory_own_bytes", use_.own_bytes);
  number("memory_file_bytes", use_.file_bytes);
  number("cpu_ms", static_cast<std::uint64_t>(use_.cpu_seconds * 1000));
  details["epoch"] = event::to_string(uplink_.epoch());
  const auto& exclude = tracker_.options().exclude;
  for (std::size_t i = 0; i < std::min(exclude.size(), max_shown_predicates); ++i) {
    details["excluded by " + shown(exclude[i])] = std::to_string(told.excluded_by[i]);
  }
  if (parts_.source) {
    const auto counters = parts_.source->counters();
    number("events_seen", counters.events);
    number("events_lost", counters.lost);
    number("arguments_truncated", counters.truncated);
    number("images_incomplete", counters.incomplete);
  }
  const auto degrade = [&](const std::string& reason) {
    collector.state = HealthState::degraded;
    collector.reason += (collector.reason.empty() ? "" : "; ") + reason;
  };
  if (!options_.source_limits.empty()) degrade(options_.source_limits);
  if (!snapshot_problem_.empty()) {
    details["snapshot_problem"] = snapshot_problem_;
    degrade("scans by " + std::string(parts_.snapshot->name()) + " fail (" + snapshot_problem_ +
            "): " + std::string(parts_.spare_snapshot->name()) + " is read instead");
  }
  if (const auto limits = snapshot_in_use().limits(); !limits.empty()) degrade(limits);
  if (!last_scan_.error.empty()) degrade("the last scan failed: " + last_scan_.error);
  if (const auto untracked = tracker_.untracked_size(); untracked > 0) {
    degrade(std::to_string(untracked) + " living processes do not fit the table (app.memory_budget_mb): their " +
            "children are told without a parent's name");
  }
  if (tracker_.is_short_of_memory()) {
    degrade("the process table is nearly full (app.memory_budget_mb): long arguments are told once, and kept short");
  }
  if (recent_loss_ && base::wall_now().ns - recent_loss_->to.ns < std::chrono::nanoseconds(loss_shown).count()) {
    degrade("gap (" + recent_loss_->reason + ") from " + base::to_iso(recent_loss_->from) + " to " +
            base::to_iso(recent_loss_->to));
  }
  return collector;
}

observe::ComponentHealth Collector::ledger_health() const {
  observe::ComponentHealth ledger{.component = "ledger", .state = HealthState::ok, .reason = {}, .details = {}};
  ledger.details["entries"] = std::to_string(parts_.ledger->size());
  const auto status = parts_.ledger->status();
  ledger.details["segments"] = std::to_string(status.segments);
  ledger.details["signed_until"] = std::to_string(status.checkpointed);
  if (status.checkpoint_time) ledger.details["last_checkpoint"] = base::to_iso(*status.checkpoint_time);
  if (!status.key_id.empty()) ledger.details["key"] = status.key_id;
  const auto degrade = [&](const std::string& reason) {
    ledger.state = std::max(ledger.state, HealthState::degraded);
    ledger.reason += (ledger.reason.empty() ? "" : "; ") + reason;
  };
  if (!status.checkpoint_problem.empty()) degrade("no checkpoint can be signed: " + status.checkpoint_problem);
  if (!status.copy_problem.empty()) degrade("checkpoints are not copied: " + status.copy_problem);
  if (const auto& problem = uplink_.ledger_problem().empty() ? ledger_error_ : uplink_.ledger_problem();
      !problem.empty()) {
    ledger.state = HealthState::failed;
    ledger.reason += (ledger.reason.empty() ? "" : "; ") + ("cannot be written, so nothing is sent: " + problem);
  }
  if (!owed_entries_.empty()) ledger.details["entries_owed"] = std::to_string(owed_entries_.size());
  if (entries_lost_ > 0) {
    ledger.details["entries_lost"] = std::to_string(entries_lost_);
    ledger.state = std::max(ledger.state, HealthState::degraded);
    ledger.reason += (ledger.reason.empty() ? "" : "; ") + std::to_string(entries_lost_) +
                     " entries could not be written and are missing";
  }
  return ledger;
}

// Without the helper where its processes cannot be seen.
void Collector::measure_use() {
  const auto now = base::SteadyClock::now();
  if (now < next_use_) return;
  next_use_ = now + use_interval;
  const auto self = observe::read_process_use(::getpid());
  if (!self) return;  // health goes on showing what was
  use_ = *self;
  for (const auto pid : observe::descendants_of(::getpid())) {
    const auto helper = observe::read_process_use(pid);
    if (!helper) continue;  // it ended
    use_.own_bytes += helper->own_bytes;
    use_.file_bytes = std::max(use_.file_bytes, helper->file_bytes);  // mostly the same pages
    use_.cpu_seconds += helper->cpu_seconds;
  }
}

std::vector<observe::ComponentHealth> Collector::health() const {
  auto report = options_.own_health ? options_.own_health() : std::vector<observe::ComponentHealth>{};
  report.push_back(collector_health());
  if (parts_.hashes) report.push_back(parts_.hashes->health());
  report.push_back(ledger_health());
  return report;
}

// The rooms count for themselves, cheaply; here the metrics catch up.
void Collector::count(const std::string& name, const char* help, std::uint64_t total, const observe::Labels& labels) {
  auto key = name;
  for (const auto& [label, value] : labels) key += '\0' + label + '\0' + value;
  auto& published = published_[key];
  observe::counter(name, help, labels).add(static_cast<double>(total - published));
  published = total;
}

void Collector::publish_metrics() {
  const auto& told = tracker_.counters();
  observe::processes_collected().add(static_cast<double>(told.emitted - published_["emitted"]));
  published_["emitted"] = told.emitted;
  observe::gauge("daemoneye_tracked_processes", "Processes in the collector's table")
      .set(static_cast<double>(tracker_.size()));
  observe::gauge("daemoneye_tracked_processes_limit", "Processes that fit the collector's table")
      .set(static_cast<double>(tracker_.options().max_processes));
  count("daemoneye_untracked_processes_total", "Processes that found the table full", told.untracked);
  observe::gauge("daemoneye_table_bytes", "Bytes of the collector's table and of what it keeps of the ended")
      .set(static_cast<double>(tracker_.bytes()));
  count("daemoneye_arguments_kept_short_total", "Argument lists of which the collector's table keeps the beginning",
        told.shortened);
  count("daemoneye_hashes_not_awaited_total", "Processes that ended before their hash was known, told without it",
        told.not_kept_for_hash);
  count("daemoneye_late_events_total", "Events told a second time, or after their process had ended", told.late);
  count("daemoneye_masked_arguments_total", "Argument lists in which something was masked", told.masked);
  const auto& exclude = tracker_.options().exclude;
  for (std::size_t i = 0; i < exclude.size(); ++i) {
    count("daemoneye_excluded_events_total", "Events left out by collection.exclude", told.excluded_by[i],
          {{"predicate", shown(exclude[i])}, {"number", std::to_string(i + 1)}});
  }
  if (parts_.source) {
    const auto counters = parts_.source->counters();
    const observe::Labels source{{"source", std::string(parts_.source->name())}};
    count("daemoneye_source_events_total", "Events heard from a real-time source", counters.events, source);
    count("daemoneye_source_lost_events_total", "Events that the kernel could not hand over", counters.lost, source);
    count("daemoneye_source_truncated_total", "Events with arguments or a path cut at their bound", counters.truncated,
          source);
    count("daemoneye_source_incomplete_total", "Events whose process was gone before its image could be read",
          counters.incomplete, source);
  }
  count("daemoneye_scans_total", "Scans, by what they looked at", scans_.full, {{"depth", "full"}});
  count("daemoneye_scans_total", "Scans, by what they looked at", scans_.counters, {{"depth", "counters"}});
  count("daemoneye_scans_stretched_total", "Scans left out because the one before had cost too much", scans_.stretched);
  const auto& tasks = tasks_.counters();
  const char* const tasks_help = "Tasks of the agent, by outcome";
  count("daemoneye_tasks_total", tasks_help, tasks.done, {{"outcome", "done"}});
  count("daemoneye_tasks_total", tasks_help, tasks.failed, {{"outcome", "failed"}});
  count("daemoneye_tasks_total", tasks_help, tasks.cancelled, {{"outcome", "cancelled"}});
  count("daemoneye_tasks_total", tasks_help, tasks.late, {{"outcome", "timeout"}});
  count("daemoneye_tasks_refused_total", "Tasks refused because too many ran", tasks.refused);
  const auto& sent = uplink_.counters();
  count("daemoneye_batches_sent_total", "Batches numbered for the agent", sent.batches);
  count("daemoneye_shed_events_total", "Events dropped because too much was held for the agent", sent.shed);
  const auto ledger = parts_.ledger->status();
  observe::gauge("daemoneye_ledger_entries", "Entries of the audit ledger")
      .set(static_cast<double>(parts_.ledger->size()));
  observe::gauge("daemoneye_ledger_unsigned_entries", "Entries that no checkpoint covers yet")
      .set(static_cast<double>(parts_.ledger->size() - std::min(parts_.ledger->size(), ledger.checkpointed)));
  if (ledger.checkpoint_time) {
    observe::gauge("daemoneye_ledger_checkpoint_timestamp_seconds", "When the last checkpoint was signed, Unix time")
        .set(static_cast<double>(ledger.checkpoint_time->ns) / 1e9);
  }
  observe::gauge("daemoneye_held_bytes_limit", "Bytes that may wait for the agent before events are shed")
      .set(static_cast<double>(options_.uplink.max_held_bytes));
  observe::gauge("daemoneye_held_bytes", "Bytes of batches that wait for the agent")
      .set(static_cast<double>(uplink_.held_bytes()));
}

}  // namespace daemoneye::collector
