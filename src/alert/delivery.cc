#include "alert/delivery.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <random>
#include <thread>

#include "alert/lane.h"
#include "observe/log.h"
#include "observe/metrics.h"

namespace daemoneye::alert {
namespace {

using observe::Level;

constexpr std::size_t fetch_at_once = 64;    // outbox entries held in memory, a sink
constexpr std::size_t max_unrecorded = 256;  // outcomes that wait for their commit, a sink
constexpr auto store_retry = std::chrono::seconds(1);
constexpr auto soonest_look = std::chrono::milliseconds(5);
constexpr auto longest_wait = std::chrono::seconds(60);  // the wall clock may jump

struct Task {
  std::size_t lane = 0;
  store::Delivery delivery;
  bool probe = false;
};

// Everything that threads share. Held by shared_ptr because the writer's thread calls back when it has committed,
// which may be after the Deliverer is gone.
struct Core {
  std::mutex mutex;
  std::condition_variable changed;  // for the dispatcher and for stop()
  std::condition_variable work;     // for the workers
  std::deque<Lane> lanes;
  std::deque<Task> tasks;
  std::size_t under_way = 0;  // tasks queued or running
  std::vector<store::DeliveryRecord> records;
  bool recording = false;  // one record_deliveries() at a time; meanwhile `records` collects
  bool woken = false;
  bool stopping = false;  // nothing new is begun
  bool exit = false;
};

void record_done(Core& core, const std::vector<std::pair<std::size_t, std::int64_t>>& ids, const Result<void>& result) {
  std::lock_guard lock(core.mutex);
  core.recording = false;
  if (result) {
    for (const auto& [lane, id] : ids) {
      core.lanes[lane].unrecorded.erase(id);
      core.lanes[lane].look = true;
    }
  } else {
    // They stay excluded here and in the outbox on disk: the next start sends them again, with the same alert id.
    observe::log(Level::error, "alert", "delivery outcomes could not be recorded",
                 {{"error", std::string_view(result.error().message)}, {"outcomes", std::uint64_t{ids.size()}}});
  }
  core.changed.notify_all();
}

}  // namespace

struct Deliverer::Impl {
  Impl(const config::Settings::Alerting& settings, store::Writer& writer_, Outside outside)
      : writer(writer_), now(std::move(outside.now)), random(std::random_device{}()) {
    policy.max_retries = settings.retry.max_retries;
    policy.max_delay = std::chrono::milliseconds(settings.retry.max_delay_ms);
    policy.first_delay = std::min(outside.first_retry, policy.max_delay);
    policy.max_age = std::chrono::milliseconds(settings.max_age_ms);
    const Breaker breaker(settings.breaker.failures, std::chrono::milliseconds(settings.breaker.open_ms));
    for (std::size_t i = 0; i < settings.sinks.size(); ++i) {
      core->lanes.emplace_back(settings.sinks[i].name, settings.sinks[i].type, std::move(outside.sinks[i]), breaker);
    }
  }

  void start_threads(std::uint32_t max_parallel) {
    const std::size_t count = std::min<std::size_t>(std::max(max_parallel, 1U), core->lanes.size());
    for (std::size_t i = 0; i < count; ++i) workers.emplace_back([this] { run_worker(); });
    dispatcher = std::thread([this] { run_dispatcher(); });
  }

  void run_worker() {
    std::unique_lock lock(core->mutex);
    for (;;) {
      core->work.wait(lock, [&] { return core->exit || !core->tasks.empty(); });
      if (core->tasks.empty()) return;
      const Task task = std::move(core->tasks.front());
      core->tasks.pop_front();
      AlertSink& sink = *core->lanes[task.lane].sink;
      lock.unlock();
      AttemptOutcome outcome;
      outcome.started = now();
      const auto begin = base::SteadyClock::now();
      try {
        outcome.result = sink.send(task.delivery.alert, sends.get_token());
      } catch (const std::exception& thrown) {
        outcome.result = std::unexpected(DeliveryError{std::string("the sink failed: ") + thrown.what(), false, {}});
      }
      outcome.duration = std::chrono::duration_cast<std::chrono::milliseconds>(base::SteadyClock::now() - begin);
      outcome.ended = now();
      lock.lock();
      finish(task, outcome);
    }
  }

