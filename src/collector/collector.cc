#include "collector/collector.h"

#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/memory.h"
#include "observe/log.h"
#include "observe/metrics.h"

namespace daemoneye::collector {
namespace {

using nlohmann::json;
using observe::Level;

constexpr const char* own_actor = "procmond";              // in the ledger
constexpr std::chrono::milliseconds seal_interval{1000};   // at most one root entry a second
constexpr std::chrono::seconds acknowledged_interval{10};  // when no root tells it
constexpr std::chrono::milliseconds loss_interval{250};
constexpr std::chrono::milliseconds heartbeat_interval{2000};

observe::Counter lost_events(const std::string& reason) {
  return observe::counter("daemoneye_lost_events_total", "Events that could not be collected, by reason",
                          {{"reason", reason}});
}

std::chrono::nanoseconds thread_cpu() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

Collector::Collector(EventLoop& loop, Options options, Parts parts, Tasks::Capabilities capabilities)
    : loop_(loop),
      options_(std::move(options)),
      parts_(std::move(parts)),
      tracker_(std::move(options_.tracker), parts_.boot, parts_.boot_time,
               [this](const event::ProcessEvent& event, Tracker::Refused if_refused) {
                 return if_refused == Tracker::Refused::kept ? uplink_.offer(event) : uplink_.add(event);
               }),
      uplink_(loop, *parts_.ledger, options_.uplink,
              {.on_request =
                   [this](const ipc::Request& request) {
                     tasks_.handle(request, [this](const ipc::Reply& reply) { uplink_.reply(reply); });
                   },
               .on_cancel = [this](std::uint64_t id) { tasks_.cancel(id); },
               .on_disconnected = [this] { tasks_.cancel_all(); },
               .on_gap = [this](const event::Gap& gap) { on_gap(gap); },
               .on_connected = [this] { beat(); },  // so that health is known at once
               .on_acknowledged =
                   [this] {
                     tracker_.tell_owed();  // there is room
                     finish_stop();
                   },
               // Otherwise the source, which looks for itself as often as batches leave, could do so for ever half of
               // that time before one leaves: each event would wait the longer, for a wake-up more.
               .on_leave =
                   [this] {
                     if (parts_.source) parts_.source->poll();
                   }}),
      tasks_(loop, tracker_, *parts_.ledger, options_.tasks, std::move(capabilities), hash_path()) {
  if (parts_.hashes) tracker_.use_hashes(*parts_.hashes);
}

Tasks::HashPath Collector::hash_path() const {
  if (!parts_.hashes) return {};
  return
      [hashes = parts_.hashes.get()](const std::string& path, Deadline, std::function<void(Result<std::string>)> done) {
        hashes->hash_path(path, std::move(done));
      };
}

Collector::~Collector() {
  for (const auto timer : timers_) loop_.remove_timer(timer);
  if (scan_timer_) loop_.remove_timer(*scan_timer_);
}

Result<void> Collector::start_scan_timer() {
  DE_TRY(const auto timer,
         loop_.add_timer(options_.scan_interval, options_.scan_interval, [this] { on_scan_timer(); }));
  if (scan_timer_) loop_.remove_timer(*scan_timer_);
  scan_timer_ = timer;
  return {};
}

Result<void> Collector::reconfigure(Live live) {
  if (live.scan_interval != options_.scan_interval) {
    const auto before = std::exchange(options_.scan_interval, live.scan_interval);
    if (auto started = start_scan_timer(); !started) {
      options_.scan_interval = before;
      return started;
    }
  }
  tracker_.retune(live.mask_arguments, live.store_forks, std::move(live.exclude));
  if (parts_.hashes) parts_.hashes->set_cpu_percent(live.hash_cpu_percent);
  parts_.ledger->set_checkpoints(live.checkpoint_interval, live.checkpoint_entries);
  return {};
}

void Collector::on_raw(const sensor::RawEvent& raw) { tracker_.on_event(raw, parts_.source->kind()); }

bool Collector::record(const std::string& action, const std::string& payload) {
  if (owed_entries_.size() < max_owed_entries) {
    owed_entries_.push_back({own_actor, action, payload});
  } else {
    const auto now = base::wall_now();
    auto& lost = lost_entries_;
    lost.from = lost.count == 0 ? now : std::min(lost.from, now);
    lost.to = lost.count == 0 ? now : std::max(lost.to, now);
    ++lost.count;
    ++entries_lost_;
  }
  return write_owed_entries();
}

bool Collector::write_owed_entries() {
  const auto append = [&](const ledger::NewEntry& entry) {
    const auto written = parts_.ledger->append(entry.actor, entry.action, entry.payload);
    if (written) return true;
    if (ledger_error_.empty()) {
      observe::log(Level::error, "ledger", "entry could not be written",
                   {{"action", entry.action}, {"error", written.error().message}});
    }
    ledger_error_ = written.error().message;
    // What the ledger will never take must not keep the others from it.
    const bool never = written.error().code == Errc::invalid_input || written.error().code == Errc::limit_exceeded;
    if (never) ++entries_lost_;
    return never;
  };
  const bool owed = !owed_entries_.empty() || lost_entries_.count > 0;
  while (!owed_entries_.empty()) {
    if (!append(owed_entries_.front())) return false;
    owed_entries_.pop_front();
  }
  if (lost_entries_.count > 0) {
    const auto payload = json{{"count", lost_entries_.count},
                              {"from", base::to_iso(lost_entries_.from)},
                              {"to", base::to_iso(lost_entries_.to)}}
                             .dump();
    if (!append({own_actor, "entries_lost", payload})) return false;
    lost_entries_ = {};
  }
  if (owed) ledger_error_.clear();
  return true;
}

Result<void> Collector::start() {
  losses_checked_ = moment_now();
  // Durably, before there is a batch: one of an epoch that the ledger does not name was never ours.
  DE_CHECK(parts_.ledger->append(own_actor, "epoch", json{{"epoch", event::to_string(uplink_.epoch())}}.dump()));
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
    DE_CHECK(parts_.hashes->start(loop_, [this](const Hashes::Outcome& outcome) {
      // As in beat(): what happened before this moment is heard first, or the hash of an image that was left would be
      // told as that of what runs.
      const auto now = base::wall_now();
      if (parts_.source) parts_.source->poll();
      tracker_.on_hash(outcome, now);
    }));
  }
  // There from the start, so that an alert on their increase sees the first loss.
  for (const auto* reason : {"events_lost", "events_shed", "collector_unavailable", "store_rolled_back"}) {
    lost_events(reason).add(0);
  }
  scan();
  if (!last_scan_.error.empty() && !parts_.source) return fail(Errc::unavailable, "first scan: " + last_scan_.error);
  const auto every = [this](std::chrono::milliseconds period, std::function<void()> task) -> Result<void> {
    DE_TRY(const auto timer, loop_.add_timer(period, period, std::move(task)));
    timers_.push_back(timer);
    return {};
  };
  DE_CHECK(start_scan_timer());
  DE_CHECK(every(seal_interval, [this] { seal(); }));
  DE_CHECK(every(loss_interval, [this] { check_losses(); }));
  DE_CHECK(every(heartbeat_interval, [this] { beat(); }));
  return {};
}

void Collector::seal() {
  if (const auto executed = tasks_.take_record()) record("tasks", *executed);
  write_owed_entries();
  const auto acknowledged = uplink_.acknowledged();
  const auto size = parts_.ledger->size();
  if (auto sealed = parts_.ledger->seal_batches(acknowledged); !sealed) {
    if (ledger_error_.empty())
      observe::log(Level::error, "ledger", "batches could not be sealed", {{"error", sealed.error().message}});
    ledger_error_ = sealed.error().message;
    return;
  }
  ledger_error_.clear();
  if (parts_.ledger->size() != size) {
    acknowledged_told_ = acknowledged;
    acknowledged_told_at_ = base::SteadyClock::now();
  } else if (acknowledged > acknowledged_told_ &&
             base::SteadyClock::now() - acknowledged_told_at_ >= acknowledged_interval) {
    record_acknowledged();
  }
  const bool had_problem = !parts_.ledger->status().checkpoint_problem.empty();
  if (auto made = parts_.ledger->checkpoint_when_due(); !made && !had_problem) {
    observe::log(Level::error, "ledger", "no checkpoint was signed", {{"error", made.error().message}});
  }
}

// No batch followed whose root would tell it.
void Collector::record_acknowledged() {
  acknowledged_told_at_ = base::SteadyClock::now();
  const auto acknowledged = uplink_.acknowledged();
  if (record("acknowledged",
             json{{"acknowledged", acknowledged}, {"epoch", event::to_string(uplink_.epoch())}}.dump())) {
    acknowledged_told_ = acknowledged;
  }
}

// Whatever an event could not tell since the last full scan, and only a full look can find. What was refused for lack
// of room is known, and told again by any scan.
std::uint64_t Collector::losses() const {
  if (!parts_.source) return 0;
  const auto counters = parts_.source->counters();
  return counters.lost + counters.incomplete;
}

sensor::Depth Collector::due_depth() const {
  const bool full = scans_.full == 0 || scans_since_full_ + 1 >= full_scan_every || losses() != losses_at_full_;
  return full ? sensor::Depth::full : sensor::Depth::counters;
}

void Collector::on_scan_timer() {
  if (base::SteadyClock::now() < next_scan_allowed_) {
    ++scans_.stretched;
    return;
  }
  scan();
}

void Collector::scan() {
  const auto cpu_before = thread_cpu();
  const auto depth = due_depth();
  // What counters show to be new, only a full look can tell.
  if (scan(depth) && depth == sensor::Depth::counters && tracker_.wants_full_scan()) scan(sensor::Depth::full);
  last_scan_.cpu = thread_cpu() - cpu_before;
  if (options_.scan_cpu_percent > 0) {
    const auto spread = std::chrono::duration<double>(last_scan_.cpu) * (100 / options_.scan_cpu_percent);
    next_scan_allowed_ = base::SteadyClock::now() + std::chrono::duration_cast<std::chrono::nanoseconds>(spread);
  }
}

Result<sensor::SnapshotResult> Collector::look(sensor::Snapshot& snapshot, sensor::Depth depth, Moment begin) {
  tracker_.begin_scan(++scan_id_, begin, parts_.source != nullptr, depth);
  // Whatever happened before a record was read is in the ring by now, and is heard first. Not so at the start: what
  // waits there is told with its parents, once they are known; and where starts are told exactly the order may differ.
  const bool hears_first = parts_.source && (scans_.full > 0 || parts_.source->kind() != event::EventSource::ebpf);
  return snapshot.scan(depth, [&](const sensor::RawProcess& raw) {
    if (hears_first) parts_.source->poll();
    tracker_.on_scanned(raw, moment_now());
  });
}

// A snapshot that fails is tried again with each full scan; until it works the spare one looks.
Result<sensor::SnapshotResult> Collector::look(sensor::Depth depth, Moment begin) {
  if (!parts_.spare_snapshot) return look(*parts_.snapshot, depth, begin);
  if (!snapshot_problem_.empty() && depth != sensor::Depth::full) return look(*parts_.spare_snapshot, depth, begin);
  auto result = look(*parts_.snapshot, depth, begin);
  if (result) {
    if (!snapshot_problem_.empty()) {
      observe::log(Level::info, "collector", "the snapshot works again", {{"snapshot", parts_.snapshot->name()}});
      record("snapshot_works", json{{"snapshot", parts_.snapshot->name()}}.dump());
    }
    snapshot_problem_.clear();
    return result;
  }
  tracker_.abandon_scan(moment_now());
  if (snapshot_problem_.empty()) {
    const auto& error = result.error().message;
    observe::log(Level::error, "collector", "the snapshot failed; another one is used",
                 {{"snapshot", parts_.snapshot->name()}, {"used", parts_.spare_snapshot->name()}, {"error", error}});
    record("snapshot_failed",
           json{{"snapshot", parts_.snapshot->name()}, {"used", parts_.spare_snapshot->name()}, {"error", error}}.dump(
               -1, ' ', false, json::error_handler_t::replace));
  }
  snapshot_problem_ = result.error().message.empty() ? "unknown error" : result.error().message;
  return look(*parts_.spare_snapshot, depth, begin);
}

bool Collector::scan(sensor::Depth depth) {
  const bool full = depth == sensor::Depth::full;
  const auto begin = moment_now();
  const auto begin_steady = base::SteadyClock::now();
  const auto losses_before = losses();
  auto result = look(depth, begin);
  last_scan_.time = begin.wall;
  last_scan_.duration = base::SteadyClock::now() - begin_steady;
  last_scan_.depth = depth;
  observe::collection_duration(result.has_value()).observe(std::chrono::duration<double>(last_scan_.duration).count());
  if (!result) {
    // Without a whole picture nothing may be called vanished: the next scan tries again.
    ++scans_.failed;
    tracker_.abandon_scan(moment_now());
    if (last_scan_.error.empty()) {
      observe::log(Level::error, "collector", "scan failed", {{"error", result.error().message}});
    }
    last_scan_.error = result.error().message;
    return false;
  }
  if (parts_.source) parts_.source->poll();
  last_scan_.error.clear();
  tracker_.on_unreadable(std::exchange(result->unreadable, {}));
  if (result->others_hidden) tracker_.on_others_hidden();
  last_scan_.result = *result;
  ++(full ? scans_.full : scans_.counters);
  scans_since_full_ = full ? 0 : scans_since_full_ + 1;
  if (full) losses_at_full_ = losses_before;
  check_losses();
  auto updates = tracker_.end_scan(moment_now());
  if (!full && tracker_.wants_full_scan()) return true;  // the full one that follows tells all of this
  event::ScanSummary summary;
  summary.scan_id = scan_id_;
  summary.time = begin.wall;
  summary.updates = std::move(updates);
  summary.duration_ms =
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(last_scan_.duration).count());
  summary.source = snapshot_in_use().name();
  summary.processes = result->processes;
  summary.errors = result->errors + result->forbidden;
  summary.lost_events = lost_reported_ - lost_before_scan_;
  lost_before_scan_ = lost_reported_;
  uplink_.add_scan(summary);
  return true;
}

