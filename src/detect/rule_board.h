// What is known of each rule while it runs: state, reason, counts, latency. Thread-safe; the detection thread and the
// schedule write, health and the table `detection_rules` read.
//
// healthy -> slow: a run took over 100 ms. An evaluation that could not see everything changes no state: it is counted,
// and what it lacked is told with the rule until one lacks nothing. healthy -> unhealthy: a run failed. After
// `recovery_runs` clean runs in a row both are healthy again. unhealthy -> suspended: `suspend_after` runs in a row
// were over their time or memory, a scheduled rule having run less and less often before; a suspended
// rule is not run until its file changes or the rules are reloaded by hand. A broken file is unhealthy until it is
// mended, also while its last good version runs.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "detect/engine.h"
#include "observe/metrics.h"

namespace daemoneye::detect {

class RuleBoard {
 public:
  static constexpr std::chrono::milliseconds slow_run{100};
  static constexpr unsigned recovery_runs = 100;
  static constexpr unsigned suspend_after = 3;
  static constexpr std::size_t max_labelled_rules = 512;  // beyond: the metrics' label is "other"

  // `told` hears of the first of several runs in a row that were over their time or memory, and of a suspension.
  using OverBudget = std::function<void(const std::string& rule_id, const std::string& reason)>;
  explicit RuleBoard(OverBudget told = {}) : on_over_budget_(std::move(told)) {}

  // The rules that are there now. Counts and states stay with an unchanged version; `fresh` clears states as well.
  void replace(const RuleSet& set, Timestamp now, bool fresh);

  // `candidates`: rows that a stream rule was shown.
  void ran(const std::string& id, std::chrono::nanoseconds elapsed, std::uint64_t candidates, std::uint64_t matches);
  void failed(const std::string& id, std::chrono::nanoseconds elapsed, const Error& error);
  // What the last evaluation could not see, whether it found something or not.
  void saw(const std::string& id, const event::Completeness& completeness);
  // A run of a scheduled rule could not be made because of the store: it is made again.
  void held_up(const std::string& id, const Error& error);
  // Runs of a scheduled rule whose windows nobody looks at; matches that its limit held back.
  void left_out(const std::string& id, std::uint64_t runs);
  void held_back(const std::string& id, std::uint64_t matches);
  [[nodiscard]] bool suspended(const std::string& id) const;
  // How many runs on end were over their time or memory: a scheduled rule then runs less often.
  [[nodiscard]] unsigned excesses_in_a_row(const std::string& id) const;

  [[nodiscard]] std::vector<store::RuleRow> rows() const;
  // True once after each change of a rule's state.
  bool take_changed();
  // Fills the counts and the list of `state`.
  void describe(Engine::State& state) const;

 private:
  struct Entry {
    store::RuleRow row;        // state and reason as they are now
    std::string file_problem;  // of a broken file; wins over what runs show
    bool active = false;       // is evaluated
    std::uint64_t evaluations = 0, candidates = 0, matches = 0, failures = 0, timeouts = 0, left_out = 0, held_back = 0;
    std::uint64_t incomplete = 0;  // evaluations that could not see everything
    std::string missing;           // what the last one could not see; empty: nothing
    std::optional<std::pair<std::string, std::string>> before_held_up;  // state and reason
    unsigned clean_runs = 0, excesses_in_a_row = 0;
    bool scheduled = false, labelled = false;
    observe::Histogram latency;
    observe::Gauge state;  // when labelled
    observe::Counter shown, matched, failing, timed_out, held, partial;
  };
  // What on_over_budget_ is told; empty: nothing.
  std::string note_failure(const std::string& id, std::chrono::nanoseconds elapsed, const Error& error);
  void set_state(Entry& entry, std::string state, std::string reason);
  void label(Entry& entry);
  static void tell_state(const Entry& entry);

  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, bool> labelled_;
  bool changed_ = false;
  OverBudget on_over_budget_;
};

}  // namespace daemoneye::detect
