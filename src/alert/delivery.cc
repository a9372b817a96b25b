#include "alert/delivery.h"

#include <algorithm>
#include <utility>

#include "alert/delivery_impl.h"

namespace daemoneye::alert {
namespace {

// A sink that is quick gives its worker to another one that waits after this long.
constexpr auto turn = std::chrono::milliseconds(20);

}  // namespace

Deliverer::Impl::Impl(const config::Settings::Alerting& alerting, store::ReaderPool& readers_, store::Writer& writer_,
                      Outside outside)
    : readers(readers_),
      writer(writer_),
      now(std::move(outside.now)),
      identity(std::move(outside.identity)),
      slow_after(outside.slow_after),
      max_parallel(std::max(alerting.max_parallel_deliveries, 1U)),
      settings(alerting.sinks),
      random(std::random_device{}()) {
  policy.max_retries = alerting.retry.max_retries;
  policy.max_delay = std::chrono::milliseconds(alerting.retry.max_delay_ms);
  policy.first_delay = std::min(outside.first_retry, policy.max_delay);
  policy.max_age = std::chrono::milliseconds(alerting.max_age_ms);
  const Breaker breaker(alerting.breaker.failures, std::chrono::milliseconds(alerting.breaker.open_ms));
  for (std::size_t i = 0; i < settings.size(); ++i) {
    auto& lane = core->lanes.emplace_back(settings[i].name, settings[i].type, std::move(outside.sinks[i]), breaker);
    lane.next_retry = lane.next_summary = Timestamp{};  // the outbox may hold some from before
  }
  std::vector<std::string> names;
  for (const auto& sink : settings) names.push_back(sink.name);
  counts = std::make_unique<StoredCounts>(readers.path(), std::move(names), outside.quick_count);
}

void Deliverer::Impl::run_worker() {
  std::unique_lock lock(core->mutex);
  for (;;) {
    ++core->idle;
    core->work.wait(lock, [&] { return core->exit || !core->ready.empty(); });
    --core->idle;
    if (core->ready.empty()) return;
    const std::size_t index = core->ready.front();
    core->ready.pop_front();
    work_on(index, lock);
    Lane& lane = core->lanes[index];
    --core->busy;
    if (!lane.slow) --core->places;
    lane.busy = lane.slow = false;
    core->poke();
  }
}

// One alert after the other, until there is none, or the sink is closed, or another one should have its turn.
void Deliverer::Impl::work_on(std::size_t index, std::unique_lock<std::mutex>& lock) {
  Lane& lane = core->lanes[index];
  const auto end_of_turn = base::SteadyClock::now() + turn;
  store::Delivery task;
  bool probe = false;
  while (next_task(index, task, probe)) {
    lane.attempt_began = base::SteadyClock::now();
    lock.unlock();
    const auto outcome = attempt(*lane.sink, task.alert, sends.get_token());
    lock.lock();
    // An attempt that we cut off ourselves says nothing about the sink; the alert stays in the outbox as it was.
    if (outcome.result || !sends.stop_requested()) {
      core->finished.push_back({index, lane.finish(task, outcome, probe, policy, random())});
      if (core->finished.size() == 1 || core->finished.size() == records_at_once) core->poke();
    }
    if (lane.slow || (core->crowded && base::SteadyClock::now() >= end_of_turn)) return;
  }
}

bool Deliverer::Impl::next_task(std::size_t index, store::Delivery& task, bool& probe) {
  Lane& lane = core->lanes[index];
  if (core->stopping || lane.fetched.empty()) return false;
  const Timestamp at = now();
  if (lane.closed_until(at, policy)) return false;
  expire_waiting(index, at);
  if (lane.fetched.empty()) return false;
  probe = lane.breaker.state(at) == Breaker::State::half_open;
  task = lane.take(probe);
  if (lane.look && lane.fetched.size() == refill_below) core->poke();
  return true;
}

AttemptOutcome Deliverer::Impl::attempt(AlertSink& sink, const store::Alert& alert, const std::stop_token& stop) const {
  AttemptOutcome outcome;
  outcome.started = now();
  const auto begin = base::SteadyClock::now();
  try {
    outcome.result = sink.send(alert, stop);
  } catch (const std::exception& thrown) {
    outcome.result = std::unexpected(DeliveryError{std::string("the sink failed: ") + thrown.what(), false, {}, {}});
  }
  outcome.duration = base::SteadyClock::now() - begin;
  outcome.ended = now();
  return outcome;
}

Deliverer::Deliverer(std::unique_ptr<Changer> changer) : changer_(std::move(changer)) {}

namespace {

Result<std::vector<std::unique_ptr<AlertSink>>> make_sinks(const config::Settings::Alerting& settings) {
  std::vector<std::unique_ptr<AlertSink>> sinks;
  for (const auto& sink : settings.sinks) {
    DE_TRY(auto made, make_sink(sink));
    sinks.push_back(std::move(made));
  }
  return sinks;
}

}  // namespace

Result<std::unique_ptr<Deliverer>> Deliverer::start(const config::Settings::Alerting& settings,
                                                    store::ReaderPool& readers, store::Writer& writer,
                                                    Identity identity) {
  Outside outside;
  outside.identity = std::move(identity);
  DE_TRY(outside.sinks, make_sinks(settings));
  return start(settings, readers, writer, std::move(outside));
}

Result<std::unique_ptr<Deliverer>> Deliverer::start(const config::Settings::Alerting& settings,
                                                    store::ReaderPool& readers, store::Writer& writer,
                                                    Outside outside) {
  auto changer = std::make_unique<Changer>(readers, writer, outside.identity);
  DE_TRY(changer->current, Impl::begin(settings, readers, writer, std::move(outside)));
  return std::unique_ptr<Deliverer>(new Deliverer(std::move(changer)));
}

Result<std::shared_ptr<Deliverer::Impl>> Deliverer::Impl::begin(const config::Settings::Alerting& settings,
                                                                store::ReaderPool& readers, store::Writer& writer,
                                                                Outside outside) {
  if (outside.sinks.size() != settings.sinks.size()) {
    return fail(Errc::internal, "alert delivery: one sink is needed for each of alerting.sinks");
  }
  auto impl = std::make_shared<Impl>(settings, readers, writer, std::move(outside));
  DE_TRY(impl->reader, readers.take(Deadline::after(reader_patience)));
  DE_TRY(const auto records, impl->reader->sink_records());
  for (const auto& record : records) {
    for (auto& lane : impl->core->lanes) {
      if (lane.name == record.sink) lane.restore(record, impl->now());
    }
  }
  DE_TRY(const auto owed, impl->reader->held_sinks());
  impl->retire_sinks(owed);
  impl->dispatcher = std::thread([raw = impl.get()] { raw->run_dispatcher(); });
  return impl;
}

Result<void> Deliverer::reconfigure(const config::Settings::Alerting& settings) {
  Changer& changer = *changer_;
  Changer::Change change{settings, {}};
  change.outside.identity = changer.identity;
  DE_TRY(change.outside.sinks, make_sinks(settings));
  std::lock_guard lock(changer.mutex);
  if (changer.stopping) return fail(Errc::cancelled, "alert delivery is stopping");
  changer.next = std::move(change);
  changer.changed.notify_all();
  if (changer.running) return {};
  if (changer.thread.joinable()) changer.thread.join();  // it has ended
  changer.running = true;
  changer.thread = std::thread([&changer] { changer.run(); });
  return {};
}

bool Deliverer::reconfiguring() const {
  std::lock_guard lock(changer_->mutex);
  return changer_->applying || changer_->next;
}

std::shared_ptr<Deliverer::Impl> Deliverer::current() const {
  std::lock_guard lock(changer_->mutex);
  return changer_->current;
}

Deliverer::~Deliverer() {
  stop(Deadline::after(std::chrono::nanoseconds(0)));
  if (changer_->thread.joinable()) changer_->thread.join();
  changer_->current->join();
}

void Deliverer::Impl::join() {
  if (dispatcher.joinable()) dispatcher.join();  // it makes the workers
  for (auto& worker : workers) {
    if (worker.joinable()) worker.join();
  }
}

void Deliverer::wake() {
  const auto impl = current();
  Core& core = *impl->core;
  std::lock_guard lock(core.mutex);
  for (auto& lane : core.lanes) lane.look = true;
  core.poke();
}

void Deliverer::reopen() {
  const auto impl = current();
  for (auto& lane : impl->core->lanes) lane.sink->reopen();
}

void Deliverer::stop(Deadline deadline) {
  {
    std::lock_guard lock(changer_->mutex);
    changer_->stopping = true;
    changer_->changed.notify_all();
  }
  current()->stop(deadline);
}

void Deliverer::Impl::stop(Deadline deadline) {
  std::unique_lock lock(core->mutex);
  core->stopping = true;
  core->poke();
  core->changed.wait_until(lock, deadline.point(),
                           [&] { return core->busy == 0 && core->finished.empty() && core->recording == 0; });
  core->exit = true;
  core->poke();
  lock.unlock();
  sends.request_stop();
  core->work.notify_all();
}

std::vector<std::string> Deliverer::names() const {
  const auto impl = current();
  std::vector<std::string> names;
  for (const auto& lane : impl->core->lanes) names.push_back(lane.name);
  return names;
}

std::size_t Deliverer::in_memory(const std::string& sink) const {
  const auto impl = current();
  std::lock_guard lock(impl->core->mutex);
  for (const auto& lane : impl->core->lanes) {
    if (lane.name == sink) return lane.held.size();
  }
  return 0;
}

std::vector<Deliverer::SinkState> Deliverer::state() const {
  const auto impl = current();
  std::vector<SinkState> states;
  {
    std::lock_guard lock(impl->core->mutex);
    const Timestamp at = impl->now();
    for (auto& lane : impl->core->lanes) {
      SinkState state;
      state.name = lane.name;
      state.type = lane.type;
      const auto breaker = lane.breaker.state(at);
      state.breaker = to_string(breaker);
      state.health = lane.sink->health_check();
      if (!lane.last_error.empty()) {
        state.health.healthy = false;
        state.health.reason = lane.last_error;
      }
      if (breaker == Breaker::State::open) {
        state.open_until = lane.breaker.open_until();
        state.health.reason += "; waiting until " + base::to_iso(lane.breaker.open_until());
      }
      state.attempts = lane.attempts;
      state.delivered = lane.delivered;
      state.failed = lane.failed;
      state.last_success = lane.last_success;
      state.last_failure = lane.last_failure;
      state.last_error = lane.last_error;
      state.p50_ms = lane.latencies.quantile_ms(0.5);
      state.p99_ms = lane.latencies.quantile_ms(0.99);
      states.push_back(std::move(state));
    }
  }
  auto counts = impl->counts->get();
  for (auto& state : states) {
    if (counts) {
      const auto& waiting = counts->waiting[state.name];
      state.waiting = waiting.alerts;
      state.oldest_undelivered = waiting.oldest;
      state.dead_letters = counts->dead_letters[state.name];
    } else if (state.health.healthy) {
      state.health = {false, "the outbox cannot be read: " + counts.error().message, state.health.warning};
    }
  }
  return states;
}

std::map<std::string, std::uint64_t> Deliverer::retired() const {
  const auto impl = current();
  auto counts = impl->counts->get().value_or(StoredCounts::Counts{}).dead_letters;
  for (const auto& lane : impl->core->lanes) counts.erase(lane.name);
  return counts;
}

}  // namespace daemoneye::alert