void Collector::check_losses() {
  const auto now = moment_now();
  if (parts_.source) {
    const auto lost = parts_.source->counters().lost;
    if (lost > lost_reported_) {
      const auto [from, to] = span_between(losses_checked_, now);
      const event::Gap gap{"events_lost", from, to, lost - lost_reported_};
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
  lost_events(gap.reason).add(static_cast<double>(gap.count.value_or(0)));
  auto detail = json::parse(event::make_gap_event(gap, options_.uplink.gap_source, base::wall_now()).detail);
  // Since when, and how much, only the agent says.
  if (gap.reason == "store_rolled_back" || gap.reason == "collector_unavailable") detail["asserted_by"] = "agent";
  record("gap", detail.dump());
}

void Collector::beat() {
  if (const auto step = clock_watch_.look(base::wall_now(), boot_clock())) {
    observe::log(Level::warn, "collector", "the clock was set", {{"seconds", step->seconds}});
    record("clock_step",
           json{{"from", base::to_iso(step->from)}, {"seconds", step->seconds}, {"to", base::to_iso(step->to)}}.dump());
  }
  // What happened before this moment is in the ring by now; a claim may be made for it only after it was heard.
  auto until = base::wall_now();
  if (parts_.source) {
    parts_.source->poll();
    check_losses();
    if (parts_.source->failed()) return;  // it was not heard: what is missing shows as a gap at the next start
  }
  if (parts_.hashes) parts_.hashes->publish_metrics();
  measure_use();
  publish_metrics();
  tidy_up();
  tracker_.tell_owed();
  if (const auto owed = tracker_.owed_since()) until = std::min(until, *owed);
  uplink_.heartbeat(until, observe::to_json(health()), observe::metrics_text());
}

// What a look at everything took for a moment is given back once the agent has it; after the first one the code of the
// start as well.
void Collector::tidy_up() {
  const auto scans = scans_.full + scans_.counters;
  if (tidied_after_ == scans || uplink_.agent_is_behind()) return;
  base::release_free_memory();
  if (tidied_after_ == 0) base::release_read_pages();
  tidied_after_ = scans;
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
  if (!stop_done_) return;
  tracker_.tell_owed();
  if (uplink_.connected() && (!uplink_.all_acknowledged() || tracker_.owed_since())) return;
  beat();  // until now everything is told
  end_stop();
}

void Collector::end_stop() {
  auto finished = std::move(stop_done_);
  stop_done_ = nullptr;
  tasks_.cancel_all();
  seal();
  const bool recorded = record("stop", json{{"acknowledged", uplink_.acknowledged()},
                                            {"epoch", event::to_string(uplink_.epoch())},
                                            {"unacknowledged_batches", uplink_.held_batches()}}
                                           .dump());
  // What could not be recorded is lost with this process: the next start is to tell that it did not end in order.
  auto closed = recorded ? parts_.ledger->close() : fail(Errc::io, "the last entries could not be written");
  if (!closed) {
    observe::log(Level::error, "ledger", "not closed in order", {{"error", closed.error().message}});
  }
  finished();
}

}  // namespace daemoneye::collector
