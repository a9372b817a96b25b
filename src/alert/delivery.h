// Delivers what lies in the outbox: concurrently, in order a sink, with retries, and every attempt recorded.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "alert/sink.h"
#include "config/settings.h"
#include "store/reader.h"
#include "store/writer.h"

namespace daemoneye::alert {

// The names of the sinks that want this alert (min_severity).
std::vector<std::string> route(const std::vector<config::SinkSettings>& sinks, const store::Alert& alert);

// At most max_parallel_deliveries attempts run at once, and at most one a sink: first attempts keep their order, and a
// sink that hangs holds one worker and nothing else. An entry leaves the outbox only when the outcome of its delivery
// is committed, so a crash repeats an alert (same alert_id) and never loses one. A temporary failure is retried with
// backoff, at most max_retries times; while a sink's breaker is open its alerts wait, and the probes that look whether
// it is back use up no retries.
class Deliverer {
 public:
  // The sinks are made from the settings; the first that cannot be made is the error. `writer` outlives this.
  static Result<std::unique_ptr<Deliverer>> start(const config::Settings::Alerting& settings,
                                                  const std::string& store_path, store::Writer& writer);
  // What start() takes from outside, for tests.
  struct Outside {
    std::vector<std::unique_ptr<AlertSink>> sinks;  // one for each of settings.sinks, in that order
    std::function<Timestamp()> now = base::wall_now;
    std::chrono::milliseconds first_retry{1000};
  };
  static Result<std::unique_ptr<Deliverer>> start(const config::Settings::Alerting& settings,
                                                  const std::string& store_path, store::Writer& writer,
                                                  Outside outside);
  // Stops without waiting when stop() was not called; returns once the sinks gave up (see AlertSink::send).
  ~Deliverer();
  void wake();    // new outbox entries are committed; any thread
  void reopen();  // SIGHUP
  // Finishes the attempts under way until the deadline; what is not delivered stays in the outbox.
  void stop(Deadline deadline);

  struct SinkState {
    std::string name, type;
    HealthStatus health;
    std::string breaker;  // closed | open | half_open
    std::uint64_t delivered = 0, failed = 0, dead_letters = 0, waiting = 0;
    std::optional<Timestamp> last_success;
  };
  [[nodiscard]] std::vector<SinkState> state() const;  // any thread; counts since start, `waiting` from the store

 private:
  struct Impl;
  explicit Deliverer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace daemoneye::alert
