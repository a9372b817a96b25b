#include "detect/engine.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/memory.h"
#include "detect/evaluator.h"
#include "detect/prefilter.h"
#include "detect/rule_board.h"
#include "detect/schedule.h"
#include "detect/watcher.h"
#include "event/event_view.h"
#include "observe/latencies.h"
#include "observe/log.h"
#include "observe/metrics.h"

namespace daemoneye::detect {
namespace {

using observe::Level;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr auto connect_patience = seconds(10);              // while all connections of the pool are in use
constexpr auto store_retry = seconds(1);                    // after the store could not be read
constexpr auto watermark_interval = seconds(1);             // a watermark without alerts is written at most so often
constexpr auto rule_rows_interval = seconds(1);             // `detection_rules` follows state changes at most so often
constexpr std::uint64_t max_looked_at = 64;                 // events of a batch that the writer's thread looks at
constexpr std::size_t max_waiting_bytes = 4 * 1024 * 1024;  // of events that wait for evaluation
constexpr nanoseconds catch_up_span = seconds(10);          // events shown together while catching up share one `now`

// What callbacks in the writer's thread touch; they may run after the Engine is gone, hence shared.
struct Raised {
  std::mutex mutex;
  std::uint64_t alerts = 0, merged = 0, lost = 0;
  std::function<void()> on_raised;  // emptied when the engine ends

  void done(const Result<std::vector<store::RaiseResult>>& results, const std::vector<std::string>& severities) {
    std::lock_guard lock(mutex);
    if (!results) {
      // A store that is being closed gives everything back, the mark of what was evaluated as well. One that refuses
      // takes later marks, and these events are not shown again.
      const bool closed = results.error().code == Errc::unavailable || results.error().code == Errc::cancelled;
      if (!closed) lost += severities.size();
      observe::log(
          Level::error, "detect",
          closed ? "alerts could not be committed; their events are evaluated again at the next start"
                 : "alerts are lost: the store refused them",
          {{"error", std::string_view(results.error().message)}, {"alerts", std::uint64_t{severities.size()}}});
      return;
    }
    for (std::size_t i = 0; i < results->size(); ++i) {
      if ((*results)[i].merged) {
        ++merged;
      } else {
        ++alerts;
        if (i < severities.size()) observe::alerts_generated(severities[i]).add();
      }
    }
    if (!results->empty() && on_raised) on_raised();
  }
};

std::vector<std::string> severities_of(const std::vector<store::Writer::Raise>& raises) {
  std::vector<std::string> severities;
  severities.reserve(raises.size());
  for (const auto& raise : raises) severities.emplace_back(store::to_string(raise.alert.severity));
  return severities;
}

bool same_rules(const RuleSet& a, const RuleSet& b) {
  const auto same_rule = [](const LoadedRule& x, const LoadedRule& y) {
    return x.rule.id == y.rule.id && x.rule.version == y.rule.version && x.rule.file == y.rule.file;
  };
  const auto same_broken = [](const UnhealthyRule& x, const UnhealthyRule& y) {
    return x.file == y.file && x.last_good_kept == y.last_good_kept &&
           std::ranges::equal(x.problems, y.problems, {}, &RuleProblem::message, &RuleProblem::message);
  };
  return std::ranges::equal(a.rules, b.rules, same_rule) && std::ranges::equal(a.unhealthy, b.unhealthy, same_broken);
}

void log_rules(const RuleSet& set) {
  for (const auto& broken : set.unhealthy) {
    for (const auto& problem : broken.problems) {
      const std::string text = to_string(problem);
      observe::log(Level::warn, "detect", "a rule file is broken",
                   {{"problem", std::string_view(text)}, {"last_good_kept", broken.last_good_kept}});
    }
  }
  const auto active = static_cast<std::uint64_t>(
      std::ranges::count(set.rules, RuleStatus::active, [](const LoadedRule& rule) { return rule.rule.status; }));
  observe::log(Level::info, "detect", "rules loaded",
               {{"active", active},
                {"rules", std::uint64_t{set.rules.size()}},
                {"broken_files", std::uint64_t{set.unhealthy.size()}}});
}

}  // namespace

struct Engine::Impl {
  Impl(EngineOptions options_, store::Writer& writer_) : options(std::move(options_)), writer(writer_) {
    raised->on_raised = options.on_raised;
    queue_depth.set(0);
  }

  // --- the stream's thread ---------------------------------------------------------------------------------------

