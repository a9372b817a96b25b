// Rules with `evaluate`: each runs at its own moments, `every` apart, over the `window` before the moment. The moments
// are fixed points in time, placed by the rule's id so that rules do not run together, and the same after a restart. A
// run begins `grace` after its moment, so that events that came late are in it, and when the collectors have told all
// up to it, for which it waits `patience` at most. Up to which moment a rule has run is kept in the store, with its
// alerts in one transaction: what was missed while the agent was down or busy is caught up, the oldest first, a bounded
// number of runs, whose alerts say `late`. docs/adr/0019 says why so.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "detect/evaluator.h"

namespace daemoneye::detect {

// Up to which moment a rule has run, whatever its version.
struct RunMark {
  std::string rule_id;
  Timestamp evaluated_to;
  std::optional<Timestamp> off_since;  // not run since then: disabled, not scheduled any more, or gone
};
Result<std::vector<RunMark>> read_marks(store::Reader& reader);
// Together, in one transaction.
void write_runs(store::Writer& writer, std::vector<store::Writer::Raise> raises, std::vector<RunMark> marks,
                std::function<void(Result<std::vector<store::RaiseResult>>)> done);

// When a rule runs: arithmetic only.
struct Moments {
  std::chrono::nanoseconds every{0}, window{0}, phase{0};
  static Moments of(const LoadedRule& rule);
  [[nodiscard]] Timestamp after(Timestamp time) const;  // the first moment later than that
  // Those to be caught up when it has run up to `done` and the newest that is due is `newest`: every one when they are
  // few; else so far apart that none of the time between is left out; and of what is still too much, the newest part.
  static constexpr std::int64_t max_caught_up = 100;
  struct CatchUp {
    Timestamp next;             // the moment to run at
    std::int64_t left_out = 0;  // moments whose windows nobody looks at
    std::int64_t behind = 0;    // moments that are due, `next` among them
  };
  [[nodiscard]] CatchUp next(Timestamp done, Timestamp newest) const;
};

class Schedule {
 public:
  struct Options {
    std::size_t workers = 2;
    std::chrono::nanoseconds least_grace{std::chrono::seconds(2)}, most_grace{std::chrono::seconds(30)};
    std::chrono::nanoseconds catch_up_pause{std::chrono::milliseconds(100)};  // between two runs that are late
    std::chrono::nanoseconds flush{std::chrono::seconds(10)};  // marks without alerts are written at most so often
    // Until when all that the collectors saw is in the store; any thread. None: the store is all there is.
    std::function<Timestamp()> covered;
    // How long a run waits for that, after its grace and after the start. Then it is made, and says what it lacks.
    std::chrono::nanoseconds patience{std::chrono::seconds(30)};
    std::chrono::nanoseconds store_retry{std::chrono::seconds(5)};  // after the store could not be read
  };
  using Write = std::function<void(std::vector<store::Writer::Raise>, std::vector<RunMark>)>;
  // A worker for each runner.
  Schedule(std::vector<std::unique_ptr<ScheduledRunner>> runners, std::vector<RunMark> marks, RuleBoard& board,
           Write write, Options options);
  ~Schedule();

  void use(std::shared_ptr<const RuleSet> rules);  // any thread
  void start();
  void stop();  // cancels the runs under way; any thread
  void join();

 private:
  // Of each rule that is scheduled now, or was: where it goes on from.
  struct Slot {
    bool active = false;  // is run
    Moments moments;
    Timestamp done;        // up to where it has run, or need not
    Timestamp not_before;  // of a run that is late, of a rule that was slowed, or while the store cannot be read
    bool running = false, unsaved = false;
    bool slowed = false;  // what it is behind because of that is not caught up
    std::optional<Timestamp> off_since;
    // It was off for a while: of the moments then only the first is owed, which looks back at the time before.
    struct Away {
      Timestamp owed_to, until;
    };
    std::optional<Away> away;
  };
  using Slots = std::map<std::string, Slot>;
  void work(ScheduledRunner& runner);
  void plan(Timestamp now);
  Slots::iterator due(Timestamp now, Timestamp& wake);
  [[nodiscard]] Timestamp ready_at(const Slot& slot, Timestamp moment, Timestamp now, Timestamp covered) const;
  [[nodiscard]] Timestamp newest_ready(const Slot& slot, Timestamp now, Timestamp covered) const;
  void run(ScheduledRunner& runner, Slots::iterator at, std::unique_lock<std::mutex>& lock);
  void ran(Slots::iterator at, const ScheduledRun& made, const Result<void>& outcome, Timestamp began);
  [[nodiscard]] Timestamp covered() const;
  [[nodiscard]] std::chrono::nanoseconds grace(const Moments& moments) const;
  [[nodiscard]] std::vector<RunMark> take_unsaved();

  std::vector<std::unique_ptr<ScheduledRunner>> runners_;
  RuleBoard& board_;
  const Write write_;
  const Options options_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const RuleSet> rules_;
  std::uint64_t generation_ = 0;  // of rules_
  Slots slots_;                   // by rule id
  base::SteadyClock::time_point last_flush_, started_;
  std::stop_source stop_;
  std::vector<std::thread> threads_;
};

}  // namespace daemoneye::detect
