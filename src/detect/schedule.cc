#include "detect/schedule.h"

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "detect/write_alerts.h"
#include "observe/log.h"

namespace daemoneye::detect {

using base::SteadyClock;
using std::chrono::nanoseconds;

namespace {

constexpr std::string_view mark_prefix = "schedule/";
constexpr std::string_view off_word = " off ";
// Nothing is caught up from longer ago: no window reaches further back.
constexpr nanoseconds keep_mark = std::chrono::hours(24 * 30);
// While a run waits for what the collectors have not told yet: they tell of themselves every two seconds.
constexpr nanoseconds coverage_look = std::chrono::milliseconds(500);
// A run that begins so long after it might have is late when the next one is due as well.
constexpr nanoseconds late_after = std::chrono::seconds(5);

std::string mark_text(const RunMark& mark) {
  std::string text = std::to_string(mark.evaluated_to.ns);
  if (mark.off_since) text += std::string(off_word) + std::to_string(mark.off_since->ns);
  return text;
}

// Earlier stores have the rule's version behind the time.
std::optional<RunMark> parse_mark(std::string_view key, std::string_view value) {
  const auto space = value.find(' ');
  const auto time = base::parse_integer<std::int64_t>(value.substr(0, space));
  if (!time) return std::nullopt;
  RunMark mark{std::string(key.substr(mark_prefix.size())), Timestamp{*time}, std::nullopt};
  if (space != std::string_view::npos && value.substr(space).starts_with(off_word)) {
    const auto since = base::parse_integer<std::int64_t>(value.substr(space + off_word.size()));
    if (since) mark.off_since = Timestamp{*since};
  }
  return mark;
}

Result<void> write_mark(db::StatementCache& statements, const RunMark& mark) {
  const std::string key = std::string(mark_prefix) + mark.rule_id;
  {
    // Two workers may write in another order than they ran. What is set in the future was by a clock that has been put
    // back since.
    DE_TRY(auto* select, statements.get("SELECT value FROM meta WHERE key=?"));
    const db::StatementReset reset(*select);
    DE_TRY(const bool found, select->bind_text(1, key).step());
    const auto before = found ? parse_mark(key, select->text(0)) : std::nullopt;
    if (before && before->evaluated_to > mark.evaluated_to && before->evaluated_to <= base::wall_now()) return {};
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
  write_alerts(
      writer, std::move(raises),
      [marks = std::move(marks)](db::StatementCache& statements) -> Result<void> {
        for (const auto& mark : marks) DE_CHECK(write_mark(statements, mark));
        return {};
      },
      std::move(done));
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

Schedule::Schedule(std::vector<std::unique_ptr<ScheduledRunner>> runners, std::vector<RunMark> marks, RuleBoard& board,
                   Write write, Options options)
    : runners_(std::move(runners)),
      board_(board),
      write_(std::move(write)),
      options_(std::move(options)),
      last_flush_(SteadyClock::now()),
      started_(SteadyClock::now()) {
  const auto now = base::wall_now();
  for (const auto& mark : marks) {
    Slot slot;
    slot.done = std::clamp(mark.evaluated_to, Timestamp{now.ns - keep_mark.count()}, now);
    slot.off_since = mark.off_since;
    slots_.emplace(mark.rule_id, slot);
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
  for (const auto& runner : runners_) threads_.emplace_back([this, &runner] { work(*runner); });
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

// A rule goes on where it was, in this start or an earlier one, whatever has changed of it: what its other version has
// looked at is not looked at again, and what it owed is not forgotten. A new one begins now: its first run looks back
// over its window.
void Schedule::plan(Timestamp now) {
  for (auto& [id, slot] : slots_) slot.active = false;
  for (const auto& rule : rules_->rules) {
    if (!is_active_scheduled_rule(rule)) continue;
    const auto [found, is_new] = slots_.try_emplace(rule.rule.id);
    Slot& slot = found->second;
    slot.active = true;
    slot.moments = Moments::of(rule);
    if (is_new) {
      slot.done = now;
      slot.unsaved = true;
    } else if (slot.off_since) {
      slot.away = {slot.moments.after(*slot.off_since), now};
      slot.off_since.reset();
      slot.unsaved = true;
    }
  }
  for (auto slot = slots_.begin(); slot != slots_.end();) {
    auto& of = slot->second;
    if (!of.active && !of.off_since) {
      of.off_since = now;
      of.away.reset();  // all since `done` is owed: rather too much than too little
      of.unsaved = true;
    }
    const bool forget = !of.active && !of.running && !of.unsaved && now.ns - of.off_since->ns > keep_mark.count();
    slot = forget ? slots_.erase(slot) : std::next(slot);
  }
}

Timestamp Schedule::covered() const { return options_.covered ? options_.covered() : Timestamp{INT64_MAX}; }

// When the run of a moment may begin, as far as is known now.
Timestamp Schedule::ready_at(const Slot& slot, Timestamp moment, Timestamp now, Timestamp covered) const {
  std::int64_t ready = moment.ns + grace(slot.moments).count();
  if (moment > covered) {
    ready += options_.patience.count();
    // After a start the collectors have to come back first, however long ago the moment was.
    const auto left = started_ + options_.patience - SteadyClock::now();
    if (left.count() > 0) ready = std::max(ready, now.ns + nanoseconds(left).count());
  }
  return Timestamp{std::max(ready, slot.not_before.ns)};
}

// No later moment than this may run now.
Timestamp Schedule::newest_ready(const Slot& slot, Timestamp now, Timestamp covered) const {
  const std::int64_t after_grace = now.ns - grace(slot.moments).count();
  const bool started_lately = SteadyClock::now() < started_ + options_.patience;
  const std::int64_t uncovered = started_lately ? INT64_MIN : after_grace - options_.patience.count();
  return Timestamp{std::min(after_grace, std::max(covered.ns, uncovered))};
}

// The slot whose run is due, the oldest moment first; none: `wake` is when there may be one.
Schedule::Slots::iterator Schedule::due(Timestamp now, Timestamp& wake) {
  auto best = slots_.end();
  Timestamp best_moment;
  const auto until = covered();
  for (auto slot = slots_.begin(); slot != slots_.end(); ++slot) {
    auto& of = slot->second;
    if (!of.active || of.running) continue;
    // A clock that was put back: what was done then is not done again, and nothing waits for the old time to return.
    if (of.done.ns > now.ns + of.moments.every.count()) of.done = now;
    if (of.away && of.moments.after(of.done) > of.away->owed_to) {
      of.done = std::max(of.done, of.away->until);
      of.away.reset();
    }
    const auto moment = of.moments.after(of.done);
    const auto ready = ready_at(of, moment, now, until);
    if (ready > now) {
      wake = std::min(wake, ready);
      const bool waits = moment > until && moment.ns + grace(of.moments).count() <= now.ns;
      if (waits) wake = std::min(wake, Timestamp{now.ns + coverage_look.count()});
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
    if (std::exchange(slot.unsaved, false)) marks.push_back({id, slot.done, slot.off_since});
  }
  last_flush_ = SteadyClock::now();
  return marks;
}

void Schedule::work(ScheduledRunner& runner) {
  constexpr nanoseconds longest_sleep = std::chrono::seconds(5);  // the wall clock may be set
  std::uint64_t generation = 0;
  std::unique_lock lock(mutex_);
  while (!stop_.stop_requested()) {
    if (generation != generation_) {
      generation = generation_;
      runner.use(rules_);
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
    run(runner, slot, lock);
  }
  auto marks = take_unsaved();
  lock.unlock();
  if (!marks.empty()) write_({}, std::move(marks));
}

void Schedule::run(ScheduledRunner& runner, Slots::iterator at, std::unique_lock<std::mutex>& lock) {
  const auto& id = at->first;
  Slot& slot = at->second;
  const auto now = base::wall_now();
  const auto until = covered();
  Timestamp newest = newest_ready(slot, now, until);
  if (slot.away) newest = std::min(newest, slot.away->owed_to);
  if (std::exchange(slot.slowed, false)) slot.done.ns = std::max(slot.done.ns, newest.ns - slot.moments.every.count());
  const auto next = slot.moments.next(slot.done, newest);
  if (board_.suspended(id)) {
    // Nothing is done for it, and nothing is owed when it comes back.
    slot.done = std::max(next.next, now);
    return;
  }
  if (next.next > newest) return;  // the clock, or what the collectors say, went back just now
  if (next.left_out > 0) {
    board_.left_out(id, static_cast<std::uint64_t>(next.left_out));
    observe::log(observe::Level::warn, "detect", "a scheduled rule is too far behind: its oldest runs are left out",
                 {{"rule", std::string_view(id)}, {"runs", next.left_out}});
    // Told once, however often the run is tried.
    slot.done.ns = std::max(slot.done.ns, next.next.ns - slot.moments.every.count());
  }
  const bool late = next.behind > 1 && now.ns - next.next.ns > (grace(slot.moments) + late_after).count();
  ScheduledRun made{next.next, late, std::nullopt};
  if (until < next.next) made.covered = until;
  slot.running = true;
  lock.unlock();
  auto raises = runner.scheduled(id, made, stop_.get_token());
  const bool found = raises && !raises->empty();
  if (found) write_(*std::move(raises), {{id, made.now, std::nullopt}});
  lock.lock();
  slot.running = false;  // nobody takes a slot away from a run
  if (raises) {
    slot.unsaved = !found || slot.off_since.has_value();
    ran(at, made, {}, now);
  } else {
    ran(at, made, std::unexpected(raises.error()), now);
  }
}

void Schedule::ran(Slots::iterator at, const ScheduledRun& made, const Result<void>& outcome, Timestamp began) {
  auto& [id, slot] = *at;
  changed_.notify_all();
  if (!outcome) {
    // It is run again: when the store can be read, or at the next start.
    if (!stop_.stop_requested()) board_.held_up(id, outcome.error());
    slot.not_before.ns = base::wall_now().ns + options_.store_retry.count();
    return;
  }
  // The rule may have another version by now: its window was looked at nevertheless.
  slot.done = std::max(slot.done, made.now);
  slot.not_before = {};
  if (made.late) slot.not_before.ns = base::wall_now().ns + options_.catch_up_pause.count();
  // One that takes too long runs less often, before it is suspended.
  if (const auto excesses = board_.excesses_in_a_row(id); excesses > 0) {
    slot.slowed = true;
    slot.not_before.ns = began.ns + (slot.moments.every.count() << excesses);
  }
}

}  // namespace daemoneye::detect