  void run_stream() {
    std::unique_lock lock(mutex);
    while (!cancel.stop_requested()) {
      if (auto next = std::exchange(next_rules, {}); next.rules != nullptr) {
        in_force = next.prefilter;
        look = std::make_unique<Prefilter::Work>(*in_force);
        lock.unlock();
        evaluator->use(std::move(next.rules), std::move(next.prefilter));
        publish_rules();
        lock.lock();
        look_for_counters();
        continue;
      }
      if (behind || !commits.empty()) {
        step(lock);
        continue;
      }
      if (scan_told && !draining) {
        look_at_scan(lock);
        continue;
      }
      if (draining) break;
      if (std::exchange(board_due, false)) {
        lock.unlock();
        publish_changes();
        lock.lock();
        continue;
      }
      const bool unsaved = evaluated_to != saved_to;
      const bool unpublished = rule_rows_due;
      const auto something = [&] {
        return cancel.stop_requested() || draining || behind || board_due || !commits.empty() || scan_told ||
               next_rules.rules != nullptr || (!unsaved && evaluated_to != saved_to);
      };
      const Resting rest(resting);
      if (!unsaved && !unpublished) {
        changed.wait(lock, something);
      } else if (!changed.wait_until(lock, std::max(last_saved, last_published) + watermark_interval, something)) {
        resting = false;
        lock.unlock();
        save_watermark();
        publish_changes();
        lock.lock();
      }
    }
    lock.unlock();
    if (!cancel.stop_requested()) save_watermark();
    lock.lock();
    stream_ended = true;
    changed.notify_all();
  }

  // The stream thread waits, and what it writes at other times belongs to who holds the mutex.
  class Resting {
   public:
    explicit Resting(bool& flag) : flag_(flag) { flag_ = true; }
    ~Resting() { flag_ = false; }
    Resting(const Resting&) = delete;
    Resting& operator=(const Resting&) = delete;

   private:
    bool& flag_;
  };

  // In the writer's thread, with the mutex held: most batches hold nothing for any rule, and to see that in a small one
  // costs less than to wake the thread whose work it is. False: that one has to look.
  bool holds_nothing(const store::Commit& commit) {
    const auto events = static_cast<std::uint64_t>(commit.last_event - commit.first_event) + 1;
    if (!resting || behind || !commits.empty() || next_rules.rules != nullptr || in_force == nullptr) return false;
    if (!commit.canonical || evaluated_to + 1 != commit.first_event || events > max_looked_at) return false;
    if (!in_force->unfiltered().empty() || !event::decode_batch(*commit.canonical, looked_at)) return false;
    const auto found = in_force->find(looked_at.events, commit.first_event, *look, seen);
    return found && seen.rules.empty();
  }

  // One chunk of what is to be evaluated.
  void step(std::unique_lock<std::mutex>& lock) {
    const bool catching_up = behind;
    store::Commit commit;
    if (!catching_up) {
      commit = std::move(commits.front());
      commits.pop_front();
      if (commit.canonical) waiting_bytes -= commit.canonical->size();
      queue_depth.set(static_cast<double>(commits.size()));
    }
    lock.unlock();
    const auto result = catching_up ? catch_up() : evaluate(commit);
    publish_changes();
    lock.lock();
    if (result && !catching_up) evaluated(commit);
    problem = result ? "" : result.error().message;
    if (result || cancel.stop_requested()) return;
    observe::log(Level::error, "detect", "events could not be evaluated; they will be",
                 {{"error", std::string_view(result.error().message)}});
    // Whatever was in this commit is found again from the watermark.
    behind = true;
    if (draining) {
      cancel.request_stop();
      return;
    }
    changed.wait_for(lock, store_retry, [&] { return cancel.stop_requested() || draining; });
  }

  // --- counters, which scans tell without an event ---------------------------------------------------------------

  // With the mutex held, after other rules are in force.
  void look_for_counters() {
    const bool before = std::exchange(counters_wanted, evaluator->counters() != 0);
    if (!counters_wanted) {
      scan_told.reset();
      live_changes.forget();
      just_started = false;
    } else if (!before) {
      scan_told = base::wall_now();
      counters_begin = true;
    }
  }

