// `sinks test`: a marked alert to each sink, beside what is delivered.
#include <algorithm>

#include "alert/delivery_impl.h"

namespace daemoneye::alert {
namespace {

// What a test shares with its threads.
struct Run {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::optional<AttemptOutcome>> outcomes;
  std::size_t left = 0;
};

double milliseconds(std::chrono::nanoseconds span) { return std::chrono::duration<double, std::milli>(span).count(); }

}  // namespace

Result<std::vector<Deliverer::TestResult>> Deliverer::test(const std::string& sink, Deadline deadline) {
  const auto impl = current();
  const std::unique_lock one(impl->test_mutex, std::try_to_lock);
  if (!one) return fail(Errc::unavailable, "another test of sinks is running");
  std::vector<Lane*> lanes;
  std::string known;
  for (auto& lane : impl->core->lanes) {
    if (sink.empty() || lane.name == sink) lanes.push_back(&lane);
    known += (known.empty() ? "" : ", ") + lane.name;
  }
  if (lanes.empty()) {
    return fail(Errc::not_found,
                sink.empty() ? "no sink is configured" : "no sink '" + sink + "'; there are: " + known);
  }
  store::Alert alert = impl->own_alert(impl->now());
  alert.alert_id = "sink-test-" + alert.alert_id;
  alert.rule_id = store::sink_test_rule;
  alert.severity = store::Severity::low;
  alert.title = "Test of this sink: nothing has happened";
  alert.description = "Sent by `daemoneye-cli sinks test` to see that alerts arrive.";

  Run run;
  run.outcomes.resize(lanes.size());
  run.left = lanes.size();
  std::stop_source stop;
  const std::stop_callback with_us(impl->sends.get_token(), [&] { stop.request_stop(); });
  const auto begin = base::SteadyClock::now();
  std::vector<std::jthread> senders;
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    senders.emplace_back([&, i] {
      auto outcome = impl->attempt(*lanes[i]->sink, alert, stop.get_token());
      const std::lock_guard lock(run.mutex);
      run.outcomes[i] = std::move(outcome);
      --run.left;
      run.changed.notify_all();
    });
  }
  std::vector<std::optional<AttemptOutcome>> outcomes;
  {
    std::unique_lock lock(run.mutex);
    run.changed.wait_until(lock, deadline.point(), [&] { return run.left == 0; });
    outcomes = run.outcomes;
  }
  stop.request_stop();
  senders.clear();  // each returns soon after the stop

  std::vector<TestResult> results;
  std::vector<store::DeliveryRecord> records;
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    TestResult result{.sink = lanes[i]->name, .type = lanes[i]->type, .error = {}, .response_code = {}};
    const auto took = outcomes[i] ? outcomes[i]->duration : base::SteadyClock::now() - begin;
    result.latency_ms = milliseconds(took);
    if (!outcomes[i]) {
      result.error = "no answer within " + std::to_string(static_cast<long long>(result.latency_ms)) + " ms";
    } else if (outcomes[i]->result) {
      result.delivered = true;
      result.response_code = outcomes[i]->result->response_code;
    } else {
      result.error = outcomes[i]->result.error().message;
      result.response_code = outcomes[i]->result.error().response_code;
    }
    store::DeliveryRecord record;
    record.alert_id = alert.alert_id;
    record.sink = result.sink;
    record.outcome = result.delivered ? "delivered" : "failed";
    record.attempt = 0;
    record.time = alert.time;
    record.duration_ms = static_cast<std::int64_t>(result.latency_ms);
    record.error = result.error.substr(0, 1024);
    record.response_code = result.response_code;
    records.push_back(std::move(record));
    results.push_back(std::move(result));
  }
  impl->writer.record_deliveries(std::move(records), {});
  return results;
}

}  // namespace daemoneye::alert
