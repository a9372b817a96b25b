// Rules on the stream: each committed event is shown to each active stream rule exactly once.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "detect/rule.h"
#include "sql/connection.h"
#include "store/writer.h"

namespace daemoneye::detect {

struct EngineOptions {
  std::string store_path, audit_path;
  store::ReaderPool* readers = nullptr;  // of the store; null: connections of its own to store_path
  std::vector<std::string> rule_paths;
  std::chrono::milliseconds rule_timeout{30000};
  std::chrono::milliseconds dedup_window{300000};
  std::uint64_t rule_memory = 24 * 1024 * 1024;  // of one evaluation
  // New alerts a rule may raise in a minute; the matches beyond are counted on one alert. 0: no limit.
  std::uint32_t rule_alerts_a_minute = 600;
  std::size_t schedule_workers = 2;
  // Until when all that the collectors saw is in the store; any thread. A scheduled rule's run waits for that as long
  // as schedule_patience allows. None: the store is all there is.
  std::function<Timestamp()> covered;
  std::chrono::nanoseconds schedule_patience{std::chrono::seconds(30)};
  std::chrono::nanoseconds schedule_least_grace{std::chrono::seconds(2)};   // after a scheduled rule's moment
  std::chrono::nanoseconds schedule_pause{std::chrono::milliseconds(100)};  // between two runs that are late
  std::string host, agent_version;
  std::uint32_t queue_capacity = 256;  // committed batches that wait; a full queue is caught up from the store
  std::uint32_t chunk_events = 1024;   // evaluated at once while catching up; bounds memory
  // Which sinks an alert goes to (alert's routing).
  std::function<std::vector<store::Route>(const store::Alert&)> route;
  // Called after an alert and its outbox entries are committed.
  std::function<void()> on_raised;
  // Other rules are in force than before; `before` is null at the start. Called when the engine starts and from its
  // rules thread.
  std::function<void(const RuleSet* before, const RuleSet& now)> on_rules;
  // A file whose SQL the front door refused, once for each content of it. From the rules' thread, or within start().
  std::function<void(const UnhealthyRule& refused, const RuleProblem& why)> on_refused;
  // A rule was over its time or memory when it ran: the first time in a row, and when it is suspended for it. From the
  // thread that ran it.
  std::function<void(const std::string& rule_id, const std::string& reason)> on_over_budget;
};

// Threads: detection (the stream), the schedule's workers (rules with `evaluate`), rules (watches the folders, compiles
// aside). An alert is raised together with the stream watermark in one transaction, so every event is matched against
// every rule exactly once, across reloads, stops and kills; what was not evaluated when the agent ended is caught up at
// the next start. While catching up, `now` is the time of the newest event shown; else it is the time of the commit.
class Engine {
 public:
  // Loads the rules and starts the threads; the first thing they do is catch up from the stream watermark.
  // `writer` outlives this.
  static Result<std::unique_ptr<Engine>> start(EngineOptions options, store::Writer& writer);
  // Without stop() before: cancels what is under way. Waits for the threads, and so for a paused writer until it is
  // closed.
  ~Engine();

  // From the writer's thread, after each commit, in order. Never blocks.
  void on_commit(const store::Commit& commit);
  // Loads again in the background (file change, SIGHUP, operator).
  void reload();
  // Other folders and limits than it was started with; the folders are loaded in the background.
  struct Tuning {
    std::vector<std::string> rule_paths;
    std::chrono::milliseconds rule_timeout, dedup_window;
  };
  void retune(Tuning tuning);
  // The store's rule overrides are others than before: takes them over in the background; states of rules stay.
  void overrides_changed();
  // Processes what is queued until the deadline, then stops.
  void stop(Deadline deadline);

  struct RuleState {
    std::string rule_id, state, reason;
    std::uint64_t evaluations = 0, candidates = 0, matches = 0, timeouts = 0;  // candidates: rows it was shown
    std::uint64_t left_out = 0;    // runs of a scheduled rule that were too long ago to be caught up
    std::uint64_t held_back = 0;   // matches that its limit counted on one alert
    std::uint64_t incomplete = 0;  // evaluations that could not see everything, whether they found something or not
    std::string missing;           // what the last one could not see; empty: nothing
    double p50_ms = 0, p99_ms = 0;
  };
  struct State {
    std::size_t active = 0, inactive = 0, unhealthy = 0;  // unhealthy ones may be active: a last good version
    event::EventId evaluated_to = 0;
    std::string problem;         // detection as a whole stands still or may miss rule changes, and why; empty when well
    std::string slower;          // why detection costs more than it need; empty when it does not
    std::size_t unfiltered = 0;  // active stream rules that are shown every row
    std::uint64_t scans_evaluated = 0;  // of which rules asked for counters, the look at the start included
    std::uint64_t alerts = 0, merged = 0;
    std::size_t queued = 0, queue_capacity = 0;  // committed batches that wait for the stream's thread
    double p50_ms = 0, p99_ms = 0;               // from the commit of a batch to the end of its evaluation
    std::uint64_t lost = 0;                      // alerts that the store refused
    std::vector<RuleState> rules;
  };
  [[nodiscard]] State state() const;

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// What `rules test` does: the rule over stored history in `range`, without alerts; each matching row, with the time of
// its event (stream) or of the run (scheduled). `now` is the evaluated moment: the event's time for a stream rule, each
// `every` in the range for a scheduled one. Of `options` deadline, stop and row_limit count.
struct TestStats {
  sql::RunStats run;
  std::uint64_t events = 0;                // that a stream rule was shown
  std::uint64_t runs = 0;                  // of a scheduled one
  std::chrono::nanoseconds evaluating{0};  // within the rule's statement
};
Result<TestStats> test_rule(sql::Connection& connection, const LoadedRule& rule, const event::TimeRange& range,
                            const sql::RunOptions& options,
                            const std::function<bool(const sql::Row&, Timestamp moment)>& each);

}  // namespace daemoneye::detect
