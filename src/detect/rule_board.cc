#include "detect/rule_board.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/text.h"
#include "observe/log.h"

namespace daemoneye::detect {
namespace {

constexpr std::size_t max_reason_bytes = 2048;

std::string reason_of(const std::vector<RuleProblem>& problems) {
  std::string reason;
  for (const auto& problem : problems) {
    if (reason.size() > max_reason_bytes) {
      reason += "; …";
      break;
    }
    if (!reason.empty()) reason += "; ";
    reason += to_string(problem);
  }
  return reason;
}

// "events_lost (5) from … to …", each reason once.
std::string missing_text(const event::Completeness& completeness) {
  constexpr std::size_t most_told = 3;
  std::string text;
  std::size_t told = 0;
  for (const auto& one : completeness.reasons) {
    if (told++ == most_told) {
      text += ", …";
      break;
    }
    text += (text.empty() ? "" : ", ") + base::printable(one.reason);
    if (one.count) text += " (" + std::to_string(*one.count) + ")";
    if (one.from) text += " from " + base::to_iso(*one.from);
    if (one.to) text += " to " + base::to_iso(*one.to);
  }
  return text;
}

}  // namespace

void RuleBoard::replace(const RuleSet& set, Timestamp now, bool fresh) {
  std::lock_guard lock(mutex_);
  auto before = std::move(entries_);
  entries_.clear();
  for (const auto& loaded : set.rules) {
    const Rule& rule = loaded.rule;
    Entry entry;
    entry.row = {rule.id,
                 rule.title,
                 std::string(store::to_string(rule.severity)),
                 std::string(to_string(rule.status)),
                 "healthy",
                 "",
                 rule.sql,
                 rule.file,
                 rule.version,
                 now};
    if (const auto found = before.find(rule.id); found != before.end() && found->second.row.version == rule.version) {
      Entry& old = found->second;
      entry.row.loaded_at = old.row.loaded_at;
      entry.evaluations = old.evaluations;
      entry.candidates = old.candidates;
      entry.matches = old.matches;
      entry.failures = old.failures;
      entry.timeouts = old.timeouts;
      entry.left_out = old.left_out;
      entry.held_back = old.held_back;
      entry.incomplete = old.incomplete;
      entry.missing = old.missing;
      if (!fresh && old.file_problem.empty()) {
        entry.row.state = old.row.state;
        entry.row.reason = old.row.reason;
        entry.clean_runs = old.clean_runs;
        entry.excesses_in_a_row = old.excesses_in_a_row;
        entry.before_held_up = old.before_held_up;
      }
    }
    entry.active = rule.status == RuleStatus::active;
    entry.scheduled = rule.evaluate.has_value();
    label(entry);
    entries_.emplace(rule.id, std::move(entry));
  }
  for (const auto& broken : set.unhealthy) {
    auto& entry = entries_[broken.id];
    if (entry.row.rule_id.empty()) {
      entry.row.rule_id = broken.id;
      entry.row.file = broken.file;
      entry.row.loaded_at = now;
      label(entry);
    }
    entry.file_problem = reason_of(broken.problems);
    if (broken.last_good_kept) entry.file_problem = "the last good version runs on; " + entry.file_problem;
    entry.row.state = "unhealthy";
    entry.row.reason = entry.file_problem;
  }
  for (const auto& [id, entry] : entries_) {
    tell_state(entry);
    before.erase(id);
  }
  for (auto& [id, gone] : before) {
    gone.active = false;
    tell_state(gone);
  }
  changed_ = true;
}

void RuleBoard::tell_state(const Entry& entry) {
  if (!entry.labelled) return;
  constexpr double not_evaluated = -1;
  constexpr std::string_view states[] = {"healthy", "slow", "unhealthy", "suspended"};
  const auto place = std::ranges::find(states, entry.row.state) - std::begin(states);
  const bool known = entry.active || entry.row.state == "unhealthy";  // a broken file's rule
  entry.state.set(known ? static_cast<double>(place) : not_evaluated);
}

void RuleBoard::label(Entry& entry) {
  std::string name = entry.row.rule_id;
  if (!labelled_.contains(name)) {
    if (labelled_.size() >= max_labelled_rules)
      name = "other";
    else
      labelled_.emplace(name, true);
  }
  const observe::Labels labels{{"rule", name}};
  entry.labelled = name == entry.row.rule_id;
  if (entry.labelled) {
    entry.state = observe::gauge("daemoneye_rule_state",
                                 "0 healthy, 1 slow, 2 unhealthy, 3 suspended, -1 not evaluated or gone.", labels);
  }
  entry.latency = observe::histogram("daemoneye_rule_evaluation_seconds", "Time of one evaluation of a rule.", labels);
  entry.shown = observe::counter("daemoneye_rule_candidates_total", "Rows that a stream rule was shown.", labels);
  entry.timed_out = observe::counter("daemoneye_rule_timeouts_total",
                                     "Evaluations that did not end within their time limit.", labels);
  entry.partial =
      observe::counter("daemoneye_rule_incomplete_total", "Evaluations that could not see everything.", labels);
  entry.held =
      observe::counter("daemoneye_rule_held_back_total", "Matches that a rule's limit counted on one alert.", labels);
  entry.matched = observe::counter("daemoneye_rule_matches_total", "Rows that a rule matched.", labels);
  entry.failing = observe::counter("daemoneye_rule_failures_total", "Evaluations that failed or timed out.", labels);
}

void RuleBoard::set_state(Entry& entry, std::string state, std::string reason) {
  if (!entry.file_problem.empty()) return;
  if (entry.row.state != state) {
    changed_ = true;
    observe::log(state == "healthy" ? observe::Level::info : observe::Level::warn, "detect", "rule changed its state",
                 {{"rule", std::string_view(entry.row.rule_id)},
                  {"state", std::string_view(state)},
                  {"reason", std::string_view(reason)}});
  }
  entry.row.state = std::move(state);
  entry.row.reason = std::move(reason);
  tell_state(entry);
}

void RuleBoard::ran(const std::string& id, std::chrono::nanoseconds elapsed, std::uint64_t candidates,
                    std::uint64_t matches) {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  ++entry.evaluations;
  entry.candidates += candidates;
  entry.matches += matches;
  if (candidates > 0) entry.shown.add(static_cast<double>(candidates));
  entry.excesses_in_a_row = 0;
  entry.latency.observe(std::chrono::duration<double>(elapsed).count());
  if (matches > 0) entry.matched.add(static_cast<double>(matches));
  if (const auto before = std::exchange(entry.before_held_up, std::nullopt)) {
    set_state(entry, before->first, before->second);
  }
  if (elapsed > slow_run) {
    entry.clean_runs = 0;
    if (entry.row.state == "unhealthy") return;
    set_state(entry, "slow",
              "one evaluation took " +
                  std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(elapsed).count()) +
                  " ms (over 100 ms): narrow it by kind, name or an equality on a column before joins and LIKE");
  } else if (entry.row.state != "healthy" && ++entry.clean_runs >= recovery_runs) {
    set_state(entry, "healthy", "");
  }
}

