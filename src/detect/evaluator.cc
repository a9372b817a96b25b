#include "detect/evaluator.h"

#include <algorithm>
#include <set>

#include "base/bytes.h"
#include "event/event_codec.h"

namespace daemoneye::detect {
namespace {

// Ends the shared snapshot on every way out.
class StreamScope {
 public:
  explicit StreamScope(sql::Connection& connection) : connection_(connection) {}
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;
  ~StreamScope() { connection_.end_stream(); }

 private:
  sql::Connection& connection_;
};

void add_damage(event::Completeness& completeness, const std::vector<event::Incompleteness>& damage) {
  for (const auto& reason : damage) {
    if (std::ranges::find(completeness.reasons, reason) == completeness.reasons.end()) {
      completeness.reasons.push_back(reason);
    }
  }
}

// Why a run cannot be made, which is not the rule's doing: it can be made when the store is well again.
bool is_of_store(Errc code) { return code == Errc::io || code == Errc::unavailable || code == Errc::corrupt; }

constexpr std::size_t max_evidence = 100;  // event ids on the alert that stands for many

// What a run lacks beside what the store knows of.
void add_what_is_missing(const ScheduledRun& asked, sql::RunStats& stats) {
  auto& reasons = stats.completeness.reasons;
  if (asked.covered) {
    const bool told = std::ranges::any_of(reasons, [&](const event::Incompleteness& one) {
      const bool away = one.reason == "collector_unavailable" || one.reason == "late";
      return away && (!one.to || *one.to >= asked.now);
    });
    if (!told) reasons.push_back({"late", std::nullopt, asked.covered, asked.now});
  }
  if (asked.late) reasons.push_back({"late", std::nullopt, asked.now, base::wall_now()});
}

// What a run could not see through anybody's fault. A window that reaches back before the first record is none: every
// instance is young once, and its alerts say so.
event::Completeness faults_of(event::Completeness completeness) {
  std::erase_if(completeness.reasons, [](const auto& one) { return one.reason == "before_record"; });
  return completeness;
}

std::chrono::nanoseconds since(base::SteadyClock::time_point begin) { return base::SteadyClock::now() - begin; }

}  // namespace

Evaluator::Evaluator(std::unique_ptr<sql::Connection> connection, const EngineOptions& options, const LiveLimits& live,
                     RuleBoard& board, RuleLimits& limits)
    : connection_(std::move(connection)),
      options_(options),
      live_(live),
      board_(board),
      limits_(limits),
      builder_(*connection_, options.host, options.agent_version) {}

void Evaluator::use(std::shared_ptr<const RuleSet> rules, std::shared_ptr<const Prefilter> prefilter) {
  std::set<const sql::Compiled*> kept;
  for (const auto& rule : rules->rules) kept.insert(rule.compiled.get());
  for (const auto& rule : rules_->rules) {
    if (!kept.contains(rule.compiled.get())) connection_->forget(*rule.compiled);
  }
  rules_ = std::move(rules);
  stream_rules_.clear();
  counter_rules_.clear();
  counters_ = 0;
  for (std::uint32_t place = 0; place < rules_->rules.size(); ++place) {
    if (!is_active_stream_rule(rules_->rules[place])) continue;
    stream_rules_.push_back(place);
    const auto counters = counters_of(*rules_->rules[place].compiled);
    if (counters != 0) counter_rules_.push_back({place, counters});
    counters_ |= counters;
  }
  work_ = prefilter ? std::make_unique<Prefilter::Work>(*prefilter) : nullptr;
  prefilter_ = std::move(prefilter);
}

std::chrono::milliseconds Evaluator::dedup_window(const LoadedRule& rule) const {
  const auto own = std::chrono::ceil<std::chrono::milliseconds>(rule.rule.dedup_for);
  if (own.count() > 0) return own;
  if (!rule.rule.evaluate) return live_.dedup_window.load();
  // A row is found again by every run whose window still holds it: that is one alert.
  return std::max(live_.dedup_window.load(),
                  std::chrono::ceil<std::chrono::milliseconds>(rule.rule.evaluate->window + rule.rule.evaluate->every));
}

store::Writer::Raise Evaluator::raise(const LoadedRule& rule, store::Alert alert) const {
  store::Writer::Raise raise;
  raise.dedup_window = dedup_window(rule);
  if (options_.route) raise.sinks = options_.route(alert);
  raise.alert = std::move(alert);
  return raise;
}

template <class Find>
const std::vector<std::uint32_t>& Evaluator::look_for_candidates(Find find) {
  candidates_.rules.clear();
  if (prefilter_ == nullptr) return stream_rules_;
  if (find(*prefilter_)) return prefilter_->unfiltered();
  candidates_.rules.clear();  // whatever it was, all rules see all rows
  return stream_rules_;
}

Result<std::vector<store::Writer::Raise>> Evaluator::stream(const StoredEvents& events, Timestamp now, Timestamp raised,
                                                            std::stop_token stop) {
  if (events.events.empty()) return {};
  const auto& see_all = look_for_candidates(
      [&](const Prefilter& prefilter) { return prefilter.find(events.events, *work_, candidates_); });
  return show(events, see_all, {now, raised, std::move(stop)});
}

Result<std::vector<store::Writer::Raise>> Evaluator::stream(const event::BatchView& batch, event::EventId first,
                                                            Timestamp now, Timestamp raised, std::stop_token stop) {
  if (batch.events.empty()) return {};
  const auto& see_all = look_for_candidates(
      [&](const Prefilter& prefilter) { return prefilter.find(batch.events, first, *work_, candidates_); });
  std::vector<bool> wanted(batch.events.size(), !see_all.empty());
  for (const auto& of : candidates_.rules) {
    for (const auto row : of.rows) wanted[row] = true;
  }
  StoredEvents events;
  std::vector<std::uint32_t> places(batch.events.size());  // in `events`, of those that are there
  for (std::size_t row = 0; row < wanted.size(); ++row) {
    if (!wanted[row]) continue;
    places[row] = static_cast<std::uint32_t>(events.events.size());
    auto& whole = events.events.emplace_back();
    whole.id = first + static_cast<event::EventId>(row);
    base::ByteReader in(batch.events[row].bytes);
    DE_CHECK(event::decode_event(in, whole.event));
  }
  for (auto& of : candidates_.rules) {
    for (auto& row : of.rows) row = places[row];
  }
  return show(events, see_all, {now, raised, std::move(stop)});
}

Result<std::vector<store::Writer::Raise>> Evaluator::show(const StoredEvents& events,
                                                          const std::vector<std::uint32_t>& see_all,
                                                          const Moment& moment) {
  std::vector<store::Writer::Raise> raises;
  if (see_all.empty() && candidates_.rules.empty()) return raises;
  const auto rows = driving_rows(events.events);
  DE_CHECK(connection_->begin_stream(rows, moment.now));
  const StreamScope scope(*connection_);
  builder_.next_batch();
  // In the order of the set, whichever way a rule's rows were found.
  auto all = see_all.begin();
  for (const auto& of : candidates_.rules) {
    for (; all != see_all.end() && *all < of.rule; ++all) {
      DE_CHECK(stream_rule(rules_->rules[*all], events, nullptr, moment, raises));
    }
    DE_CHECK(stream_rule(rules_->rules[of.rule], events, &of.rows, moment, raises));
  }
  for (; all != see_all.end(); ++all) {
    DE_CHECK(stream_rule(rules_->rules[*all], events, nullptr, moment, raises));
  }
  return raises;
}

Result<std::vector<store::Writer::Raise>> Evaluator::changed(const LiveChanges::Chunk& chunk, Timestamp now,
                                                             std::stop_token stop) {
  std::vector<store::Writer::Raise> raises;
  const auto& events = chunk.events.events;
  if (events.empty()) return raises;
  const auto& see_all =
      look_for_candidates([&](const Prefilter& prefilter) { return prefilter.find(events, *work_, candidates_); });
  const Moment moment{now, now, std::move(stop), true};
  const auto rows = driving_rows(events);
  DE_CHECK(connection_->begin_stream(rows, now));
  const StreamScope scope(*connection_);
  builder_.next_batch();
  std::vector<std::uint32_t> shown;
  for (const auto& rule : counter_rules_) {
    shown.clear();
    const auto show = [&](std::uint32_t row) {
      if ((chunk.changed[row] & rule.counters) != 0) shown.push_back(row);
    };
    if (std::ranges::binary_search(see_all, rule.place)) {
      for (std::uint32_t row = 0; row < events.size(); ++row) show(row);
    } else if (const auto found =
                   std::ranges::lower_bound(candidates_.rules, rule.place, {}, &Candidates::OfRule::rule);
               found != candidates_.rules.end() && found->rule == rule.place) {
      std::ranges::for_each(found->rows, show);
    }
    if (!shown.empty()) DE_CHECK(stream_rule(rules_->rules[rule.place], chunk.events, &shown, moment, raises));
  }
  return raises;
}

Result<void> Evaluator::stream_rule(const LoadedRule& rule, const StoredEvents& events,
                                    const std::vector<std::uint32_t>* rows, const Moment& moment,
                                    std::vector<store::Writer::Raise>& raises) {
  if (board_.suspended(rule.rule.id)) return {};
  std::vector<Match> matches;
  sql::RunOptions run;
  run.deadline = Deadline::after(live_.rule_timeout.load());
  run.stop = moment.stop;
  run.now = moment.now;
  run.row_limit = max_stream_rows;
  run.only_rows = rows;
  run.memory_limit = options_.rule_memory;
  const auto begin = base::SteadyClock::now();
  auto stats = connection_->run_stream(*rule.compiled, run, [&](const sql::Row& row, event::EventId driving) {
    const auto stored = std::ranges::lower_bound(events.events, driving, {}, &StoredEvent::id);
    const bool known = stored != events.events.end() && stored->id == driving;
    const bool concerned = !known || moment.counters || concerns(*rule.compiled, stored->event);
    if (concerned) matches.push_back({row, known ? &*stored : nullptr});
    return true;
  });
  const auto elapsed = since(begin);
  std::deque<StoredEvent> evidence;
  if (stats) DE_CHECK(moment.counters ? find_evidence(matches, evidence) : drop_known(rule, matches));
  if (!stats) {
    if (moment.stop.stop_requested()) return fail(Errc::cancelled, "detection was stopped");
    // The store's failure is not the rule's: the events are shown again.
    if (stats.error().code == Errc::io) return std::unexpected(stats.error());
    board_.failed(rule.rule.id, elapsed, stats.error());
    return {};
  }
  board_.ran(rule.rule.id, elapsed, rows == nullptr ? events.events.size() : rows->size(), matches.size());
  add_damage(stats->completeness, events.damage);
  board_.saw(rule.rule.id, faults_of(stats->completeness));
  raise_all(rule, matches, stats->completeness, moment.raised, raises);
  return {};
}

// A scan after a restart of the collector tells of every process that lives; a rule over `processes` sees an instance
// when it is first found.
Result<void> Evaluator::drop_known(const LoadedRule& rule, std::vector<Match>& matches) {
  if (rule.compiled->driving()->table != "processes") return {};
  for (auto match = matches.begin(); match != matches.end();) {
    bool known = false;
    if (match->driving != nullptr) {
      DE_TRY(known, was_known(connection_->reader(), *match->driving));
    }
    match = known ? matches.erase(match) : std::next(match);
  }
  return {};
}

Result<void> Evaluator::find_evidence(std::vector<Match>& matches, std::deque<StoredEvent>& found) {
  constexpr std::size_t max_looked_for = 100, max_kept = 4096;
  std::size_t looked_for = 0;
  for (auto& match : matches) {
    if (match.driving == nullptr) continue;
    const auto& process = match.driving->event.process;
    auto known = evidence_.find(process.key);
    if (known == evidence_.end() && ++looked_for <= max_looked_for) {
      DE_TRY(const auto id, last_event_of(connection_->reader(), process));
      if (evidence_.size() >= max_kept) evidence_.clear();
      known = evidence_.emplace(process.key, id.value_or(0)).first;
    }
    match.driving = &found.emplace_back(known == evidence_.end() ? 0 : known->second, match.driving->event);
  }
  return {};
}

void Evaluator::raise_all(const LoadedRule& rule, const std::vector<Match>& matches,
                          const event::Completeness& completeness, Timestamp raised,
                          std::vector<store::Writer::Raise>& raises) {
  std::vector<const Match*> held;
  for (const auto& match : matches) {
    if (!limits_.may_raise(rule.rule.id, dedup_key(rule, match.row), raised, dedup_window(rule))) {
      held.push_back(&match);
      continue;
    }
    raises.push_back(raise(rule, builder_.build(rule, match.row, match.driving, completeness, raised)));
    raises.back().repeats_closed_since = match.happened;
  }
  if (held.empty()) return;
  std::vector<event::EventId> evidence;
  for (const auto* const match : held) {
    const bool told = match->driving != nullptr && match->driving->id > 0;
    if (told && evidence.size() < max_evidence) evidence.push_back(match->driving->id);
  }
  board_.held_back(rule.rule.id, held.size());
  auto summary = raise(rule, builder_.summary(rule, held.size(), std::move(evidence), completeness, raised, limits_));
  // As long as it goes on, it is one alert.
  summary.dedup_window = std::chrono::ceil<std::chrono::milliseconds>(limits_.window() * 2);
  raises.push_back(std::move(summary));
}

Result<std::vector<store::Writer::Raise>> Evaluator::scheduled(const std::string& rule_id, const ScheduledRun& asked,
                                                               std::stop_token stop) {
  const auto found =
      std::ranges::lower_bound(rules_->rules, rule_id, {}, [](const LoadedRule& r) { return r.rule.id; });
  if (found == rules_->rules.end() || found->rule.id != rule_id) {
    return fail(Errc::internal, "there is no rule " + rule_id);
  }
  const LoadedRule& rule = *found;
  std::vector<store::Writer::Raise> raises;
  std::vector<Match> matches;
  sql::RunOptions run;
  run.deadline = Deadline::after(live_.rule_timeout.load());
  run.stop = stop;
  run.now = asked.now;
  run.row_limit = max_scheduled_rows;
  run.memory_limit = options_.rule_memory;
  // What lies on the border of two windows is in one of them.
  const Timestamp from{asked.now.ns - rule.rule.evaluate->window.count() + 1};
  run.history = {from, asked.now};
  const auto begin = base::SteadyClock::now();
  auto stats = connection_->run(*rule.compiled, run, [&](const sql::Row& row) {
    matches.push_back({row, nullptr, std::nullopt});
    return true;
  });
  const auto elapsed = since(begin);
  connection_->reader().forget_blocks();  // the next run is minutes away
  if (!stats) {
    if (stop.stop_requested()) return fail(Errc::cancelled, "detection was stopped");
    if (is_of_store(stats.error().code)) return std::unexpected(stats.error());
    board_.failed(rule.rule.id, elapsed, stats.error());
    return raises;
  }
  for (auto& match : matches) {
    DE_TRY(match.happened, newest_in(rule, match.row, {from, asked.now}));
  }
  board_.ran(rule.rule.id, elapsed, 0, matches.size());
  add_what_is_missing(asked, *stats);
  board_.saw(rule.rule.id, faults_of(stats->completeness));
  builder_.next_batch();
  raise_all(rule, matches, stats->completeness, base::wall_now(), raises);
  return raises;
}

// When the newest of what a row tells happened, as far as the row says: at the beginning of the window at least.
Result<Timestamp> Evaluator::newest_in(const LoadedRule& rule, const sql::Row& row, const event::TimeRange& window) {
  Timestamp newest = *window.from;
  const auto& columns = rule.compiled->columns();
  bool tells = false;
  std::optional<std::int64_t> id;
  for (std::size_t i = 0; i < columns.size() && i < row.size(); ++i) {
    const auto* const number = std::get_if<std::int64_t>(&row[i]);
    if (number == nullptr) continue;
    if (columns[i].name == "event_id") id = *number;
    if (!columns[i].is_time || *number > window.to->ns) continue;
    newest = std::max(newest, Timestamp{*number});
    tells = tells || columns[i].name == "time";
  }
  if (tells || !id) return newest;
  DE_TRY(const auto events, read_events(connection_->reader(), *id, *id, 1));
  if (!events.events.empty()) newest = std::max(newest, events.events.front().event.time);
  return newest;
}

}  // namespace daemoneye::detect
