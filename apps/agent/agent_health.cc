// What the agent says of itself and of all it is made of: health for people, metrics for machines.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>

#include "agent/agent.h"
#include "agent/store_admin.h"
#include "config/change.h"
#include "observe/metrics.h"

namespace daemoneye::apps {
namespace {

using observe::ComponentHealth;
using observe::HealthState;

constexpr std::chrono::milliseconds read_patience{500};
// So many events may wait for the rules before that is a reason to look.
constexpr event::EventId many_events = 10'000;
// A loss stays in the state of `detection` this long; in the store it stays.
constexpr std::chrono::minutes recent{10};

void degrade(ComponentHealth& health, HealthState state, const std::string& reason) {
  health.state = std::max(health.state, state);
  health.reason += (health.reason.empty() ? "" : "; ") + reason;
}

std::string one_decimal(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

// "complete", or what is missing by reason: "events_lost: 2 times, 120 events".
std::string missing_text(const event::Completeness& completeness) {
  struct Sum {
    std::uint64_t times = 0, count = 0;
  };
  std::map<std::string, Sum> sums;
  for (const auto& reason : completeness.reasons) {
    auto& sum = sums[reason.reason];
    ++sum.times;
    sum.count += reason.count.value_or(0);
  }
  std::string text;
  for (const auto& [reason, sum] : sums) {
    text +=
        (text.empty() ? "" : "; ") + reason + ": " + std::to_string(sum.times) + (sum.times == 1 ? " time" : " times");
    if (sum.count > 0) text += ", " + std::to_string(sum.count) + " events";
  }
  return text.empty() ? "complete" : text;
}

// The files that settings came from; an origin is "/etc/daemoneye/config.yaml:12".
std::string files_of(const config::Loaded& loaded) {
  std::set<std::string> files;
  for (const auto& [key, origin] : loaded.origin) {
    if (origin.starts_with('/')) files.insert(origin.substr(0, origin.rfind(':')));
  }
  std::string text;
  for (const auto& file : files) text += (text.empty() ? "" : ", ") + file;
  return text.empty() ? "none: built-in defaults" : text;
}

}  // namespace

std::vector<ComponentHealth> Agent::report(Probes probes) {
  auto report = collector_->health();
  const auto rules = engine_->state();
  report.push_back(store_health(probes));
  report.push_back(rules_health(rules));
  report.push_back(alert_admin_->health());
  report.push_back(resources_->health(collector_->use()));
  report.push_back(agent_health());
  if (probes == Probes::yes) {
    report.push_back(detection_health(rules));
    report.push_back(config_health());
  }
  std::ranges::sort(report, {}, &ComponentHealth::component);
  return report;
}

ComponentHealth Agent::store_health(Probes probes) const {
  auto health = apps::store_health(*writer_, *readers_, loaded_.settings, probes == Probes::yes);
  if (!set_aside_.empty()) {
    degrade(health, HealthState::degraded, "begun anew: the damaged file before it is kept as " + set_aside_);
  }
  return health;
}

ComponentHealth Agent::rules_health(const detect::Engine::State& state) const {
  ComponentHealth health{.component = "rules", .state = HealthState::ok, .reason = {}, .details = {}};
  health.details["active"] = std::to_string(state.active);
  health.details["inactive"] = std::to_string(state.inactive);
  health.details["unhealthy"] = std::to_string(state.unhealthy);
  health.details["alerts"] = std::to_string(state.alerts);
  health.details["merged"] = std::to_string(state.merged);
  health.details["queue"] = std::to_string(state.queued) + " of " + std::to_string(state.queue_capacity);
  health.details["commit_to_evaluated_p50_ms"] = one_decimal(state.p50_ms);
  health.details["commit_to_evaluated_p99_ms"] = one_decimal(state.p99_ms);
  if (const auto slowest = std::ranges::max_element(state.rules, {}, &detect::Engine::RuleState::p99_ms);
      slowest != state.rules.end() && slowest->evaluations > 0) {
    health.details["slowest"] = slowest->rule_id + ", p99 " + one_decimal(slowest->p99_ms) + " ms";
  }
  health.details["evaluated_to_event"] = std::to_string(state.evaluated_to);
  std::uint64_t held_back = 0, left_out = 0, incomplete = 0;
  std::string wrong, slow, partial;
  std::size_t wrong_ones = 0, slow_ones = 0, partial_ones = 0;
  const auto name = [](std::string& list, std::size_t& count, const std::string& one) {
    constexpr std::size_t most_named = 20;
    if (count < most_named) list += (count == 0 ? "" : ", ") + one;
    if (count == most_named) list += ", …";
    ++count;
  };
  for (const auto& rule : state.rules) {
    held_back += rule.held_back;
    left_out += rule.left_out;
    incomplete += rule.incomplete;
    if (!rule.missing.empty()) name(partial, partial_ones, rule.rule_id + " (" + rule.missing + ")");
    if (rule.state == "slow") name(slow, slow_ones, rule.rule_id);
    if (rule.state == "unhealthy" || rule.state == "suspended") {
      name(wrong, wrong_ones, rule.rule_id + " (" + rule.reason + ")");
    }
  }
  health.details["unfiltered"] = std::to_string(state.unfiltered);  // stream rules that are shown every row
  health.details["held_back"] = std::to_string(held_back);          // matches counted on the alert of a rule's limit
  health.details["runs_left_out"] = std::to_string(left_out);       // of scheduled rules
  health.details["incomplete"] = std::to_string(incomplete);        // evaluations that could not see everything
  if (!partial.empty()) health.details["lacking"] = partial;        // what the last one of these could not see
  if (!slow.empty()) health.details["slow"] = slow;
  if (state.unhealthy > 0) {
    degrade(health, HealthState::degraded, std::to_string(state.unhealthy) + " rules are not healthy: " + wrong);
  }
  if (state.lost > 0) {
    degrade(health, HealthState::degraded, std::to_string(state.lost) + " alerts are lost: the store refused them");
  }
  if (!state.slower.empty()) degrade(health, HealthState::degraded, state.slower);
  if (!state.problem.empty()) degrade(health, HealthState::failed, state.problem);
  if (state.active == 0) degrade(health, HealthState::degraded, "no rule is active: nothing is detected");
  return health;
}

// Whether what rules were shown lately is all there was: what answers and alerts of that time carry as completeness.
ComponentHealth Agent::detection_health(const detect::Engine::State& state) const {
  ComponentHealth health{.component = "detection", .state = HealthState::ok, .reason = {}, .details = {}};
  const auto reader = readers_->take(Deadline::after(read_patience));
  if (!reader) {
    degrade(health, HealthState::degraded, "cannot be told: " + reader.error().message);
    return health;
  }
  const auto now = base::wall_now();
  const auto begin = (*reader)->record_begin();
  if (!begin) {
    degrade(health, HealthState::degraded, "cannot be told: " + begin.error().message);
    return health;
  }
  if (*begin) health.details["recorded_since"] = base::to_iso(**begin);
  // Nothing was to be seen before there was anything: a young record is no loss.
  const auto missing = [&](std::chrono::nanoseconds span) -> Result<std::string> {
    const Timestamp from = std::max(Timestamp{now.ns - span.count()}, begin->value_or(Timestamp{INT64_MIN}));
    DE_TRY(const auto completeness, (*reader)->completeness({std::min(from, now), now}, now));
    return missing_text(completeness);
  };
  const auto lately = missing(recent);
  if (!lately) {
    degrade(health, HealthState::degraded, "cannot be told: " + lately.error().message);
    return health;
  }
  health.details["last_10_minutes"] = *lately;
  if (*lately != "complete") degrade(health, HealthState::degraded, "rules did not see everything lately: " + *lately);
  health.details["last_hour"] = missing(std::chrono::hours(1)).value_or("not known");
  health.details["last_day"] = missing(std::chrono::hours(24)).value_or("not known");
  if (const auto last = (*reader)->last_event_id()) {
    const auto behind = std::max<event::EventId>(*last - state.evaluated_to, 0);
    health.details["events_to_evaluate"] = std::to_string(behind);
    if (behind > many_events) {
      degrade(health, HealthState::degraded, std::to_string(behind) + " events wait for the rules");
    }
  }
  return health;
}

ComponentHealth Agent::config_health() const {
  ComponentHealth health{.component = "config", .state = HealthState::ok, .reason = {}, .details = {}};
  const auto digest = config::digest_hex(loaded_);
  health.details["files"] = files_of(loaded_);
  health.details["digest"] = digest;
  health.details["notices"] = std::to_string(loaded_.notices.size());
  for (const auto& notice : loaded_.notices) degrade(health, HealthState::degraded, notice);
  const auto on_disk = config::load(context_.sources);
  if (!on_disk) {
    degrade(health, HealthState::degraded,
            "what is on disk now is not valid, and the next start will fail: " +
                config::to_string(on_disk.error().front()) +
                (on_disk.error().size() > 1 ? " (and " + std::to_string(on_disk.error().size() - 1) + " more)" : ""));
  } else {
    std::string live, later;
    for (const auto& one : config::differences(loaded_.settings, on_disk->settings)) {
      auto& list = one.live ? live : later;
      list += (list.empty() ? "" : ", ") + one.key;
    }
    if (!live.empty()) health.details["at_next_reload"] = live;
    if (!later.empty()) health.details["at_next_start"] = later;
    if (!live.empty() || !later.empty()) {
      degrade(health, HealthState::degraded,
              "what is on disk now is not what is in force: it counts from the next " +
                  std::string(later.empty()  ? "reload"
                              : live.empty() ? "start"
                                             : "reload or start") +
                  " on");
    }
  }
  if (reload_.at) health.details["reloaded"] = base::to_iso(*reload_.at);
  if (!reload_.problems.empty()) {
    degrade(health, HealthState::degraded,
            "the last reload was refused, and nothing changed: " + reload_.problems.front() +
                (reload_.problems.size() > 1 ? " (and " + std::to_string(reload_.problems.size() - 1) + " more)" : ""));
  }
  return health;
}

ComponentHealth Agent::agent_health() const {
  ComponentHealth health{
      .component = "agent", .state = HealthState::ok, .reason = {}, .details = context_.reached.details()};
  health.details["version"] = DAEMONEYE_VERSION;
  health.details["pid"] = std::to_string(::getpid());
  for (const auto& missing : context_.reached.missing) degrade(health, HealthState::degraded, missing);
  if (monitoring_) {
    for (const auto& problem : monitoring_->problems()) degrade(health, HealthState::degraded, problem);
  }
  return health;
}

std::string Agent::metrics_text() {
  publish_metrics();
  return observe::metrics_text();
}

void Agent::publish_metrics() {
  const auto set = [](std::string_view name, std::string_view help, double value, const observe::Labels& labels = {}) {
    observe::gauge(name, help, labels).set(value);
  };
  const auto store = writer_->state();
  const auto& database = loaded_.settings.database;
  set("daemoneye_store_events", "Events committed since the start", static_cast<double>(store.events));
  set("daemoneye_store_file_bytes", "Size of the event store", static_cast<double>(store.file_bytes));
  set("daemoneye_store_wal_bytes", "Size of its write-ahead log", static_cast<double>(store.wal_bytes));
  set("daemoneye_store_size_limit_bytes", "database.max_size_mb: of both together",
      static_cast<double>(std::uint64_t{database.max_size_mb} * 1024 * 1024));
  set("daemoneye_store_paused", "1 while writes fail", store.paused ? 1 : 0);
  const auto rules = engine_->state();
  std::map<std::string, std::size_t> states = {{"healthy", 0}, {"slow", 0}, {"suspended", 0}, {"unhealthy", 0}};
  for (const auto& rule : rules.rules) ++states[rule.state];
  for (const auto& [state, count] : states) {
    set("daemoneye_rules", "Rules, by state", static_cast<double>(count), {{"state", state}});
  }
  set("daemoneye_rules_active", "Rules that are evaluated", static_cast<double>(rules.active));
  alert_admin_->publish_metrics();
  collector_->publish_metrics();
  resources_->publish_metrics(collector_->use());
  for (const auto& component : report(Probes::no)) {
    set("daemoneye_health_state", "State of a component: 0 ok, 1 degraded, 2 failed",
        static_cast<double>(component.state), {{"component", component.component}});
  }
  set("daemoneye_build_info", "1, with the version as a label", 1, {{"version", DAEMONEYE_VERSION}});
}

}  // namespace daemoneye::apps
