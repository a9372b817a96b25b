// One sink's way through the deliverer: what is fetched, under way, tried and not yet recorded. Plain data, guarded
// by the deliverer's mutex; the decisions are here, the threads are in delivery.cc.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "alert/breaker.h"
#include "alert/sink.h"
#include "observe/latencies.h"
#include "observe/metrics.h"
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
  std::chrono::nanoseconds duration{0};
};

struct Lane {
  Lane(std::string sink_name, std::string sink_type, std::unique_ptr<AlertSink> sink_, Breaker breaker_);

  // What to write down of an attempt; moves the breaker and the counters. `seed` gives the jitter.
  store::DeliveryRecord finish(const store::Delivery& delivery, const AttemptOutcome& outcome, bool probe,
                               const RetryPolicy& policy, std::uint64_t seed);
  // Set when a waiting alert has waited longer than allowed for a sink that is down.
  [[nodiscard]] std::optional<store::DeliveryRecord> expire(const store::Delivery& delivery, Timestamp now,
                                                            const RetryPolicy& policy);
  // Of one whose row cannot be read: no attempt can be made.
  [[nodiscard]] store::DeliveryRecord refuse(const store::Delivery& unreadable, Timestamp now);
  // Nothing is sent before then: an open breaker, or the sink asked for it. Nothing: now.
  [[nodiscard]] std::optional<Timestamp> closed_until(Timestamp now, const RetryPolicy& policy);
  // The next of `fetched`. A probe takes a first attempt and a retry in turn, so that an alert which the sink cannot
  // digest does not keep it down for all the others.
  store::Delivery take(bool probe);
  // Retries go behind those that wait already, and before first attempts.
  void add_retries(std::vector<store::Delivery> retries);
  // Times that a clock set back has put out of reach are brought near again.
  void bound_times(Timestamp now, const RetryPolicy& policy, std::chrono::milliseconds summary_span);

  // What survives a restart.
  [[nodiscard]] store::SinkRecord record() const;
  void restore(const store::SinkRecord& record, Timestamp now);

  const std::string name, type;
  const std::unique_ptr<AlertSink> sink;
  Breaker breaker;
  std::optional<Timestamp> not_before;  // asked for by the sink (Retry-After)

  std::deque<store::Delivery> fetched;       // retries that are due, then first attempts in order
  bool probe_first = true;                   // the next probe is a first attempt
  std::unordered_set<std::int64_t> held;     // outbox ids fetched, under way, or whose outcome is not committed yet
  bool reading = false;                      // the outbox is being read, without the lock;
  std::unordered_set<std::int64_t> settled;  // meanwhile these outcomes were committed: what was read of them is old
  std::int64_t cursor = 0;                   // first attempts up to here were fetched
  bool look = true;                          // the outbox may hold first attempts beyond the cursor
  std::optional<Timestamp> next_retry;       // when the outbox holds a retry that is due
  std::optional<Timestamp> store_retry;      // the outbox could not be read: not before then
  std::optional<Timestamp> next_summary;     // when the rate limit's window has to be looked at
  bool summarizing = false;                  // a summary is being written

  bool busy = false;  // a worker has it
  bool slow = false;  // and takes so long that its place went to others
  base::SteadyClock::time_point attempt_began;

  std::uint64_t attempts = 0, delivered = 0, failed = 0, dead_letters = 0;  // since the start
  observe::Latencies latencies;
  std::optional<Timestamp> last_success, last_failure;
  std::string last_error;  // of the last attempt; empty after a success

 private:
  store::DeliveryRecord give_up(store::DeliveryRecord record);

  observe::Counter attempts_total_, failures_total_, dead_letters_total_, delivered_total_;
  observe::Histogram seconds_;
};

}  // namespace daemoneye::alert
