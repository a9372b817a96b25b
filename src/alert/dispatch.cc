// The dispatcher: one thread that reads the outbox, gives lanes to workers and hands outcomes to the store's writer.
#include <algorithm>
#include <utility>

#include "alert/delivery_impl.h"
#include "base/hash.h"
#include "observe/log.h"
#include "store/alert_changes.h"

namespace daemoneye::alert {
namespace {

using observe::Level;

constexpr std::size_t max_held = 2048;  // entries of a lane's outbox fetched or not yet recorded
constexpr auto store_retry = std::chrono::seconds(1);
constexpr auto soonest_look = std::chrono::milliseconds(5);
constexpr auto longest_wait = std::chrono::seconds(60);  // the wall clock may jump
constexpr std::size_t alert_id_bytes = 16;

Timestamp later(Timestamp time, std::chrono::nanoseconds by) { return Timestamp{time.ns + by.count()}; }

void sooner(std::optional<Timestamp>& next, const std::optional<Timestamp>& other) {
  if (other && (!next || *other < *next)) next = other;
}

void record_done(Core& core, const std::vector<Core::Finished>& batch, const Result<void>& result) {
  std::lock_guard lock(core.mutex);
  --core.recording;
  if (result) {
    for (const auto& [index, record] : batch) {
      Lane& lane = core.lanes[index];
      lane.held.erase(record.outbox_id);
      if (lane.reading) lane.settled.insert(record.outbox_id);
      if (record.outcome == "failed") sooner(lane.next_retry, record.next_attempt);
    }
  } else {
    // They stay excluded here and in the outbox on disk: the next start sends them again, with the same alert id.
    observe::log(Level::error, "alert", "delivery outcomes could not be recorded",
                 {{"error", std::string_view(result.error().message)}, {"outcomes", std::uint64_t{batch.size()}}});
  }
  core.poke();
}

// Goes on with itself until nothing waits for a sink that is not configured.
void retire_step(store::Writer& writer, std::vector<std::string> configured, Timestamp at, std::uint64_t before) {
  const auto retired = std::make_shared<std::size_t>(0);  // shared: the change is in one closure, its end in another
  writer.change(
      [=](db::StatementCache& statements) -> Result<void> {
        DE_TRY(*retired, store::retire_sinks(statements, configured, at));
        return {};
      },
      [=, &writer](const Result<void>& result) {
        const auto all = before + *retired;
        if (result && *retired > 0) return retire_step(writer, configured, at, all);
        if (all == 0) return;
        observe::log(Level::warn, "alert", "alerts waited for sinks that are not configured any more: dead letters",
                     {{"alerts", all}});
      });
}

}  // namespace

store::Alert Deliverer::Impl::own_alert(Timestamp time) const {
  store::Alert alert;
  alert.alert_id = base::to_hex(base::random_bytes(alert_id_bytes));
  alert.time = alert.last_seen = time;
  alert.host = identity.host;
  alert.agent_version = identity.agent_version;
  alert.row_json = "{}";
  return alert;
}

void Deliverer::Impl::retire_sinks(const std::vector<std::string>& owed_summaries) {
  std::vector<std::string> configured;
  for (const auto& lane : core->lanes) configured.push_back(lane.name);
  for (const auto& sink : owed_summaries) {
    if (std::ranges::find(configured, sink) != configured.end()) continue;
    writer.change(
        [sink, summary = own_alert(now())](db::StatementCache& statements) -> Result<void> {
          DE_TRY([[maybe_unused]] const auto held, store::write_summary(statements, sink, summary));
          return {};
        },
        {});
  }
  retire_step(writer, configured, now(), 0);
}

void Deliverer::Impl::run_dispatcher() {
  std::unique_lock lock(core->mutex);
  while (!core->exit || core->busy > 0 || core->may_record()) {
    core->woken = false;
    record(lock);
    std::optional<Timestamp> next;
    auto wait = std::chrono::nanoseconds(longest_wait);
    if (!core->stopping) {
      fetch(lock);
      summarize(lock);
      find_slow();
      // A stop may have come while the store was read. Workers that are idle leave then: nobody would take a task.
      if (!core->stopping) next = assign();
      wait = std::min(wait, find_slow());
    }
    if (core->woken || (core->exit && core->busy == 0)) continue;
    if (next) wait = std::min(wait, std::chrono::nanoseconds(std::max<std::int64_t>(next->ns - now().ns, 0)));
    core->changed.wait_for(lock, wait, [&] { return core->woken; });
  }
}

// Hands what is finished to the writer, which may block: without the lock.
void Deliverer::Impl::record(std::unique_lock<std::mutex>& lock) {
  while (core->may_record()) {
    ++core->recording;
    std::vector<Core::Finished> batch;
    std::vector<store::DeliveryRecord> records;
    std::vector<bool> touched(core->lanes.size());
    while (!core->finished.empty() && batch.size() < records_at_once) {
      records.push_back(core->finished.front().record);
      touched[core->finished.front().lane] = true;
      batch.push_back(std::move(core->finished.front()));
      core->finished.pop_front();
    }
    std::vector<store::SinkRecord> sinks;
    for (std::size_t i = 0; i < touched.size(); ++i) {
      if (touched[i]) sinks.push_back(core->lanes[i].record());
    }
    lock.unlock();
    writer.record_deliveries(
        std::move(records),
        [shared = core, batch = std::move(batch)](const Result<void>& result) { record_done(*shared, batch, result); },
        std::move(sinks));
    lock.lock();
  }
}

void Deliverer::Impl::fetch(std::unique_lock<std::mutex>& lock) {
  for (std::size_t i = 0; i < core->lanes.size(); ++i) {
    Lane& lane = core->lanes[i];
    const Timestamp at = now();
    lane.bound_times(at, policy, std::chrono::milliseconds(settings[i].rate_limit.per_ms));
    if (lane.store_retry && at < *lane.store_retry) continue;
    const bool retries = lane.next_retry && at >= *lane.next_retry && lane.fetched.size() < 2 * window_entries;
    const bool firsts = lane.look && lane.fetched.size() <= refill_below;
    if ((retries || firsts) && lane.held.size() < max_held) fetch_lane(i, lock);
  }
}

// Reads without the lock: only this thread adds to `fetched` and moves the cursor.
void Deliverer::Impl::fetch_lane(std::size_t index, std::unique_lock<std::mutex>& lock) {
  Lane& lane = core->lanes[index];
  const Timestamp at = now();
  const bool firsts_wanted = lane.look && lane.fetched.size() <= refill_below;
  const bool retries_wanted = lane.next_retry && at >= *lane.next_retry;
  if (firsts_wanted) lane.look = false;  // before it is read: a wake() meanwhile counts
  if (retries_wanted) lane.next_retry.reset();
  lane.reading = true;
  lock.unlock();
  std::vector<store::Delivery> retries, firsts;
  std::optional<Timestamp> next_retry;
  const auto read = [&]() -> Result<void> {
    constexpr store::Reader::Window window{window_entries, window_bytes};
    if (retries_wanted) {
      // No retry is further away than that.
      const auto horizon = later(at, std::max<std::chrono::nanoseconds>(policy.max_delay, lane.breaker.open_for()));
      DE_TRY(retries, reader->due_retries(lane.name, at, horizon, window));
      DE_TRY(next_retry, reader->next_retry(lane.name, at));
    }
    if (firsts_wanted) {
      DE_TRY(firsts, reader->first_deliveries(lane.name, lane.cursor, window));
    }
    return {};
  }();
  lock.lock();
  lane.reading = false;
  const auto settled = std::exchange(lane.settled, {});
  lane.store_retry.reset();
  if (!read) {
    observe::log(Level::error, "alert", "the outbox cannot be read",
                 {{"sink", std::string_view(lane.name)}, {"error", std::string_view(read.error().message)}});
    lane.store_retry = later(at, store_retry);
    lane.look = true;
    if (retries_wanted) lane.next_retry = at;
    return;
  }
  const bool all = retries.size() < window_entries;
  // Until its outcome is committed the outbox still shows it as due.
  std::erase_if(retries, [&](const store::Delivery& retry) {
    return settled.contains(retry.outbox_id) || !lane.held.insert(retry.outbox_id).second;
  });
  refuse_unreadable(index, retries, at);
  const bool new_ones = !retries.empty();
  lane.add_retries(std::move(retries));
  if (retries_wanted) {
    sooner(lane.next_retry, next_retry);
    if (new_ones) sooner(lane.next_retry, later(at, soonest_look));  // there may be more behind them
    if (!new_ones && !all) sooner(lane.next_retry, later(at, store_retry));
  }
  if (!firsts.empty()) {
    lane.look = true;
    lane.cursor = firsts.back().outbox_id;
  }
  refuse_unreadable(index, firsts, at);
  for (auto& delivery : firsts) {
    lane.held.insert(delivery.outbox_id);
    lane.fetched.push_back(std::move(delivery));
  }
}

// No attempt can be made of these, and no other alert waits for them.
void Deliverer::Impl::refuse_unreadable(std::size_t index, std::vector<store::Delivery>& read, Timestamp at) {
  Lane& lane = core->lanes[index];
  std::erase_if(read, [&](const store::Delivery& delivery) {
    if (delivery.unreadable.empty()) return false;
    observe::log(Level::error, "alert", "an alert cannot be read: it goes to the dead letters",
                 {{"sink", std::string_view(lane.name)}, {"error", std::string_view(delivery.unreadable)}});
    lane.held.insert(delivery.outbox_id);
    core->finished.push_back({index, lane.refuse(delivery, at)});
    core->poke();
    return true;
  });
}

// What has waited too long for a sink that is down, as far as it is in memory.
void Deliverer::Impl::expire_waiting(std::size_t index, Timestamp at) {
  Lane& lane = core->lanes[index];
  if (lane.breaker.state(at) == Breaker::State::closed) return;
  std::erase_if(lane.fetched, [&](const store::Delivery& delivery) {
    auto expired = lane.expire(delivery, at, policy);
    if (!expired) return false;
    core->finished.push_back({index, std::move(*expired)});
    core->poke();
    return true;
  });
}

// Attempts that take long give their place to others. How long until the next one may.
std::chrono::nanoseconds Deliverer::Impl::find_slow() {
  std::chrono::nanoseconds wait = longest_wait;
  const auto steady = base::SteadyClock::now();
  for (auto& lane : core->lanes) {
    if (!lane.busy || lane.slow) continue;
    const auto left = lane.attempt_began + slow_after - steady;
    if (left.count() <= 0) {
      lane.slow = true;
      --core->places;
      core->woken = true;  // whoever calls: the place is to be given at once
    } else {
      wait = std::min(wait, std::chrono::nanoseconds(left));
    }
  }
  return wait;
}

std::optional<Timestamp> Deliverer::Impl::assign() {
  std::optional<Timestamp> next;
  const Timestamp at = now();
  const std::size_t count = core->lanes.size();
  core->crowded = false;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t index = (first_lane + i) % count;
    Lane& lane = core->lanes[index];
    if (lane.held.size() < max_held) {
      if (lane.store_retry)
        sooner(next, lane.store_retry);
      else if (lane.fetched.size() < 2 * window_entries)
        sooner(next, lane.next_retry);
    }
    if (!lane.summarizing) sooner(next, lane.next_summary);
    if (lane.busy) continue;
    if (const auto until = lane.closed_until(at, policy)) {
      expire_waiting(index, at);
      sooner(next, until);
      for (const auto& waiting : lane.fetched) sooner(next, later(waiting.since, policy.max_age));
      continue;
    }
    if (lane.fetched.empty()) continue;
    if (core->places >= max_parallel) {
      if (!core->crowded) first_lane = index;  // the next place is its
      core->crowded = true;
      continue;
    }
    lane.busy = true;
    lane.slow = false;
    lane.attempt_began = base::SteadyClock::now();
    ++core->busy;
    ++core->places;
    core->ready.push_back(index);
    if (core->ready.size() > core->idle && workers.size() < count) workers.emplace_back([this] { run_worker(); });
    core->work.notify_one();
  }
  return next;
}

