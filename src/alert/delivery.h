// Delivers what lies in the outbox: concurrently, in order a sink, with retries, and every attempt recorded.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "alert/route.h"
#include "alert/sink.h"
#include "config/settings.h"
#include "store/reader_pool.h"
#include "store/writer.h"

namespace daemoneye::alert {

// Attempts at most one a sink at a time, so that first attempts keep the order of commit, and at most
// max_parallel_deliveries over all. An attempt that takes longer than `slow_after` gives its place to others: a sink
// that hangs holds one thread and nothing else, however few places there are. An entry leaves the outbox only when the
// outcome of its delivery is committed, so a crash repeats an alert (same alert_id) and never loses one. A temporary
// failure is retried with backoff, at most max_retries times; while a sink's breaker is open its alerts wait, and the
// probes that look whether it is back use up no retries. In memory is a window of each sink's outbox, never all of it.
class Deliverer {
 public:
  struct Identity {
    std::string host, agent_version;  // of the alerts that are made here: summaries and tests
  };
  // The sinks are made from the settings; the first that cannot be made is the error. What waits for a sink that is
  // not in the settings becomes dead letters. `readers` and `writer` outlive this.
  static Result<std::unique_ptr<Deliverer>> start(const config::Settings::Alerting& settings,
                                                  store::ReaderPool& readers, store::Writer& writer,
                                                  Identity identity = {});
  // What start() takes from outside, for tests.
  struct Outside {
    std::vector<std::unique_ptr<AlertSink>> sinks;  // one for each of settings.sinks, in that order
    std::function<Timestamp()> now = base::wall_now;
    std::chrono::milliseconds first_retry{1000};
    std::chrono::milliseconds slow_after{500};
    std::chrono::milliseconds quick_count{5};  // what takes longer may be told as it was shortly before
    Identity identity;
  };
  static Result<std::unique_ptr<Deliverer>> start(const config::Settings::Alerting& settings,
                                                  store::ReaderPool& readers, store::Writer& writer, Outside outside);
  // Stops without waiting when stop() was not called; returns once the sinks gave up (see AlertSink::send).
  ~Deliverer();
  // Other sinks and limits from now on. The error is the first sink that cannot be made: then nothing changed. Else the
  // sinks of before finish what is under way (a few seconds at most), and the others begin with what waits in the
  // outbox: nothing is lost, and what was cut off is sent again with the same alert id. What waits for a sink that is
  // no more becomes dead letters. Returns at once; one thread.
  Result<void> reconfigure(const config::Settings::Alerting& settings);
  [[nodiscard]] bool reconfiguring() const;
  void wake();    // new outbox entries are committed; any thread
  void reopen();  // SIGHUP
  // Finishes the attempts under way until the deadline; what is not delivered stays in the outbox.
  void stop(Deadline deadline);

  struct SinkState {
    std::string name, type;
    HealthStatus health;
    std::string breaker;  // closed | open | half_open
    std::optional<Timestamp> open_until;
    std::uint64_t attempts = 0, delivered = 0, failed = 0;  // since the start
    std::uint64_t waiting = 0, dead_letters = 0;            // now, in the store
    std::optional<Timestamp> oldest_undelivered;            // since when it waits
    std::optional<Timestamp> last_success, last_failure;
    std::string last_error;
    double p50_ms = 0, p99_ms = 0;  // of the last deliveries
  };
  [[nodiscard]] std::vector<SinkState> state() const;                  // any thread; waits for nobody's transaction
  [[nodiscard]] std::size_t in_memory(const std::string& sink) const;  // entries of its outbox
  // Dead letters of sinks that are not configured, by sink.
  [[nodiscard]] std::map<std::string, std::uint64_t> retired() const;

  struct TestResult {
    std::string sink, type;
    bool delivered = false;
    double latency_ms = 0;
    std::string error;  // what to do something about
    std::optional<int> response_code;
  };
  // Sends a marked alert (rule_id sink_test_rule) to each sink, or to `sink`, all at once; blocks until all have
  // answered or the deadline. Recorded as attempt 0 of an alert that is not stored; moves no breaker and no counter.
  // not_found when there is no such sink, unavailable when another test is running.
  Result<std::vector<TestResult>> test(const std::string& sink, Deadline deadline);
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  struct Impl;
  struct Changer;
  explicit Deliverer(std::unique_ptr<Changer> changer);
  // The one at work; who holds it keeps it, whatever is put in its place.
  [[nodiscard]] std::shared_ptr<Impl> current() const;
  std::unique_ptr<Changer> changer_;
};

}  // namespace daemoneye::alert
