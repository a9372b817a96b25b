#include "collector/collector.h"

#include <nlohmann/json.hpp>

#include "observe/log.h"
#include "observe/metrics.h"

namespace daemoneye::collector {
namespace {

using nlohmann::json;
using observe::HealthState;
using observe::Level;

constexpr std::chrono::milliseconds seal_interval{1000};  // at most one root entry a second
constexpr std::chrono::milliseconds loss_interval{250};
constexpr std::chrono::milliseconds heartbeat_interval{2000};
// A loss stays in the component's state this long, so that a person who looks sees it; in the store it stays.
constexpr std::chrono::minutes loss_shown{10};

}  // namespace

Collector::Collector(EventLoop& loop, Options options, Parts parts, Tasks::Capabilities capabilities)
    : loop_(loop),
      options_(std::move(options)),
      parts_(std::move(parts)),
      tracker_(std::move(options_.tracker), parts_.boot, parts_.boot_time,
               [this](const event::ProcessEvent& event) { return on_event(event); }),
      uplink_(loop, *parts_.ledger, options_.uplink,
              {.on_request = [this](const ipc::Request& request) { uplink_.reply(tasks_.handle(request)); },
               .on_cancel = [](std::uint64_t) {},  // requests are answered before the next message is read
               .on_gap = [this](const event::Gap& gap) { on_gap(gap); },
               .on_connected = [this] { beat(); },  // so that health is known at once
               .on_acknowledged = [this] { finish_stop(); }}),
      tasks_(tracker_, *parts_.ledger, std::move(capabilities)) {
  if (parts_.hashes) tracker_.use_hashes(*parts_.hashes);
}

Collector::~Collector() {
  for (const auto timer : timers_) loop_.remove_timer(timer);
}

bool Collector::on_event(const event::ProcessEvent& event) {
  observe::processes_collected().add();
  return uplink_.add(event);
}

void Collector::on_raw(const sensor::RawEvent& raw) { tracker_.on_event(raw, parts_.source->kind()); }

void Collector::record(const std::string& action, const std::string& payload) {
  auto sequence = parts_.ledger->append("procmond", action, payload);
  if (!sequence) {
    ++entries_lost_;
    ledger_error_ = sequence.error().message;
    observe::log(Level::error, "ledger", "entry could not be written",
                 {{"action", action}, {"error", sequence.error().message}});
    return;
  }
  ledger_error_.clear();
}

Result<void> Collector::start() {
  losses_checked_ = base::wall_now();
  if (parts_.source) {
    const auto failed = [this](const Error& error) {
      record("source_failed", json{{"source", parts_.source->name()}, {"error", error.message}}.dump());
      if (on_source_failure) on_source_failure(error);
    };
    if (auto started = parts_.source->start(
            loop_, [this](const sensor::RawEvent& raw) { on_raw(raw); }, failed);
        !started) {
      failed(started.error());
      return started;
    }
  }
  if (parts_.hashes) {
    DE_CHECK(parts_.hashes->start(
        loop_, [this](const Hashes::Outcome& outcome) { tracker_.on_hash(outcome, base::wall_now()); }));
  }
  scan();
  if (!last_scan_.error.empty() && !parts_.source) return fail(Errc::unavailable, "first scan: " + last_scan_.error);
  const auto every = [this](std::chrono::milliseconds period, std::function<void()> task) -> Result<void> {
    DE_TRY(const auto timer, loop_.add_timer(period, period, std::move(task)));
    timers_.push_back(timer);
    return {};
  };
  DE_CHECK(every(options_.scan_interval, [this] { scan(); }));
  DE_CHECK(every(seal_interval, [this] {
    if (auto sealed = parts_.ledger->seal_batches(); !sealed) {
      if (ledger_error_.empty())
        observe::log(Level::error, "ledger", "batches could not be sealed", {{"error", sealed.error().message}});
      ledger_error_ = sealed.error().message;
    } else {
      ledger_error_.clear();
    }
  }));
  DE_CHECK(every(loss_interval, [this] { check_losses(); }));
  DE_CHECK(every(heartbeat_interval, [this] { beat(); }));
  return {};
}

void Collector::scan() {
  const auto begin = base::wall_now();
  const auto begin_steady = base::SteadyClock::now();
  tracker_.begin_scan(++scan_id_, begin, parts_.source != nullptr);
  auto result = parts_.snapshot->scan(sensor::Depth::full, [this](const sensor::RawProcess& raw) {
    // Whatever happened before this record was read is in the ring by now, and is heard first.
    if (parts_.source) parts_.source->poll();
    tracker_.on_scanned(raw, base::wall_now());
  });
  last_scan_.time = begin;
  last_scan_.duration = base::SteadyClock::now() - begin_steady;
  observe::collection_duration(result.has_value()).observe(std::chrono::duration<double>(last_scan_.duration).count());
  if (!result) {
    // Without a whole picture nothing may be called vanished: the next scan tries again.
    if (last_scan_.error.empty()) {
      observe::log(Level::error, "collector", "scan failed", {{"error", result.error().message}});
    }
    last_scan_.error = result.error().message;
    return;
  }
  if (parts_.source) parts_.source->poll();
  last_scan_.error.clear();
  last_scan_.result = *result;
  check_losses();
  event::ScanSummary summary;
  summary.scan_id = scan_id_;
  summary.time = begin;
  summary.updates = tracker_.end_scan(base::wall_now());
  summary.duration_ms =
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(last_scan_.duration).count());
  summary.source = parts_.snapshot->name();
  summary.processes = result->processes;
  summary.errors = result->errors + result->forbidden;
  summary.lost_events = lost_reported_ - lost_before_scan_;
  lost_before_scan_ = lost_reported_;
  uplink_.add_scan(summary);
}