  void look_at_scan(std::unique_lock<std::mutex>& lock) {
    const auto told = *std::exchange(scan_told, std::nullopt);
    const bool begin = std::exchange(counters_begin, false);
    lock.unlock();
    const auto result = evaluate_counters(told, begin);
    if (result) just_started = false;
    publish_changes();
    lock.lock();
    if (result) ++scans_evaluated;
    problem = result ? "" : result.error().message;
    if (result || cancel.stop_requested()) return;
    observe::log(Level::error, "detect", "what a scan told could not be evaluated; it will be",
                 {{"error", std::string_view(result.error().message)}});
    if (!scan_told) scan_told = told;
    counters_begin = counters_begin || begin;
    changed.wait_for(lock, store_retry, [&] { return cancel.stop_requested() || draining; });
  }

  class Snapshot {
   public:
    explicit Snapshot(store::Reader& reader) : reader_(reader) {}
    Snapshot(const Snapshot&) = delete;
    Snapshot& operator=(const Snapshot&) = delete;
    ~Snapshot() { reader_.end_snapshot(); }

   private:
    store::Reader& reader_;
  };

  // When rules begin to ask for counters, what is there counts as known, but for what was told before the agent ended
  // and was not evaluated then.
  Result<void> evaluate_counters(Timestamp now, bool begin) {
    auto& reader = evaluator->reader();
    DE_CHECK(reader.begin_snapshot());
    const Snapshot snapshot(reader);
    DE_TRY(auto mark, reader.last_scan());
    if (begin) {
      live_changes.forget();
      DE_TRY(const auto evaluated, read_counters_mark(reader));
      const bool missed = just_started && !evaluated.empty() && evaluated != mark;
      if (!missed) {
        DE_CHECK(live_changes.begin(reader));
        write_counters({}, std::move(mark));
        return {};
      }
    }
    live_changes.begin_look();
    for (bool last = false; !last;) {
      DE_TRY(auto chunk, live_changes.next(reader, evaluator->counters(), options.chunk_events));
      DE_TRY(auto raises, evaluator->changed(chunk, now, cancel.get_token()));
      last = chunk.last;
      write_counters(std::move(raises), last ? mark : "");
      live_changes.take(std::move(chunk));
    }
    return {};
  }

  // `mark`: of a scan that is done with.
  void write_counters(std::vector<store::Writer::Raise> raises, std::string mark) {
    if (raises.empty() && mark.empty()) return;
    auto severities = severities_of(raises);
    write_counters_mark(writer, std::move(raises), std::move(mark),
                        [raised = raised, severities = std::move(severities)](
                            const Result<std::vector<store::RaiseResult>>& r) { raised->done(r, severities); });
  }

  // As it was sent, without a look at the store, when nothing of before is missing.
  Result<void> evaluate(const store::Commit& commit) {
    const auto events = static_cast<std::uint64_t>(commit.last_event - commit.first_event) + 1;
    if (!commit.canonical || evaluated_to + 1 != commit.first_event || events > options.chunk_events) {
      return evaluate_to(commit.last_event, commit.time);
    }
    DE_CHECK(event::decode_batch(*commit.canonical, sent));
    DE_TRY(auto raises, evaluator->stream(sent, commit.first_event, commit.time, commit.time, cancel.get_token()));
    finish_chunk(std::move(raises), commit.last_event);
    return {};
  }

  // `mutex` is held.
  void evaluated(const store::Commit& commit) {
    const std::chrono::nanoseconds took(std::max<std::int64_t>(base::wall_now().ns - commit.time.ns, 0));
    latencies.add(took);
    detection_seconds.observe(std::chrono::duration<double>(took).count());
  }

  Result<void> catch_up() {
    DE_TRY(const auto last, evaluator->reader().last_event_id());
    {
      std::lock_guard lock(mutex);
      // Commits from here on are queued again; those up to `last` are skipped when they come by.
      behind = false;
    }
    return evaluate_to(last, std::nullopt);
  }

  // Evaluates (evaluated_to, last]. Without `now` (and for what was missed before a commit's own events) it is the
  // events' own time.
  Result<void> evaluate_to(event::EventId last, std::optional<Timestamp> now) {
    while (evaluated_to < last && !cancel.stop_requested()) {
      const event::EventId first = evaluated_to + 1;
      DE_TRY(auto events, read_events(evaluator->reader(), first, last, options.chunk_events));
      if (!now) keep_one_moment(events.events);
      const bool whole = events.events.size() < options.chunk_events && now.has_value();
      const event::EventId to = whole || events.events.empty() ? last : events.events.back().id;
      Timestamp moment = now.value_or(Timestamp{});
      if (!now && !events.events.empty()) moment = events.events.back().event.time;
      DE_TRY(auto raises, evaluator->stream(events, moment, now.value_or(base::wall_now()), cancel.get_token()));
      finish_chunk(std::move(raises), to);
    }
    return {};
  }