void RuleBoard::failed(const std::string& id, std::chrono::nanoseconds elapsed, const Error& error) {
  const auto over_budget = note_failure(id, elapsed, error);
  if (!over_budget.empty() && on_over_budget_) on_over_budget_(id, over_budget);
}

std::string RuleBoard::note_failure(const std::string& id, std::chrono::nanoseconds elapsed, const Error& error) {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return {};
  Entry& entry = found->second;
  ++entry.evaluations;
  ++entry.failures;
  entry.clean_runs = 0;
  entry.latency.observe(std::chrono::duration<double>(elapsed).count());
  entry.failing.add();
  const std::string count = " (" + std::to_string(entry.failures) + " evaluations failed; their rows were not matched)";
  const bool over_time = error.code == Errc::timeout;
  if (!over_time && error.code != Errc::limit_exceeded) {
    entry.excesses_in_a_row = 0;
    set_state(entry, "unhealthy", base::printable(error.message) + count);
    return {};
  }
  const std::string what = over_time ? "over its time limit" : base::printable(error.message);
  if (over_time) {
    ++entry.timeouts;
    entry.timed_out.add();
  }
  if (++entry.excesses_in_a_row < suspend_after) {
    set_state(entry, "unhealthy", what + (entry.scheduled ? "; runs less often" : "") + count);
    return entry.excesses_in_a_row == 1 ? what : "";
  }
  const std::string reason = what + " " + std::to_string(suspend_after) +
                             " times in a row; not evaluated until its file changes or the rules are reloaded";
  set_state(entry, "suspended", reason);
  if (!entry.file_problem.empty()) {
    // The last good version of a broken file: its own state is hidden behind the file's, so it is said there.
    entry.row.state = "suspended";
    entry.row.reason = what + "; not evaluated; " + entry.file_problem;
    changed_ = true;
    tell_state(entry);
  }
  return reason;
}

