#include "detect/schedule.h"

#include <algorithm>

#include "observe/log.h"

namespace daemoneye::detect {

using base::SteadyClock;

Schedule::Schedule(std::unique_ptr<Evaluator> evaluator, RuleBoard& board, RaiseAlerts raise)
    : evaluator_(std::move(evaluator)), board_(board), raise_(std::move(raise)) {}

Schedule::~Schedule() {
  stop();
  join();
}

void Schedule::use(std::shared_ptr<const RuleSet> rules) {
  std::lock_guard lock(mutex_);
  next_rules_ = std::move(rules);
  changed_.notify_all();
}

void Schedule::start() {
  thread_ = std::thread([this] { run(); });
}

void Schedule::stop() {
  std::lock_guard lock(mutex_);
  stop_.request_stop();
  changed_.notify_all();
}

void Schedule::join() {
  if (thread_.joinable()) thread_.join();
}

// A rule that is unchanged keeps its place.
void Schedule::plan(const RuleSet& rules) {
  std::map<std::string, Slot> slots;
  const auto now = SteadyClock::now();
  for (const auto& rule : rules.rules) {
    if (!is_active_scheduled_rule(rule)) continue;
    const auto before = slots_.find(rule.rule.id);
    if (before != slots_.end() && before->second.version == rule.rule.version) {
      slots.insert(*before);
      continue;
    }
    std::uniform_int_distribution<std::int64_t> within(0, rule.rule.evaluate->every.count());
    slots[rule.rule.id] = {now + std::chrono::nanoseconds(within(random_)), rule.rule.version};
  }
  slots_ = std::move(slots);
}

void Schedule::run() {
  std::unique_lock lock(mutex_);
  while (!stop_.stop_requested()) {
    if (auto next = std::exchange(next_rules_, nullptr)) {
      evaluator_->use(next);
      plan(*next);
    }
    const auto due = std::ranges::min_element(slots_, {}, [](const auto& slot) { return slot.second.next; });
    const auto something = [&] { return stop_.stop_requested() || next_rules_ != nullptr; };
    if (due == slots_.end()) {
      changed_.wait(lock, something);
      continue;
    }
    if (changed_.wait_until(lock, due->second.next, something)) continue;
    const auto& rules = evaluator_->rules().rules;
    const auto rule = std::ranges::lower_bound(rules, due->first, {}, [](const LoadedRule& r) { return r.rule.id; });
    // Never earlier than `every` from now: a slow machine runs less often instead of catching up in a storm.
    due->second.next = std::max(due->second.next + rule->rule.evaluate->every, SteadyClock::now());
    if (board_.suspended(rule->rule.id)) continue;
    lock.unlock();
    auto raises = evaluator_->scheduled(*rule, base::wall_now(), stop_.get_token());
    // The only error is the stop: a rule's own failure is on the board.
    if (raises && !raises->empty()) raise_(*std::move(raises));
    lock.lock();
  }
}

}  // namespace daemoneye::detect
