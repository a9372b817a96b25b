// rules show: a rule as it is in force, how it is looked for, and how it has fared.
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <ostream>
#include <utility>
#include <vector>

#include "base/text.h"
#include "cli/alerts.h"
#include "cli/explain.h"
#include "cli/rules.h"
#include "detect/prefilter.h"

namespace daemoneye::cli {
namespace {

using nlohmann::json;

constexpr auto agent_patience = std::chrono::seconds(2);  // without its answer the rest is shown

event::Value text(const std::string& value) {
  if (value.empty()) return std::monostate{};
  return value;
}

std::string lines(const std::vector<std::string>& all) {
  std::string out;
  for (const auto& one : all) out += (out.empty() ? "" : "\n") + one;
  return out;
}

// What the scans themselves check: from a run over no time at all.
std::string push_down(const detect::LoadedRule& rule, sql::Connection& connection, Deadline deadline) {
  sql::RunOptions options;
  options.deadline = deadline;
  options.row_limit = 1;
  options.now = Timestamp{0};
  options.history = {Timestamp{0}, Timestamp{0}};
  const auto stats = connection.run(*rule.compiled, options, [](const sql::Row&) { return false; });
  if (!stats) return "not known: " + stats.error().message;
  std::vector<std::string> steps;
  for (const auto& step : stats->steps) {
    std::string line = step.table + ": ";
    for (std::size_t i = 0; i < step.pushed.size(); ++i) line += (i == 0 ? "" : " AND ") + step.pushed[i];
    if (step.pushed.empty()) line += "nothing";
    if (!step.left.empty()) line += "; by SQLite: ";
    for (std::size_t i = 0; i < step.left.size(); ++i) line += (i == 0 ? "" : " AND ") + step.left[i];
    steps.push_back(std::move(line));
  }
  return lines(steps);
}

struct Fortune {
  std::string state, reason, statistics, push_down;
  event::Value alerts, last_alert;
};

// Of the store: the state the agent wrote down last, and the alerts.
void ask_store(const detect::LoadedRule& rule, Invocation& invocation, Fortune& fortune) {
  const auto connection = invocation.connect();
  if (!connection) return;
  fortune.push_down = push_down(rule, **connection, invocation.deadline());
  const auto one = [&](const char* statement, const std::function<void(const sql::Row&)>& take) {
    const auto compiled = sql::compile(statement);
    if (!compiled) return;
    sql::RunOptions options;
    options.deadline = invocation.deadline();
    options.parameters = {{"id", rule.rule.id}};
    // What cannot be read is left out.
    [[maybe_unused]] const auto done = (*connection)->run(*compiled, options, [&](const sql::Row& row) {
      take(row);
      return false;
    });
  };
  one("SELECT state, coalesce(reason, '') FROM detection_rules WHERE rule_id = :id", [&](const sql::Row& row) {
    fortune.state = std::get<std::string>(row.at(0));
    fortune.reason = std::get<std::string>(row.at(1));
  });
  one("SELECT count(*), iso(max(last_seen)) FROM alerts WHERE rule_id = :id", [&](const sql::Row& row) {
    fortune.alerts = row.at(0);
    fortune.last_alert = row.at(1);
  });
}

// Of a histogram as it is exposed: how many were at most so much, ascending.
using Buckets = std::vector<std::pair<double, double>>;

// The upper bound of the bucket that holds the quantile; nothing when that is the last, which has none.
json quantile_ms(const Buckets& buckets, double quantile) {
  if (buckets.empty()) return nullptr;
  const double wanted = quantile * buckets.back().second;
  for (const auto& [bound, count] : buckets) {
    if (count >= wanted && std::isfinite(bound)) return bound * 1000;
  }
  return nullptr;
}

// The agent's metrics of the rule since its start, as JSON: {"evaluation_seconds_count": 12, "p99_ms": 0.5, …}.
std::string ask_agent_for(const std::string& id, Invocation& invocation) {
  const auto deadline = Deadline::after(agent_patience);
  const auto agent = invocation.agent(deadline);
  if (!agent) return "";
  const auto answer = ask_agent(**agent, ipc::RequestKind::metrics, json::object(), deadline);
  if (!answer) return "";
  const std::string metrics = answer->value("text", "");
  constexpr std::string_view prefix = "daemoneye_rule_";
  const std::string label = "rule=\"" + id + "\"";
  json found = json::object();
  Buckets buckets;
  for (std::size_t at = 0; at < metrics.size();) {
    const auto end = std::min(metrics.find('\n', at), metrics.size());
    const auto line = std::string_view(metrics).substr(at, end - at);
    at = end + 1;
    const auto brace = line.find('{');
    if (!line.starts_with(prefix) || brace == std::string_view::npos || line.find(label) == std::string_view::npos) {
      continue;
    }
    const auto name = line.substr(prefix.size(), brace - prefix.size());
    const auto value = json::parse(line.substr(line.rfind(' ') + 1), nullptr, false);
    if (!value.is_number()) continue;
    if (!name.ends_with("_bucket")) {
      found[std::string(name)] = value;
      continue;
    }
    constexpr std::string_view bound_label = ",le=\"";
    const auto bound = line.find(bound_label);
    if (name != "evaluation_seconds_bucket" || bound == std::string_view::npos) continue;
    const std::string text(line.substr(bound + bound_label.size()));  // "+Inf" is one that strtod knows
    buckets.emplace_back(std::strtod(text.c_str(), nullptr), value.get<double>());
  }
  if (!buckets.empty() && buckets.back().second > 0) {
    found["p50_ms"] = quantile_ms(buckets, 0.5);
    found["p99_ms"] = quantile_ms(buckets, 0.99);
  }
  return found.empty() ? "" : found.dump();
}

Outcome<Exit> show_rule(const std::string& name, Invocation& invocation) {
  CLI_TRY(const auto loaded, find_rule(name, invocation));
  const auto& rule = loaded.rule;
  Fortune fortune;
  ask_store(loaded, invocation, fortune);
  fortune.statistics = ask_agent_for(rule.id, invocation);
  const bool people = invocation.format() == Format::table;
  const auto given = hints_of(loaded);
  const std::string hints = given.empty() ? "" : people ? hints_text(given) : hints_json(given);
  const auto literals = detect::literals_text(*loaded.compiled);
  const auto span = [](std::chrono::nanoseconds of) {
    return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(of).count()) + "s";
  };
  write_record(invocation, {{"rule_id"},       {"title"},       {"description"},    {"severity"},   {"status"},
                            {"kind"},          {"every"},       {"window"},         {"tags"},       {"references"},
                            {"author"},        {"license"},     {"falsepositives"}, {"except"},     {"local_except"},
                            {"file_severity"}, {"file_status"}, {"dedup_by"},       {"file"},       {"version"},
                            {"state"},         {"reason"},      {"alerts"},         {"last_alert"}, {"statistics"},
                            {"literals"},      {"push_down"},   {"hints"},          {"sql"},        {"derived_sql"}},
               {text(rule.id),
                text(rule.title),
                text(rule.description),
                std::string(to_string(rule.severity)),
                std::string(to_string(rule.status)),
                std::string(rule.evaluate ? "scheduled" : "stream"),
                text(rule.evaluate ? span(rule.evaluate->every) : ""),
                text(rule.evaluate ? span(rule.evaluate->window) : ""),
                text(joined(rule.tags)),
                text(joined(rule.references)),
                text(rule.author),
                text(rule.license),
                text(joined(rule.falsepositives)),
                text(joined(rule.except)),
                text(joined(rule.local_except)),
                text(rule.file_severity ? std::string(to_string(*rule.file_severity)) : ""),
                text(rule.file_status ? std::string(to_string(*rule.file_status)) : ""),
                text(joined(rule.dedup_by)),
                text(rule.file),
                text(rule.version),
                text(fortune.state),
                text(fortune.reason),
                fortune.alerts,
                fortune.last_alert,
                text(fortune.statistics),
                text(literals.empty() ? "none: every row is shown to it" : lines(literals)),
                text(fortune.push_down),
                text(hints),
                text(rule.sql),
                text(rule.evaluate ? loaded.compiled->sql() : loaded.compiled->streaming_sql())});
  return Exit::done;
}

}  // namespace

void add_rule_show(CLI::App& rules, Action& chosen) {
  auto* show = add_verb(rules, "show", "Show one rule: as it is in force, how it is looked for, how it has fared");
  const auto shown = std::make_shared<std::string>();  // shared: the parser fills what the action reads
  show->add_option("RULE", *shown, "A rule's id, or a file")->required();
  show->callback(
      [shown, &chosen] { chosen = [shown](Invocation& invocation) { return show_rule(*shown, invocation); }; });
}

}  // namespace daemoneye::cli