  void finish(const Task& task, const AttemptOutcome& outcome) {
    Lane& lane = core->lanes[task.lane];
    lane.in_flight = false;
    --core->under_way;
    // An attempt that we cut off ourselves says nothing about the sink; the alert stays in the outbox as it was.
    if (outcome.result || !sends.stop_requested()) {
      core->records.push_back(lane.finish(task.delivery, outcome, task.probe, policy, random()));
    }
    core->changed.notify_all();
  }

  void run_dispatcher() {
    std::unique_lock lock(core->mutex);
    while (!core->exit || core->under_way > 0 || (!core->records.empty() && !core->recording)) {
      core->woken = false;
      record(lock);
      std::optional<Timestamp> next;
      if (!core->stopping) {
        for (std::size_t i = 0; i < core->lanes.size(); ++i) {
          const auto lane_next = plan(i);
          if (lane_next && (!next || *lane_next < *next)) next = lane_next;
        }
        if (!core->records.empty() && !core->recording) continue;
      }
      const auto something = [&] {
        return core->woken || (!core->records.empty() && !core->recording) || (core->exit && core->under_way == 0);
      };
      auto wait = std::chrono::nanoseconds(longest_wait);
      if (next) wait = std::min(wait, std::chrono::nanoseconds(std::max<std::int64_t>(next->ns - now().ns, 0)));
      // A finished attempt or commit is a reason to plan again as well: any notification ends the wait.
      if (!something()) core->changed.wait_for(lock, wait);
    }
  }

  // Hands what is finished to the writer, which may block: without the lock.
  void record(std::unique_lock<std::mutex>& lock) {
    if (core->records.empty() || core->recording) return;
    core->recording = true;
    auto batch = std::exchange(core->records, {});
    std::vector<std::pair<std::size_t, std::int64_t>> ids;
    for (const auto& record : batch) {
      for (std::size_t i = 0; i < core->lanes.size(); ++i) {
        if (core->lanes[i].name == record.sink) ids.emplace_back(i, record.outbox_id);
      }
    }
    lock.unlock();
    writer.record_deliveries(std::move(batch), [core = core, ids = std::move(ids)](const Result<void>& result) {
      record_done(*core, ids, result);
    });
    lock.lock();
  }

  // Begins the lane's next attempt when it can; otherwise says when to look again (never: something will notify).
  std::optional<Timestamp> plan(std::size_t index) {
    Lane& lane = core->lanes[index];
    if (lane.in_flight) return std::nullopt;
    const Timestamp at = now();
    if (lane.breaker.state(at) == Breaker::State::open) return lane.breaker.open_until();
    for (;;) {
      if (lane.fetched.empty()) {
        if (!lane.look && (!lane.next || at < *lane.next)) return lane.next;
        if (lane.unrecorded.size() >= max_unrecorded) return std::nullopt;
        if (auto fetched = fetch(lane, at); !fetched) {
          observe::log(Level::error, "alert", "the outbox cannot be read",
                       {{"sink", std::string_view(lane.name)}, {"error", std::string_view(fetched.error().message)}});
          return Timestamp{at.ns + std::chrono::nanoseconds(store_retry).count()};
        }
        if (lane.fetched.empty()) return lane.next;
      }
      Task task{index, std::move(lane.fetched.front()), lane.breaker.state(at) == Breaker::State::half_open};
      lane.fetched.pop_front();
      lane.unrecorded.insert(task.delivery.outbox_id);
      if (auto expired = lane.expire(task.delivery, at, policy)) {
        core->records.push_back(std::move(*expired));
        continue;
      }
      lane.in_flight = true;
      ++core->under_way;
      core->tasks.push_back(std::move(task));
      core->work.notify_one();
      return std::nullopt;
    }
  }

  Result<void> fetch(Lane& lane, Timestamp at) {
    const std::size_t limit = lane.unrecorded.size() + fetch_at_once;
    DE_TRY(auto due, reader->due_deliveries(lane.name, at, limit));
    for (auto& delivery : due) {
      if (!lane.unrecorded.contains(delivery.outbox_id)) lane.fetched.push_back(std::move(delivery));
    }
    lane.look = !lane.fetched.empty();
    lane.next.reset();
    // While outcomes wait for their commit the outbox still shows those as due; their commit sets `look`.
    if (lane.fetched.empty() && lane.unrecorded.empty()) {
      DE_TRY(lane.next, reader->next_delivery(lane.name));
      if (lane.next)
        lane.next = std::max(*lane.next, Timestamp{at.ns + std::chrono::nanoseconds(soonest_look).count()});
    }
    return {};
  }

