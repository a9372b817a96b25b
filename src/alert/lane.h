// One sink's way through the deliverer: what is fetched, under way, tried and not yet recorded. Plain data, guarded
// by the deliverer's mutex; the decisions are here, the threads are in delivery.cc.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "alert/breaker.h"
#include "alert/sink.h"
#include "store/writer.h"

namespace daemoneye::alert {

struct RetryPolicy {
  std::uint32_t max_retries = 3;
  std::chrono::milliseconds first_delay{1000}, max_delay{60000};
  std::chrono::milliseconds max_age{86400000};
};

// How an attempt ended.
struct AttemptOutcome {
  std::expected<DeliveryResult, DeliveryError> result;
  Timestamp started, ended;
  std::chrono::milliseconds duration{0};
};

struct Lane {
  Lane(std::string sink_name, std::string sink_type, std::unique_ptr<AlertSink> sink_, Breaker breaker_)
      : name(std::move(sink_name)), type(std::move(sink_type)), sink(std::move(sink_)), breaker(breaker_) {}

  // What to write down of an attempt; moves the breaker and the counters. `seed` gives the jitter.
  store::DeliveryRecord finish(const store::Delivery& delivery, const AttemptOutcome& outcome, bool probe,
                               const RetryPolicy& policy, std::uint64_t seed);
  // Set when a waiting alert has waited longer than allowed for a sink that is down.
  [[nodiscard]] std::optional<store::DeliveryRecord> expire(const store::Delivery& delivery, Timestamp now,
                                                            const RetryPolicy& policy);

  const std::string name, type;
  const std::unique_ptr<AlertSink> sink;
  Breaker breaker;
  std::deque<store::Delivery> fetched;  // due, in order, none of them tried
  std::set<std::int64_t> unrecorded;    // outbox ids under way, or whose outcome is not committed yet
  bool in_flight = false;
  bool look = true;               // the outbox may hold something due
  std::optional<Timestamp> next;  // when the outbox holds something due again
  std::uint64_t delivered = 0, failed = 0, dead_letters = 0;
  std::optional<Timestamp> last_success;
  std::string last_error;  // of the last attempt; empty after a success
};

}  // namespace daemoneye::alert