void Deliverer::Impl::summarize(std::unique_lock<std::mutex>& lock) {
  for (std::size_t i = 0; i < core->lanes.size(); ++i) {
    const Lane& lane = core->lanes[i];
    if (!lane.summarizing && lane.next_summary && now() >= *lane.next_summary) summarize_lane(i, lock);
  }
}

// When the window of the sink's rate limit is over, one alert tells what it held back.
void Deliverer::Impl::summarize_lane(std::size_t index, std::unique_lock<std::mutex>& lock) {
  Lane& lane = core->lanes[index];
  const auto span = std::chrono::milliseconds(settings[index].rate_limit.per_ms);
  const bool limited = settings[index].rate_limit.alerts > 0;
  lock.unlock();
  const Timestamp at = now();
  const auto window = reader->rate_window(lane.name);
  lock.lock();
  if (!window) {
    lane.next_summary = later(at, store_retry);
    return;
  }
  std::optional<Timestamp> end;
  // One that began in the future began before the clock was set back.
  if (limited && window->started && *window->started < later(at, span)) end = later(*window->started, span);
  const bool open = end && at < *end;
  lane.next_summary.reset();
  // A window that begins after now ends after that.
  if (limited) lane.next_summary = open ? *end : later(at, span);
  if (window->held == 0 || open) return;
  lane.summarizing = true;
  lock.unlock();
  writer.change(
      [sink = lane.name, summary = own_alert(at)](db::StatementCache& statements) -> Result<void> {
        DE_TRY([[maybe_unused]] const auto held, store::write_summary(statements, sink, summary));
        return {};
      },
      [shared = core, index](const Result<void>& result) {
        std::lock_guard held(shared->mutex);
        Lane& of = shared->lanes[index];
        of.summarizing = false;
        of.look = true;
        if (!result) {
          observe::log(Level::error, "alert", "the summary of a rate limit could not be written",
                       {{"sink", std::string_view(of.name)}, {"error", std::string_view(result.error().message)}});
        }
        shared->poke();
      });
  lock.lock();
}

}  // namespace daemoneye::alert
