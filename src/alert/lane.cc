#include "alert/lane.h"

#include <algorithm>

#include "base/backoff.h"
#include "observe/metrics.h"

namespace daemoneye::alert {
namespace {

// An error text from a peer is kept in a table row.
constexpr std::size_t max_error_bytes = 1024;

// Full jitter must not mean "at once".
constexpr std::chrono::milliseconds shortest_delay{100};

std::chrono::milliseconds retry_delay(unsigned attempt, const RetryPolicy& policy, std::uint64_t seed) {
  base::Backoff backoff(policy.first_delay, policy.max_delay, seed, std::min(shortest_delay, policy.first_delay));
  auto delay = backoff.next();
  for (unsigned made = 1; made < attempt; ++made) delay = backoff.next();
  return delay;
}

}  // namespace

store::DeliveryRecord Lane::finish(const store::Delivery& delivery, const AttemptOutcome& outcome, bool probe,
                                   const RetryPolicy& policy, std::uint64_t seed) {
  store::DeliveryRecord record;
  record.outbox_id = delivery.outbox_id;
  record.alert_id = delivery.alert.alert_id;
  record.sink = name;
  // A probe of a sink that is known to be down counts no retry.
  record.attempt = probe ? std::max(delivery.attempts, 1U) : delivery.attempts + 1;
  record.time = outcome.started;
  record.duration_ms = outcome.duration.count();
  if (outcome.result) {
    record.outcome = "delivered";
    record.response_code = outcome.result->response_code;
    breaker.succeeded();
    ++delivered;
    last_success = outcome.ended;
    last_error.clear();
    observe::alert_deliveries(type).add();
    return record;
  }
  const auto& error = outcome.result.error();
  record.error = error.message.substr(0, max_error_bytes);
  record.response_code = error.response_code;
  last_error = record.error;
  ++failed;
  observe::counter("daemoneye_alert_delivery_failures_total", "Delivery attempts that failed.", {{"sink", type}}).add();
  if (error.permanent) {
    breaker.succeeded();  // it refuses this alert, but it answers
  } else {
    breaker.failed(outcome.ended);
  }
  if (error.permanent || (!probe && record.attempt > policy.max_retries)) {
    record.outcome = "dead_letter";
    ++dead_letters;
    observe::counter("daemoneye_alert_dead_letters_total", "Alerts given up, by sink.", {{"sink", type}}).add();
    return record;
  }
  record.outcome = "failed";
  auto next_attempt =
      Timestamp{outcome.ended.ns + std::chrono::nanoseconds(retry_delay(record.attempt, policy, seed)).count()};
  if (breaker.state(outcome.ended) == Breaker::State::open) next_attempt = std::max(next_attempt, breaker.open_until());
  record.next_attempt = next_attempt;
  return record;
}

std::optional<store::DeliveryRecord> Lane::expire(const store::Delivery& delivery, Timestamp now,
                                                  const RetryPolicy& policy) {
  if (breaker.state(now) == Breaker::State::closed) return std::nullopt;
  if (now.ns - delivery.alert.time.ns <= std::chrono::nanoseconds(policy.max_age).count()) return std::nullopt;
  store::DeliveryRecord record;
  record.outbox_id = delivery.outbox_id;
  record.alert_id = delivery.alert.alert_id;
  record.sink = name;
  record.outcome = "dead_letter";
  record.attempt = std::max(delivery.attempts, 1U);
  record.time = now;
  record.error = "not delivered within alerting.max_age_ms; last error: " + last_error;
  ++dead_letters;
  observe::counter("daemoneye_alert_dead_letters_total", "Alerts given up, by sink.", {{"sink", type}}).add();
  return record;
}

}  // namespace daemoneye::alert