  // Cuts the chunk where its events' times drift apart.
  static void keep_one_moment(std::vector<StoredEvent>& events) {
    if (events.empty()) return;
    const auto begin = events.front().event.time.ns;
    const auto far = std::ranges::find_if(events, [&](const StoredEvent& stored) {
      return std::abs(stored.event.time.ns - begin) > catch_up_span.count();
    });
    events.erase(far, events.end());
  }

  void finish_chunk(std::vector<store::Writer::Raise> raises, event::EventId to) {
    // Evaluating again events that matched nothing changes nothing, so their watermark need not be written at once.
    const bool lazy = raises.empty() && base::SteadyClock::now() < last_saved + watermark_interval;
    if (!lazy) send(std::move(raises), to);
    // Only now: who sees the number may rely on the alerts being on their way.
    std::lock_guard lock(mutex);
    evaluated_to = to;
  }

  void save_watermark() {
    if (evaluated_to != saved_to) send({}, evaluated_to);
  }

  void send(std::vector<store::Writer::Raise> raises, std::optional<event::EventId> watermark) {
    auto severities = severities_of(raises);
    if (watermark) {
      saved_to = *watermark;
      last_saved = base::SteadyClock::now();
    }
    writer.raise(std::move(raises), watermark,
                 [raised = raised, severities = std::move(severities)](
                     const Result<std::vector<store::RaiseResult>>& r) { raised->done(r, severities); });
  }

  void publish_rules() {
    last_published = base::SteadyClock::now();
    board.take_changed();
    rule_rows_due = false;
    writer.replace_rules(board.rows(), [](const Result<void>& result) {
      if (!result) {
        observe::log(Level::error, "detect", "the table of rules could not be written",
                     {{"error", std::string_view(result.error().message)}});
      }
    });
  }

  void publish_changes() {
    rule_rows_due = board.take_changed() || rule_rows_due;
    if (rule_rows_due && base::SteadyClock::now() >= last_published + rule_rows_interval) publish_rules();
  }

  // --- the rules' thread -----------------------------------------------------------------------------------------

  void run_rules() {
    for (;;) {
      const auto reason = watcher->wait();
      if (reason == FolderWatcher::Reason::stopped) return;
      take_folders();
      auto set = std::make_shared<const RuleSet>(load());
      const bool asked = reason == FolderWatcher::Reason::asked && fresh_asked.exchange(false);
      if (asked || !same_rules(*set, *rules)) use(std::move(set), asked);
      std::lock_guard lock(mutex);
      watch_problem = watcher->problem();
    }
  }

  void take_folders() {
    std::optional<std::vector<std::string>> wanted;
    {
      std::lock_guard lock(mutex);
      wanted = std::exchange(next_folders, std::nullopt);
    }
    if (!wanted) return;
    rule_paths = *wanted;
    watcher->watch(std::move(*wanted));
  }

  RuleSet load() const {
    auto overrides = store::read_rule_overrides(options.store_path);
    if (!overrides) {
      observe::log(Level::error, "detect", "what operators changed of rules could not be read; as before",
                   {{"error", std::string_view(overrides.error().message)}});
      overrides = rules ? rules->overrides : std::vector<store::RuleOverride>();
    }
    return load_rules(rule_paths, rules.get(), *overrides);
  }

  void tell_refused(const RuleSet& set) {
    if (!options.on_refused) return;
    for (const auto& broken : set.unhealthy) {
      const bool known = rules != nullptr && std::ranges::any_of(rules->unhealthy, [&](const UnhealthyRule& before) {
                           return before.file == broken.file && before.digest == broken.digest;
                         });
      const auto why = std::ranges::find_if(
          broken.problems, [](const RuleProblem& one) { return one.key == "sql" || one.key.starts_with("except"); });
      if (!known && why != broken.problems.end()) options.on_refused(broken, *why);
    }
  }

  void use(std::shared_ptr<const RuleSet> set, bool fresh) {
    log_rules(*set);
    if (options.on_rules) options.on_rules(rules.get(), *set);
    tell_refused(*set);
    rules = set;
    auto prefilter = Prefilter::build(*set);
    // Compiling takes 12 MB for a moment, and the search's compiler is never needed again.
    base::release_free_memory();
    base::release_read_pages();
    board.replace(*set, base::wall_now(), fresh);
    schedule->use(set);
    std::lock_guard lock(mutex);
    search_problem = prefilter->problem();
    unfiltered = prefilter->unfiltered().size();
    next_rules = {std::move(set), std::move(prefilter)};
    changed.notify_all();
  }