void Collector::check_losses() {
  const auto now = base::wall_now();
  if (parts_.source) {
    const auto lost = parts_.source->counters().lost;
    if (lost > lost_reported_) {
      const event::Gap gap{"events_lost", losses_checked_, now, lost - lost_reported_};
      lost_reported_ = lost;
      uplink_.add_gap(gap);
    }
  }
  losses_checked_ = now;
}

void Collector::on_gap(const event::Gap& gap) {
  recent_loss_ = gap;
  observe::log(Level::warn, "collector", "gap in the record",
               {{"reason", gap.reason},
                {"from", base::to_iso(gap.from)},
                {"to", base::to_iso(gap.to)},
                {"count", static_cast<std::int64_t>(gap.count.value_or(0))}});
  observe::counter("daemoneye_lost_events_total", "Events that could not be collected, by reason",
                   {{"reason", gap.reason}})
      .add(static_cast<double>(gap.count.value_or(0)));
  record("gap", event::make_gap_event(gap, options_.uplink.gap_source, base::wall_now()).detail);
}

void Collector::beat() {
  // What happened before this moment is in the ring by now; a claim may be made for it only after it was heard.
  const auto until = base::wall_now();
  if (parts_.source) {
    parts_.source->poll();
    check_losses();
  }
  if (parts_.hashes) parts_.hashes->publish_metrics();
  uplink_.heartbeat(until, observe::to_json(health()), observe::metrics_text());
}

