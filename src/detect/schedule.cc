#include "detect/schedule.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include "base/text.h"
#include "observe/log.h"
#include "store/alert_table.h"

namespace daemoneye::detect {

using base::SteadyClock;
using std::chrono::nanoseconds;

namespace {

constexpr std::string_view mark_prefix = "schedule/";
// A mark of a rule that is gone is kept as long as the longest window could want it.
constexpr nanoseconds keep_mark = std::chrono::hours(24 * 30);

std::string mark_text(const RunMark& mark) { return std::to_string(mark.evaluated_to.ns) + ' ' + mark.version; }

std::optional<RunMark> parse_mark(std::string_view key, std::string_view value) {
  const auto space = value.find(' ');
  const auto time = base::parse_integer<std::int64_t>(value.substr(0, space));
  if (!time || space == std::string_view::npos) return std::nullopt;
  return RunMark{std::string(key.substr(mark_prefix.size())), std::string(value.substr(space + 1)), Timestamp{*time}};
}

Result<void> write_mark(db::StatementCache& statements, const RunMark& mark) {
  const std::string key = std::string(mark_prefix) + mark.rule_id;
  {
    // Two workers may write in another order than they ran.
    DE_TRY(auto* select, statements.get("SELECT value FROM meta WHERE key=?"));
    const db::StatementReset reset(*select);
    DE_TRY(const bool found, select->bind_text(1, key).step());
    const auto before = found ? parse_mark(key, select->text(0)) : std::nullopt;
    if (before && before->version == mark.version && before->evaluated_to > mark.evaluated_to) return {};
  }
  DE_TRY(auto* insert, statements.get("INSERT OR REPLACE INTO meta(key, value) VALUES(?, ?)"));
  return insert->bind_text(1, key).bind_text(2, mark_text(mark)).run();
}

}  // namespace

Result<std::vector<RunMark>> read_marks(store::Reader& reader) {
  std::vector<RunMark> marks;
  DE_TRY(auto select, reader.database().prepare("SELECT key, value FROM meta WHERE key GLOB 'schedule/*'"));
  for (;;) {
    DE_TRY(const bool row, select.step());
    if (!row) return marks;
    if (auto mark = parse_mark(select.text(0), select.text(1))) marks.push_back(*std::move(mark));
  }
}

void write_runs(store::Writer& writer, std::vector<store::Writer::Raise> raises, std::vector<RunMark> marks,
                std::function<void(Result<std::vector<store::RaiseResult>>)> done) {
  auto results = std::make_shared<std::vector<store::RaiseResult>>();  // of the writer's thread, given to `done`
  writer.change(
      [raises = std::move(raises), marks = std::move(marks), results](db::StatementCache& statements) -> Result<void> {
        results->clear();  // the transaction may be tried again
        for (const auto& raise : raises) {
          DE_TRY(auto result, store::write_alert(statements, raise));
          results->push_back(std::move(result));
        }
        for (const auto& mark : marks) DE_CHECK(write_mark(statements, mark));
        return {};
      },
      [results, done = std::move(done)](const Result<void>& outcome) {
        if (outcome)
          done(std::move(*results));
        else
          done(std::unexpected(outcome.error()));
      });
}

Moments Moments::of(const LoadedRule& rule) {
  Moments moments{rule.rule.evaluate->every, rule.rule.evaluate->window, nanoseconds(0)};
  // FNV-1a: the same in every start of every build.
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : rule.rule.id) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  moments.phase =
      nanoseconds(static_cast<std::int64_t>((hash >> 1) % static_cast<std::uint64_t>(moments.every.count())));
  return moments;
}

Timestamp Moments::after(Timestamp time) const {
  const auto since = time.ns - phase.count();
  const auto whole = since >= 0 ? since / every.count() : -((-since + every.count() - 1) / every.count());
  return Timestamp{(whole + 1) * every.count() + phase.count()};
}