  // Each thread has one for itself, with its prepared rules, as long as it runs.
  Result<std::unique_ptr<sql::Connection>> connect() const {
    if (options.readers == nullptr) return sql::Connection::open(options.store_path, options.audit_path);
    DE_TRY(auto reader, options.readers->take(Deadline::after(connect_patience)));
    return sql::Connection::open(std::move(reader), options.audit_path);
  }

  const EngineOptions options;
  LiveLimits live{options};
  std::vector<std::string> rule_paths = options.rule_paths;  // the rules thread's
  store::Writer& writer;
  RuleBoard board{options.on_over_budget};
  RuleLimits limits{options.rule_alerts_a_minute, std::chrono::minutes(1)};
  std::shared_ptr<Raised> raised = std::make_shared<Raised>();
  std::unique_ptr<Evaluator> evaluator;  // the stream thread's
  std::unique_ptr<Schedule> schedule;
  std::unique_ptr<FolderWatcher> watcher;
  std::shared_ptr<const RuleSet> rules;  // the rules thread's: what is in force
  std::atomic<bool> fresh_asked{false};  // reload(): states of rules begin anew
  observe::Gauge queue_depth =
      observe::gauge("daemoneye_detection_queue_batches", "Committed batches that wait for evaluation.");
  observe::Histogram detection_seconds =
      observe::histogram("daemoneye_detection_seconds", "From a commit to the end of its evaluation by the rules.");
  // There from the start, so that an alert on its increase sees the first one.
  observe::Counter overflows = observe::counter("daemoneye_detection_queue_overflows_total",
                                                "Times the queue was full and detection caught up from the store.");

  mutable std::mutex mutex;
  std::condition_variable changed;
  std::deque<store::Commit> commits;
  std::size_t waiting_bytes = 0;  // of the events that are in there
  struct InForce {
    std::shared_ptr<const RuleSet> rules;
    std::shared_ptr<const Prefilter> prefilter;
  };
  std::optional<std::vector<std::string>> next_folders;  // to be taken by the rules thread
  InForce next_rules;  // to be taken between two batches; none when there are no others
  bool behind = true;  // there may be events that no queued commit names
  bool draining = false, stream_ended = false;
  observe::Latencies latencies;  // of the last commits
  // Rules ask for what scans tell without an event; when the last one that is to be evaluated was committed; and
  // whether what is known of before is to be read first.
  bool counters_wanted = false, counters_begin = false;
  std::optional<Timestamp> scan_told;
  std::uint64_t scans_evaluated = 0;
  bool board_due = false;           // scheduled rules have run: their states may be others
  event::EventId evaluated_to = 0;  // written by the stream thread, and while that rests by the writer's
  bool resting = false;
  // For a first look at small batches, in the writer's thread.
  std::shared_ptr<const Prefilter> in_force;
  std::unique_ptr<Prefilter::Work> look;
  event::BatchView looked_at;
  Candidates seen;
  std::string problem, watch_problem, search_problem;
  std::size_t unfiltered = 0;  // rules that every row is shown to
  std::stop_source cancel;

  // The stream thread's own.
  event::BatchView sent;  // kept for its memory
  event::EventId saved_to = 0;
  LiveChanges live_changes;
  bool just_started = true;  // counters that were told before may not have been evaluated
  bool rule_rows_due = false;
  base::SteadyClock::time_point last_saved, last_published;

