#include "alert/lane.h"

#include <algorithm>

#include "base/backoff.h"

namespace daemoneye::alert {
namespace {

// An error text from a peer is kept in a table row.
constexpr std::size_t max_error_bytes = 1024;

constexpr std::chrono::milliseconds longest_store_retry{1000};

// Full jitter must not mean "at once".
constexpr std::chrono::milliseconds shortest_delay{100};

std::chrono::milliseconds retry_delay(unsigned attempt, const RetryPolicy& policy, std::uint64_t seed) {
  base::Backoff backoff(policy.first_delay, policy.max_delay, seed, std::min(shortest_delay, policy.first_delay));
  auto delay = backoff.next();
  for (unsigned made = 1; made < attempt; ++made) delay = backoff.next();
  return delay;
}

Timestamp later(Timestamp time, std::chrono::milliseconds by) {
  return Timestamp{time.ns + std::chrono::nanoseconds(by).count()};
}

void bound(std::optional<Timestamp>& time, Timestamp latest) {
  if (time && latest < *time) time = latest;
}

std::string too_old(const std::string& last_error) {
  return "not delivered within alerting.max_age_ms; last error: " + last_error;
}

observe::Labels labels(const Lane& lane) { return {{"sink", lane.type}, {"name", lane.name}}; }

}  // namespace

Lane::Lane(std::string sink_name, std::string sink_type, std::unique_ptr<AlertSink> sink_, Breaker breaker_)
    : name(std::move(sink_name)),
      type(std::move(sink_type)),
      sink(std::move(sink_)),
      breaker(breaker_),
      attempts_total_(
          observe::counter("daemoneye_alert_delivery_attempts_total", "Attempts to deliver an alert.", labels(*this))),
      failures_total_(
          observe::counter("daemoneye_alert_delivery_failures_total", "Delivery attempts that failed.", labels(*this))),
      dead_letters_total_(observe::counter("daemoneye_alert_dead_letters_total", "Alerts given up.", labels(*this))),
      delivered_total_(observe::alert_deliveries(type)),
      seconds_(observe::histogram("daemoneye_alert_delivery_seconds", "How long a successful delivery took.",
                                  labels(*this))) {}

store::DeliveryRecord Lane::give_up(store::DeliveryRecord record) {
  record.outcome = "dead_letter";
  ++dead_letters;
  dead_letters_total_.add();
  return record;
}

store::DeliveryRecord Lane::finish(const store::Delivery& delivery, const AttemptOutcome& outcome, bool probe,
                                   const RetryPolicy& policy, std::uint64_t seed) {
  store::DeliveryRecord record;
  record.outbox_id = delivery.outbox_id;
  record.alert_id = delivery.alert.alert_id;
  record.sink = name;
  // A probe of a sink that is known to be down counts no retry.
  record.attempt = probe ? std::max(delivery.attempts, 1U) : delivery.attempts + 1;
  record.time = outcome.started;
  record.duration_ms = std::chrono::duration_cast<std::chrono::milliseconds>(outcome.duration).count();
  ++attempts;
  attempts_total_.add();
  if (outcome.result) {
    record.outcome = "delivered";
    record.response_code = outcome.result->response_code;
    breaker.succeeded();
    not_before.reset();
    ++delivered;
    last_success = outcome.ended;
    last_error.clear();
    latencies.add(outcome.duration);
    seconds_.observe(std::chrono::duration<double>(outcome.duration).count());
    delivered_total_.add();
    return record;
  }
  const auto& error = outcome.result.error();
  record.error = error.message.substr(0, max_error_bytes);
  record.response_code = error.response_code;
  last_error = record.error;
  last_failure = outcome.ended;
  ++failed;
  failures_total_.add();
  if (error.permanent) {
    breaker.succeeded();  // it refuses this alert, but it answers
  } else {
    breaker.failed(outcome.ended);
  }
  std::optional<Timestamp> asked;
  if (error.retry_after && error.retry_after->count() > 0) {
    asked = later(outcome.ended, std::min(*error.retry_after, policy.max_delay));
    not_before = asked;  // it means the sink, not only this alert
  }
  if (error.permanent || (!probe && record.attempt > policy.max_retries)) return give_up(std::move(record));
  if (probe && outcome.ended > later(delivery.since, policy.max_age)) {
    record.error = too_old(record.error);
    return give_up(std::move(record));
  }
  record.outcome = "failed";
  record.next_attempt = asked.value_or(later(outcome.ended, retry_delay(record.attempt, policy, seed)));
  if (breaker.state(outcome.ended) == Breaker::State::open) {
    record.next_attempt = std::max(*record.next_attempt, breaker.open_until());
  }
  return record;
}

std::optional<store::DeliveryRecord> Lane::expire(const store::Delivery& delivery, Timestamp now,
                                                  const RetryPolicy& policy) {
  // A sink that may be back is tried first: after a long stop it may well be.
  if (breaker.state(now) != Breaker::State::open) return std::nullopt;
  if (now <= later(delivery.since, policy.max_age)) return std::nullopt;
  store::DeliveryRecord record;
  record.outbox_id = delivery.outbox_id;
  record.alert_id = delivery.alert.alert_id;
  record.sink = name;
  record.attempt = std::max(delivery.attempts, 1U);
  record.time = now;
  record.error = too_old(last_error);
  return give_up(std::move(record));
}

store::DeliveryRecord Lane::refuse(const store::Delivery& unreadable, Timestamp now) {
  store::DeliveryRecord record;
  record.outbox_id = unreadable.outbox_id;
  record.alert_id = unreadable.alert.alert_id;
  record.sink = name;
  record.attempt = std::max(unreadable.attempts, 1U);
  record.time = now;
  record.error = ("the alert cannot be read from the store: " + unreadable.unreadable).substr(0, max_error_bytes);
  last_error = record.error;
  return give_up(std::move(record));
}

std::optional<Timestamp> Lane::closed_until(Timestamp now, const RetryPolicy& policy) {
  bound(not_before, later(now, policy.max_delay));
  if (breaker.state(now) == Breaker::State::open) return std::max(breaker.open_until(), not_before.value_or(now));
  if (not_before && now < *not_before) return not_before;
  return std::nullopt;
}

store::Delivery Lane::take(bool probe) {
  auto chosen = fetched.begin();
  if (probe) {
    const auto first = std::ranges::find(fetched, 0U, &store::Delivery::attempts);
    if (probe_first && first != fetched.end()) chosen = first;
    probe_first = chosen->attempts > 0;
  }
  auto task = std::move(*chosen);
  fetched.erase(chosen);
  return task;
}

void Lane::add_retries(std::vector<store::Delivery> retries) {
  if (retries.empty()) return;  // libstdc++ moves elements onto themselves to insert nothing, which empties strings
  const auto firsts = std::ranges::find(fetched, 0U, &store::Delivery::attempts);
  fetched.insert(firsts, std::make_move_iterator(retries.begin()), std::make_move_iterator(retries.end()));
}

void Lane::bound_times(Timestamp now, const RetryPolicy& policy, std::chrono::milliseconds summary_span) {
  bound(next_retry, later(now, std::max(policy.max_delay, breaker.open_for())));
  bound(store_retry, later(now, longest_store_retry));
  bound(next_summary, later(now, std::max(summary_span, longest_store_retry)));
}

store::SinkRecord Lane::record() const {
  store::SinkRecord record;
  record.sink = name;
  record.type = type;
  record.breaker = to_string(breaker.last_state());
  record.failures = breaker.failures_in_a_row();
  record.open_until = std::max(breaker.open_until(), not_before.value_or(Timestamp{}));
  record.last_success = last_success;
  record.last_failure = last_failure;
  record.last_error = last_error;
  return record;
}

void Lane::restore(const store::SinkRecord& record, Timestamp now) {
  breaker.restore(parse_breaker(record.breaker), record.failures, record.open_until, now);
  if (record.open_until > now) not_before = record.open_until;
  last_success = record.last_success;
  last_failure = record.last_failure;
  last_error = record.last_error;
}

}  // namespace daemoneye::alert