Moments::CatchUp Moments::next(Timestamp done, Timestamp newest) const {
  CatchUp out{after(done), 0, 0};
  if (out.next > newest) return out;
  out.behind = (newest.ns - out.next.ns) / every.count() + 1;
  if (out.behind <= max_caught_up) return out;
  // A window reaches back over so many moments: runs that far apart leave nothing out.
  const std::int64_t furthest = std::max<std::int64_t>(1, window.count() / every.count());
  const std::int64_t step = std::min(furthest, (out.behind + max_caught_up - 1) / max_caught_up);
  out.left_out = std::max<std::int64_t>(0, out.behind - max_caught_up * step);
  out.next.ns += (out.left_out + step - 1) * every.count();
  return out;
}

Schedule::Schedule(std::vector<std::unique_ptr<Evaluator>> evaluators, std::vector<RunMark> marks, RuleBoard& board,
                   Write write, Options options)
    : evaluators_(std::move(evaluators)),
      board_(board),
      write_(std::move(write)),
      options_(options),
      last_flush_(SteadyClock::now()) {
  const auto now = base::wall_now();
  for (auto& mark : marks) {
    if (now.ns - mark.evaluated_to.ns < keep_mark.count()) marks_[mark.rule_id] = std::move(mark);
  }
}

Schedule::~Schedule() {
  stop();
  join();
}

void Schedule::use(std::shared_ptr<const RuleSet> rules) {
  std::lock_guard lock(mutex_);
  rules_ = std::move(rules);
  ++generation_;
  plan(base::wall_now());
  changed_.notify_all();
}

void Schedule::start() {
  for (const auto& evaluator : evaluators_) threads_.emplace_back([this, &evaluator] { work(*evaluator); });
}

void Schedule::stop() {
  std::lock_guard lock(mutex_);
  stop_.request_stop();
  changed_.notify_all();
}