  std::thread stream_thread, rules_thread;
};

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Engine>> Engine::start(EngineOptions options, store::Writer& writer) {
  auto impl = std::make_unique<Impl>(std::move(options), writer);
  Impl& self = *impl;
  DE_TRY(auto connection, self.connect());
  self.evaluator = std::make_unique<Evaluator>(std::move(connection), self.options, self.live, self.board, self.limits);
  std::vector<std::unique_ptr<ScheduledRunner>> workers;
  for (std::size_t i = 0; i < self.options.schedule_workers; ++i) {
    DE_TRY(auto own, self.connect());
    workers.push_back(std::make_unique<Evaluator>(std::move(own), self.options, self.live, self.board, self.limits));
  }
  DE_TRY(auto marks, read_marks(self.evaluator->reader()));
  self.schedule = std::make_unique<Schedule>(
      std::move(workers), std::move(marks), self.board,
      [&self, &writer](std::vector<store::Writer::Raise> raises, std::vector<RunMark> marks_) {
        auto severities = severities_of(raises);
        write_runs(writer, std::move(raises), std::move(marks_),
                   [raised = self.raised, severities](const Result<std::vector<store::RaiseResult>>& results) {
                     raised->done(results, severities);
                   });
        const std::scoped_lock lock(self.mutex);
        self.board_due = true;
        self.changed.notify_all();
      },
      Schedule::Options{.least_grace = self.options.schedule_least_grace,
                        .catch_up_pause = self.options.schedule_pause,
                        .covered = self.options.covered,
                        .patience = self.options.schedule_patience});
  DE_TRY(self.evaluated_to, self.evaluator->reader().stream_watermark());
  self.saved_to = self.evaluated_to;
  // Before the first load, so that no change falls between.
  DE_TRY(self.watcher, FolderWatcher::create(self.options.rule_paths));
  self.watch_problem = self.watcher->problem();
  self.use(std::make_shared<const RuleSet>(self.load()), true);
  self.rules_thread = std::thread([&self] { self.run_rules(); });
  self.stream_thread = std::thread([&self] { self.run_stream(); });
  self.schedule->start();
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

Engine::~Engine() {
  stop(Deadline::after(nanoseconds(0)));
  impl_->rules_thread.join();
  impl_->schedule->join();
  impl_->stream_thread.join();
  // From here on a late commit tells nobody.
  std::lock_guard lock(impl_->raised->mutex);
  impl_->raised->on_raised = nullptr;
}

void Engine::on_commit(const store::Commit& commit) {
  if (commit.duplicate) return;
  Impl& self = *impl_;
  std::lock_guard lock(self.mutex);
  if (self.draining) return;  // found from the watermark at the next start
  if (commit.scan && self.counters_wanted) {
    self.scan_told = commit.time;
    self.changed.notify_all();
  }
  if (commit.last_event < commit.first_event) return;
  if (self.holds_nothing(commit)) {
    // The first one that is not saved starts the clock for it.
    if (std::exchange(self.evaluated_to, commit.last_event) == self.saved_to) self.changed.notify_all();
    self.evaluated(commit);
    return;
  }
  if (self.commits.size() >= self.options.queue_capacity) {
    self.commits.clear();
    self.waiting_bytes = 0;
    self.behind = true;
    self.overflows.add();
  } else {
    auto& waiting = self.commits.emplace_back(commit);
    // What finds no room is read back from the store.
    if (waiting.canonical && self.waiting_bytes + waiting.canonical->size() > max_waiting_bytes)
      waiting.canonical.reset();
    if (waiting.canonical) self.waiting_bytes += waiting.canonical->size();
  }
  self.queue_depth.set(static_cast<double>(self.commits.size()));
  self.changed.notify_all();
}

void Engine::reload() {
  impl_->fresh_asked = true;
  impl_->watcher->notify();
}

void Engine::retune(Tuning tuning) {
  impl_->live.rule_timeout = tuning.rule_timeout;
  impl_->live.dedup_window = tuning.dedup_window;
  {
    std::lock_guard lock(impl_->mutex);
    impl_->next_folders = std::move(tuning.rule_paths);
  }
  impl_->watcher->notify();
}

void Engine::overrides_changed() { impl_->watcher->notify(); }

void Engine::stop(Deadline deadline) {
  Impl& self = *impl_;
  self.watcher->stop();
  self.schedule->stop();
  std::unique_lock lock(self.mutex);
  self.draining = true;
  self.changed.notify_all();
  self.changed.wait_until(lock, deadline.point(), [&] { return self.stream_ended; });
  self.cancel.request_stop();
  self.changed.notify_all();
}

Engine::State Engine::state() const {
  State state;
  impl_->board.describe(state);
  {
    std::lock_guard lock(impl_->mutex);
    state.evaluated_to = impl_->evaluated_to;
    state.problem = !impl_->problem.empty() ? impl_->problem : impl_->watch_problem;
    state.slower = impl_->search_problem;
    state.unfiltered = impl_->unfiltered;
    state.scans_evaluated = impl_->scans_evaluated;
    state.queued = impl_->commits.size();
    state.queue_capacity = impl_->options.queue_capacity;
    state.p50_ms = impl_->latencies.quantile_ms(0.5);
    state.p99_ms = impl_->latencies.quantile_ms(0.99);
  }
  std::lock_guard lock(impl_->raised->mutex);
  state.alerts = impl_->raised->alerts;
  state.merged = impl_->raised->merged;
  state.lost = impl_->raised->lost;
  return state;
}

}  // namespace daemoneye::detect
