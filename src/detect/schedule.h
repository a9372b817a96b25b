// Rules with `evaluate`: each runs every `every` over the last `window`. One thread, one rule at a time; the first run
// of a rule is put somewhere within its first interval, so that rules that came together do not run together. Runs
// that were missed while the agent was down or busy are not repeated: the next one looks back over its whole window,
// and what it finds again is counted on the alert that is there (dedup).
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "detect/evaluator.h"

namespace daemoneye::detect {

class Schedule {
 public:
  using RaiseAlerts = std::function<void(std::vector<store::Writer::Raise>)>;
  Schedule(std::unique_ptr<Evaluator> evaluator, RuleBoard& board, RaiseAlerts raise);
  ~Schedule();

  void use(std::shared_ptr<const RuleSet> rules);  // any thread
  void start();
  void stop();  // cancels a run under way; any thread
  void join();

 private:
  struct Slot {
    base::SteadyClock::time_point next;
    std::string version;
  };
  void run();
  void plan(const RuleSet& rules);

  std::unique_ptr<Evaluator> evaluator_;
  RuleBoard& board_;
  const RaiseAlerts raise_;
  std::map<std::string, Slot> slots_;  // by rule id; the thread's own
  std::mt19937_64 random_{std::random_device{}()};

  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const RuleSet> next_rules_;
  std::stop_source stop_;
  std::thread thread_;
};

}  // namespace daemoneye::detect