void Schedule::join() {
  for (auto& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
  threads_.clear();
}

nanoseconds Schedule::grace(const Moments& moments) const {
  return std::clamp(moments.every / 10, options_.least_grace, options_.most_grace);
}

// A rule that is unchanged goes on where it was, in this start or the one before. A new one begins now: its first run
// looks back over its window.
void Schedule::plan(Timestamp now) {
  Slots slots;
  for (const auto& rule : rules_->rules) {
    if (!is_active_scheduled_rule(rule)) continue;
    const auto& [id, version] = std::tie(rule.rule.id, rule.rule.version);
    if (const auto before = slots_.find(id); before != slots_.end() && before->second.version == version) {
      slots.insert(slots_.extract(before));
      continue;
    }
    Slot slot;
    slot.moments = Moments::of(rule);
    slot.version = version;
    slot.done = now;
    const auto mark = marks_.find(id);
    // A mark of the future was set by a clock that has been put back since.
    if (mark != marks_.end() && mark->second.version == version && mark->second.evaluated_to < now) {
      slot.done = mark->second.evaluated_to;
    }
    slots.emplace(id, std::move(slot));
  }
  slots_ = std::move(slots);
}

// The slot whose run is due, the oldest moment first; none: `wake` is when there may be one.
Schedule::Slots::iterator Schedule::due(Timestamp now, Timestamp& wake) {
  auto best = slots_.end();
  Timestamp best_moment;
  for (auto slot = slots_.begin(); slot != slots_.end(); ++slot) {
    if (slot->second.running) continue;
    // A clock that was put back: what was done then is not done again, and nothing waits for the old time to return.
    if (slot->second.done.ns > now.ns + slot->second.moments.every.count()) slot->second.done = now;
    const auto moment = slot->second.moments.after(slot->second.done);
    const Timestamp ready{std::max(moment.ns + grace(slot->second.moments).count(), slot->second.not_before.ns)};
    if (ready > now) {
      wake = std::min(wake, ready);
    } else if (best == slots_.end() || moment < best_moment) {
      best = slot;
      best_moment = moment;
    }
  }
  return best;
}

std::vector<RunMark> Schedule::take_unsaved() {
  std::vector<RunMark> marks;
  for (auto& [id, slot] : slots_) {
    if (std::exchange(slot.unsaved, false)) marks.push_back({id, slot.version, slot.done});
  }
  last_flush_ = SteadyClock::now();
  return marks;
}

void Schedule::work(Evaluator& evaluator) {
  constexpr nanoseconds longest_sleep = std::chrono::seconds(5);  // the wall clock may be set
  std::uint64_t generation = 0;
  std::unique_lock lock(mutex_);
  while (!stop_.stop_requested()) {
    if (generation != generation_) {
      generation = generation_;
      evaluator.use(rules_);
    }
    if (SteadyClock::now() >= last_flush_ + options_.flush) {
      if (auto marks = take_unsaved(); !marks.empty()) {
        // Not within the lock: the writer may make us wait, and stop() must not.
        lock.unlock();
        write_({}, std::move(marks));
        lock.lock();
        continue;
      }
    }
    const auto now = base::wall_now();
    Timestamp wake{now.ns + longest_sleep.count()};
    const auto slot = due(now, wake);
    if (slot == slots_.end()) {
      changed_.wait_for(lock, nanoseconds(std::max<std::int64_t>(wake.ns - now.ns, 1)));
      continue;
    }
    run(evaluator, slot, lock);
  }
  auto marks = take_unsaved();
  lock.unlock();
  if (!marks.empty()) write_({}, std::move(marks));
}

void Schedule::run(Evaluator& evaluator, Slots::iterator at, std::unique_lock<std::mutex>& lock) {
  Slot& slot = at->second;
  const std::string id = at->first, version = slot.version;
  const auto now = base::wall_now();
  const Timestamp newest{now.ns - grace(slot.moments).count()};
  if (std::exchange(slot.slowed, false)) slot.done.ns = std::max(slot.done.ns, newest.ns - slot.moments.every.count());
  const auto next = slot.moments.next(slot.done, newest);
  if (board_.suspended(id)) {
    // Nothing is done for it, and nothing is owed when it comes back.
    slot.done = std::max(next.next, now);
    return;
  }
  if (next.left_out > 0) {
    board_.left_out(id, static_cast<std::uint64_t>(next.left_out));
    observe::log(observe::Level::warn, "detect", "a scheduled rule is too far behind: its oldest runs are left out",
                 {{"rule", std::string_view(id)}, {"runs", next.left_out}});
  }
  const auto& rules = evaluator.rules().rules;
  const auto rule = std::ranges::lower_bound(rules, id, {}, [](const LoadedRule& r) { return r.rule.id; });
  const bool late = next.behind > 1;
  slot.running = true;
  lock.unlock();
  auto raises = evaluator.scheduled(*rule, next.next, late, stop_.get_token());
  const bool found = raises && !raises->empty();
  if (found) write_(*std::move(raises), {{id, version, next.next}});
  lock.lock();
  // Other rules may have come meanwhile, this one gone or changed.
  const auto again = slots_.find(id);
  const bool there = again != slots_.end() && again->second.version == version;
  if (there) again->second.running = false;
  if (!raises) return;  // stopped: it runs again at the next start. A rule's own failure is on the board.
  if (there) {
    Slot& same = again->second;
    same.done = next.next;
    same.unsaved = !found;
    same.not_before = {};
    if (late) same.not_before.ns = base::wall_now().ns + options_.catch_up_pause.count();
    // One that takes too long runs less often, before it is suspended.
    if (const auto excesses = board_.excesses_in_a_row(id); excesses > 0) {
      same.slowed = true;
      same.not_before.ns = now.ns + (same.moments.every.count() << excesses);
    }
    changed_.notify_all();
  }
}

}  // namespace daemoneye::detect