  std::shared_ptr<Core> core = std::make_shared<Core>();
  store::Writer& writer;
  const std::function<Timestamp()> now;
  RetryPolicy policy;
  std::mt19937_64 random;
  std::stop_source sends;
  std::unique_ptr<store::Reader> reader;  // the dispatcher's
  mutable std::mutex state_mutex;
  std::unique_ptr<store::Reader> state_reader;  // of state(), under state_mutex
  std::thread dispatcher;
  std::vector<std::thread> workers;
};

Deliverer::Deliverer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Deliverer>> Deliverer::start(const config::Settings::Alerting& settings,
                                                    const std::string& store_path, store::Writer& writer) {
  Outside outside;
  for (const auto& sink : settings.sinks) {
    DE_TRY(auto made, make_sink(sink));
    outside.sinks.push_back(std::move(made));
  }
  return start(settings, store_path, writer, std::move(outside));
}

Result<std::unique_ptr<Deliverer>> Deliverer::start(const config::Settings::Alerting& settings,
                                                    const std::string& store_path, store::Writer& writer,
                                                    Outside outside) {
  if (outside.sinks.size() != settings.sinks.size()) {
    return fail(Errc::internal, "alert delivery: one sink is needed for each of alerting.sinks");
  }
  auto impl = std::make_unique<Impl>(settings, writer, std::move(outside));
  DE_TRY(impl->reader, store::Reader::open(store_path));
  DE_TRY(impl->state_reader, store::Reader::open(store_path));
  impl->start_threads(settings.max_parallel_deliveries);
  return std::unique_ptr<Deliverer>(new Deliverer(std::move(impl)));
}

Deliverer::~Deliverer() {
  stop(Deadline::after(std::chrono::nanoseconds(0)));
  for (auto& worker : impl_->workers) worker.join();
  impl_->dispatcher.join();
}

void Deliverer::wake() {
  Core& core = *impl_->core;
  std::lock_guard lock(core.mutex);
  core.woken = true;
  for (auto& lane : core.lanes) lane.look = true;
  core.changed.notify_all();
}

void Deliverer::reopen() {
  for (auto& lane : impl_->core->lanes) lane.sink->reopen();
}

void Deliverer::stop(Deadline deadline) {
  Core& core = *impl_->core;
  std::unique_lock lock(core.mutex);
  core.stopping = true;
  core.changed.notify_all();
  core.changed.wait_until(lock, deadline.point(),
                          [&] { return core.under_way == 0 && core.records.empty() && !core.recording; });
  core.exit = true;
  // Queued tasks that no worker has begun stay in the outbox.
  for (const auto& task : core.tasks) core.lanes[task.lane].in_flight = false;
  core.under_way -= core.tasks.size();
  core.tasks.clear();
  lock.unlock();
  impl_->sends.request_stop();
  core.changed.notify_all();
  core.work.notify_all();
}

std::vector<Deliverer::SinkState> Deliverer::state() const {
  std::vector<SinkState> states;
  {
    std::lock_guard lock(impl_->core->mutex);
    const Timestamp at = impl_->now();
    for (auto& lane : impl_->core->lanes) {
      SinkState state;
      state.name = lane.name;
      state.type = lane.type;
      const auto breaker = lane.breaker.state(at);
      state.breaker = to_string(breaker);
      if (!lane.last_error.empty()) {
        state.health = {false, lane.last_error};
        if (breaker == Breaker::State::open) {
          state.health.reason += "; waiting until " + base::to_iso(lane.breaker.open_until());
        }
      } else {
        state.health = lane.sink->health_check();
      }
      state.delivered = lane.delivered;
      state.failed = lane.failed;
      state.dead_letters = lane.dead_letters;
      state.last_success = lane.last_success;
      states.push_back(std::move(state));
    }
  }
  std::lock_guard lock(impl_->state_mutex);
  for (auto& state : states) {
    const auto depth = impl_->state_reader->outbox_depth(state.name);
    if (depth) {
      state.waiting = *depth;
    } else if (state.health.healthy) {
      state.health = {false, "the outbox cannot be read: " + depth.error().message};
    }
    observe::gauge("daemoneye_alert_outbox_depth", "Alerts that wait for delivery, by sink.", {{"sink", state.name}})
        .set(static_cast<double>(state.waiting));
    observe::gauge("daemoneye_alert_breaker_open", "1 while a sink's circuit breaker is not closed.",
                   {{"sink", state.name}})
        .set(state.breaker == "closed" ? 0 : 1);
  }
  return states;
}

}  // namespace daemoneye::alert