std::vector<observe::ComponentHealth> Collector::health() const {
  auto report = options_.own_health ? options_.own_health() : std::vector<observe::ComponentHealth>{};
  observe::ComponentHealth collector{.component = "collector", .state = HealthState::ok, .reason = {}, .details = {}};
  auto& details = collector.details;
  details["realtime"] = parts_.source ? std::string(parts_.source->name()) : "off";
  if (!options_.source_reason.empty()) details["realtime_reason"] = options_.source_reason;
  if (!options_.source_limits.empty()) details["realtime_limits"] = options_.source_limits;
  details["snapshot"] = parts_.snapshot->name();
  details["processes"] = std::to_string(tracker_.size());
  details["last_scan"] = base::to_iso(last_scan_.time);
  details["last_scan_ms"] =
      std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(last_scan_.duration).count());
  details["scan_forbidden"] = std::to_string(last_scan_.result.forbidden);
  details["events_emitted"] = std::to_string(tracker_.counters().emitted);
  details["events_excluded"] = std::to_string(tracker_.counters().excluded);
  details["scans_shed"] = std::to_string(uplink_.counters().scans_shed);
  details["events_shed"] = std::to_string(uplink_.counters().shed);
  details["processes_untracked"] = std::to_string(tracker_.counters().untracked);
  details["batches_held"] = std::to_string(uplink_.held_batches());
  details["bytes_held"] = std::to_string(uplink_.held_bytes());
  details["epoch"] = event::to_string(uplink_.epoch());
  if (parts_.source) {
    const auto counters = parts_.source->counters();
    details["events_seen"] = std::to_string(counters.events);
    details["events_lost"] = std::to_string(counters.lost);
    details["arguments_truncated"] = std::to_string(counters.truncated);
  }
  const auto degrade = [&](const std::string& reason) {
    collector.state = HealthState::degraded;
    collector.reason += (collector.reason.empty() ? "" : "; ") + reason;
  };
  if (!options_.source_limits.empty()) degrade(options_.source_limits);
  if (!last_scan_.error.empty()) degrade("the last scan failed: " + last_scan_.error);
  if (recent_loss_ && base::wall_now().ns - recent_loss_->to.ns < std::chrono::nanoseconds(loss_shown).count()) {
    degrade("gap (" + recent_loss_->reason + ") from " + base::to_iso(recent_loss_->from) + " to " +
            base::to_iso(recent_loss_->to));
  }
  report.push_back(std::move(collector));
  if (parts_.hashes) report.push_back(parts_.hashes->health());

  observe::ComponentHealth ledger{.component = "ledger", .state = HealthState::ok, .reason = {}, .details = {}};
  ledger.details["entries"] = std::to_string(parts_.ledger->size());
  if (const auto& problem = uplink_.ledger_problem().empty() ? ledger_error_ : uplink_.ledger_problem();
      !problem.empty()) {
    ledger.state = HealthState::failed;
    ledger.reason = "cannot be written, so nothing is sent: " + problem;
  }
  if (entries_lost_ > 0) {
    ledger.details["entries_lost"] = std::to_string(entries_lost_);
    ledger.state = std::max(ledger.state, HealthState::degraded);
    ledger.reason += (ledger.reason.empty() ? "" : "; ") + std::to_string(entries_lost_) +
                     " entries could not be written and are missing";
  }
  report.push_back(std::move(ledger));
  return report;
}

void Collector::stop(std::chrono::milliseconds grace, std::function<void()> done) {
  if (stop_done_) return;
  if (parts_.source) {
    parts_.source->poll();
    check_losses();
    parts_.source->stop();
  }
  if (parts_.hashes) parts_.hashes->stop();
  uplink_.flush();
  stop_done_ = std::move(done);
  auto timer = loop_.add_timer(grace, std::chrono::nanoseconds(0), [this] {
    if (!stop_done_) return;
    observe::log(Level::warn, "collector", "stopped before everything was acknowledged",
                 {{"batches", std::uint64_t{uplink_.held_batches()}}});
    end_stop();
  });
  if (timer) timers_.push_back(*timer);
  finish_stop();
}

void Collector::finish_stop() {
  if (!stop_done_ || (uplink_.connected() && !uplink_.all_acknowledged())) return;
  beat();  // until now everything is told
  end_stop();
}

void Collector::end_stop() {
  auto finished = std::move(stop_done_);
  stop_done_ = nullptr;
  if (auto sealed = parts_.ledger->seal_batches(); !sealed) {
    observe::log(Level::error, "ledger", "batches could not be sealed", {{"error", sealed.error().message}});
  }
  record("stop", json{{"unacknowledged_batches", uplink_.held_batches()}}.dump());
  finished();
}

}  // namespace daemoneye::collector
