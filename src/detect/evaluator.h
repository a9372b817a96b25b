// Runs rules over rows on one connection; makes alerts, raises none. One thread at a time.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <stop_token>
#include <unordered_map>
#include <vector>

#include "detect/alert_builder.h"
#include "detect/engine.h"
#include "detect/live_changes.h"
#include "detect/prefilter.h"
#include "detect/rule_board.h"
#include "detect/rule_limits.h"
#include "detect/stored_events.h"

namespace daemoneye::detect {

// What may change while rules run; any thread.
struct LiveLimits {
  explicit LiveLimits(const EngineOptions& options)
      : rule_timeout(options.rule_timeout), dedup_window(options.dedup_window) {}
  std::atomic<std::chrono::milliseconds> rule_timeout, dedup_window;
};

// One run of a scheduled rule.
struct ScheduledRun {
  Timestamp now;      // its moment
  bool late = false;  // it should have been before this one's time: its alerts say so
  // Set: what came after this was not told when it ran, and was waited for in vain.
  std::optional<Timestamp> covered;
};

// Who makes the runs of scheduled rules. One thread at a time.
class ScheduledRunner {
 public:
  virtual ~ScheduledRunner() = default;
  virtual void use(std::shared_ptr<const RuleSet> rules) = 0;
  // An error is the store's or the stop's: nothing was evaluated, and the run is to be made again. A rule that fails is
  // noted on the board.
  virtual Result<std::vector<store::Writer::Raise>> scheduled(const std::string& rule_id, const ScheduledRun& run,
                                                              std::stop_token stop) = 0;
};

class Evaluator : public ScheduledRunner {
 public:
  // `options`, `live`, `board` and `limits` outlive this.
  Evaluator(std::unique_ptr<sql::Connection> connection, const EngineOptions& options, const LiveLimits& live,
            RuleBoard& board, RuleLimits& limits);

  // From now on these rules; what was prepared for rules that are gone is dropped. `prefilter`: of the same set; null:
  // every row is shown to every stream rule, which gives the same and costs more.
  void use(std::shared_ptr<const RuleSet> rules, std::shared_ptr<const Prefilter> prefilter);
  void use(std::shared_ptr<const RuleSet> rules) override { use(std::move(rules), nullptr); }

  // Each active stream rule over `events`, all on one snapshot, with `now` as their present. `raised` is the time of
  // the alerts. A rule that fails is noted on the board and the others go on; an error is the store's or the stop's:
  // then nothing was evaluated and the events must be shown again.
  Result<std::vector<store::Writer::Raise>> stream(const StoredEvents& events, Timestamp now, Timestamp raised,
                                                   std::stop_token stop);

  // The same of a batch as it was sent, whose first event has this id: only the events that a rule must see are made
  // whole, and mostly that is none.
  Result<std::vector<store::Writer::Raise>> stream(const event::BatchView& batch, event::EventId first, Timestamp now,
                                                   Timestamp raised, std::stop_token stop);

  // What rules in use ask of scans; 0: nothing, and nobody need look for it.
  [[nodiscard]] CounterSet counters() const { return counters_; }
  // Each of those rules over the processes of which something that it asks for has changed. As stream() otherwise.
  Result<std::vector<store::Writer::Raise>> changed(const LiveChanges::Chunk& chunk, Timestamp now,
                                                    std::stop_token stop);

  // Of one stream rule over one chunk of events: a join that multiplies must not fill the memory.
  static constexpr std::uint64_t max_stream_rows = 10'000;
  static constexpr std::uint64_t max_scheduled_rows = 1000;  // more: the alerts say limit_reached
  // Of one of the rules in use, over its window.
  Result<std::vector<store::Writer::Raise>> scheduled(const std::string& rule_id, const ScheduledRun& run,
                                                      std::stop_token stop) override;

  [[nodiscard]] const RuleSet& rules() const { return *rules_; }
  [[nodiscard]] store::Reader& reader() { return connection_->reader(); }

 private:
  // Kept from a run until the snapshot's next use: alerts need lookups on the same connection.
  struct Match {
    sql::Row row;
    const StoredEvent* driving = nullptr;
    std::optional<Timestamp> happened = {};  // of a scheduled rule: the newest of it
  };
  struct Moment {
    Timestamp now, raised;
    std::stop_token stop;
    bool counters = false;  // the rows are processes with other counters, not events
  };
  // Which rules see all rows; of the others candidates_ has the rows.
  template <class Find>
  const std::vector<std::uint32_t>& look_for_candidates(Find find);
  Result<std::vector<store::Writer::Raise>> show(const StoredEvents& events, const std::vector<std::uint32_t>& see_all,
                                                 const Moment& moment);
  // One stream rule over those of the batch's rows; null: all of them.
  Result<void> stream_rule(const LoadedRule& rule, const StoredEvents& events, const std::vector<std::uint32_t>* rows,
                           const Moment& moment, std::vector<store::Writer::Raise>& raises);
  Result<void> drop_known(const LoadedRule& rule, std::vector<Match>& matches);
  // Matches of processes with other counters point to the last event of these.
  Result<void> find_evidence(std::vector<Match>& matches, std::deque<StoredEvent>& found);
  // Alerts for what a rule matched, within its limit; what is beyond it in one.
  void raise_all(const LoadedRule& rule, const std::vector<Match>& matches, const event::Completeness& completeness,
                 Timestamp raised, std::vector<store::Writer::Raise>& raises);
  [[nodiscard]] store::Writer::Raise raise(const LoadedRule& rule, store::Alert alert) const;
  [[nodiscard]] std::chrono::milliseconds dedup_window(const LoadedRule& rule) const;
  Result<Timestamp> newest_in(const LoadedRule& rule, const sql::Row& row, const event::TimeRange& window);

  std::unique_ptr<sql::Connection> connection_;
  const EngineOptions& options_;
  const LiveLimits& live_;
  RuleBoard& board_;
  RuleLimits& limits_;
  AlertBuilder builder_;
  std::shared_ptr<const RuleSet> rules_ = std::make_shared<const RuleSet>();
  std::shared_ptr<const Prefilter> prefilter_;
  std::unique_ptr<Prefilter::Work> work_;
  Candidates candidates_;
  std::vector<std::uint32_t> stream_rules_;  // places in rules_ of those that are active
  struct CounterRule {
    std::uint32_t place = 0;
    CounterSet counters = 0;
  };
  std::vector<CounterRule> counter_rules_;                          // of the stream rules, those that ask for counters
  CounterSet counters_ = 0;                                         // that they ask for
  std::unordered_map<event::ProcessKey, event::EventId> evidence_;  // looked for before; 0: there is none
};

}  // namespace daemoneye::detect