void RuleBoard::saw(const std::string& id, const event::Completeness& completeness) {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  if (completeness.reasons.empty() && entry.missing.empty()) return;
  auto missing = missing_text(completeness);
  changed_ = changed_ || missing.empty() != entry.missing.empty();
  entry.missing = std::move(missing);
  if (entry.missing.empty()) return;
  ++entry.incomplete;
  entry.partial.add();
}

void RuleBoard::held_up(const std::string& id, const Error& error) {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  if (!entry.before_held_up) entry.before_held_up = {entry.row.state, entry.row.reason};
  set_state(entry, "unhealthy", "the store cannot be read, its run is made again: " + base::printable(error.message));
}

void RuleBoard::left_out(const std::string& id, std::uint64_t runs) {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  found->second.left_out += runs;
  found->second.clean_runs = 0;
  set_state(found->second, "unhealthy",
            "too far behind: the windows of " + std::to_string(found->second.left_out) + " runs were not looked at");
}

void RuleBoard::held_back(const std::string& id, std::uint64_t matches) {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  found->second.held_back += matches;
  found->second.held.add(static_cast<double>(matches));
}

unsigned RuleBoard::excesses_in_a_row(const std::string& id) const {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  return found == entries_.end() ? 0 : found->second.excesses_in_a_row;
}

bool RuleBoard::suspended(const std::string& id) const {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  return found != entries_.end() && found->second.row.state == "suspended";
}

std::vector<store::RuleRow> RuleBoard::rows() const {
  std::lock_guard lock(mutex_);
  std::vector<store::RuleRow> rows;
  rows.reserve(entries_.size());
  for (const auto& [id, entry] : entries_) {
    rows.push_back(entry.row);
    auto& reason = rows.back().reason;
    if (!entry.missing.empty())
      reason += (reason.empty() ? "" : "; ") + ("its last evaluation lacked " + entry.missing);
  }
  return rows;
}

bool RuleBoard::take_changed() {
  std::lock_guard lock(mutex_);
  return std::exchange(changed_, false);
}

void RuleBoard::describe(Engine::State& state) const {
  std::lock_guard lock(mutex_);
  constexpr double ms = 1000;
  for (const auto& [id, entry] : entries_) {
    if (entry.active && entry.row.state != "suspended")
      ++state.active;
    else if (entry.row.state == "healthy" || entry.row.state == "slow")
      ++state.inactive;
    if (entry.row.state == "unhealthy" || entry.row.state == "suspended") ++state.unhealthy;
    Engine::RuleState rule;
    rule.rule_id = id;
    rule.state = entry.row.state;
    rule.reason = entry.row.reason;
    rule.evaluations = entry.evaluations;
    rule.candidates = entry.candidates;
    rule.matches = entry.matches;
    rule.timeouts = entry.timeouts;
    rule.left_out = entry.left_out;
    rule.held_back = entry.held_back;
    rule.incomplete = entry.incomplete;
    rule.missing = entry.missing;
    rule.p50_ms = entry.latency.quantile(0.5) * ms;
    rule.p99_ms = entry.latency.quantile(0.99) * ms;
    state.rules.push_back(std::move(rule));
  }
}

}  // namespace daemoneye::detect
