// rules test: what a rule would have found in stored history.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/explain.h"
#include "cli/rules.h"
#include "detect/engine.h"

namespace daemoneye::cli {
namespace {

struct TestOptions {
  std::string rule, since, until;
  std::uint64_t limit = 1000;
  bool summary = false;
};

// What is said of a test beside its rows.
struct Summary {
  std::map<std::string, std::uint64_t> days;
  detect::TestStats stats;

  void count(Timestamp moment) { ++days[base::to_iso(moment).substr(0, 10)]; }
  [[nodiscard]] std::uint64_t matches() const { return stats.run.rows; }
  [[nodiscard]] double elapsed_ms() const {
    return std::chrono::duration<double, std::milli>(stats.run.elapsed).count();
  }
  // What one evaluation costs: of a thousand events on the stream, of a run by schedule.
  [[nodiscard]] double unit_ms() const {
    const double evaluating = std::chrono::duration<double, std::milli>(stats.evaluating).count();
    const double units = stats.runs > 0 ? static_cast<double>(stats.runs) : static_cast<double>(stats.events) / 1000;
    return units > 0 ? evaluating / units : 0;
  }
};

std::string cost_text(const Summary& summary) {
  if (summary.stats.runs > 0) {
    return fmt::format("estimated cost: {:.2f} ms a run, {} runs\n", summary.unit_ms(), summary.stats.runs);
  }
  if (summary.stats.events == 0) return "estimated cost: not known, no event was looked at\n";
  return fmt::format("estimated cost: at most {:.2f} ms for 1000 events ({} were looked at)\n", summary.unit_ms(),
                     summary.stats.events);
}

void tell_people(const Summary& summary, const detect::LoadedRule& rule, Invocation& invocation) {
  auto& err = invocation.err();
  err << summary.matches() << (summary.matches() == 1 ? " row" : " rows")
      << " would have matched; no alert was written\n";
  for (const auto& [day, count] : summary.days) err << "  " << day << "  " << count << '\n';
  err << cost_text(summary) << hints_text(hints_of(rule));
}

void write_summary(const Summary& summary, const detect::LoadedRule& rule, Invocation& invocation) {
  const auto hints = hints_json(hints_of(rule));
  write_record(
      invocation,
      {{"rule_id"},
       {"matches"},
       {"days"},
       {"events"},
       {"runs"},
       {"elapsed_ms"},
       {"evaluation_ms"},
       {"evaluation_of"},
       {"hints"}},
      {rule.rule.id, static_cast<std::int64_t>(summary.matches()), nlohmann::json(summary.days).dump(),
       static_cast<std::int64_t>(summary.stats.events), static_cast<std::int64_t>(summary.stats.runs),
       summary.elapsed_ms(), summary.unit_ms(), std::string(summary.stats.runs > 0 ? "a run" : "1000 events"), hints});
}

Outcome<event::TimeRange> range_of(const TestOptions& options) {
  const auto now = base::wall_now();
  event::TimeRange range;
  if (!options.since.empty()) {
    CLI_TRY(range.from, parse_moment(options.since, now));
  }
  range.to = now;
  if (!options.until.empty()) {
    CLI_TRY(range.to, parse_moment(options.until, now));
  }
  return range;
}

Outcome<Exit> test_rule(const TestOptions& options, Invocation& invocation) {
  CLI_TRY(const auto rule, find_rule(options.rule, invocation));
  CLI_TRY(const auto range, range_of(options));
  CLI_TRY(const auto connection, invocation.connect());
  sql::RunOptions run_options;
  run_options.deadline = invocation.deadline();
  Summary summary;
  if (options.summary) {
    CLI_TRY(summary.stats, detect::test_rule(*connection, rule, range, run_options, [&](const sql::Row&, Timestamp at) {
              summary.count(at);
              return true;
            }));
    write_summary(summary, rule, invocation);
    invocation.tell(summary.stats.run.completeness, true);
    return exit_for(summary.stats.run.completeness);
  }
  run_options.row_limit = options.limit;
  const auto run = [&](const auto& each) -> Result<sql::RunStats> {
    DE_TRY(summary.stats,
           detect::test_rule(*connection, rule, range, run_options, [&](const sql::Row& row, Timestamp at) {
             summary.count(at);
             return each(row);
           }));
    return summary.stats.run;
  };
  CLI_TRY(const auto stats, invocation.write_results(*rule.compiled, "NULL", options.limit, run));
  invocation.out().flush();
  if (invocation.format() == Format::table) tell_people(summary, rule, invocation);
  invocation.tell(stats.completeness, true);
  return exit_for(stats.completeness);
}

}  // namespace

void add_rule_test(CLI::App& rules, Action& chosen) {
  auto* test = add_verb(rules, "test", "Run a rule over stored history; writes no alert");
  const auto options = std::make_shared<TestOptions>();  // shared: the parser fills what the action reads
  test->add_option("RULE", options->rule, "A rule's id, or a file")->required();
  test->add_option("--since", options->since, "From then on: a span ago (5m, 2h, 7d) or ISO 8601")->type_name("TIME");
  test->add_option("--until", options->until, "Until then")->type_name("TIME");
  test->add_option("--limit", options->limit, "Stop after so many rows")
      ->type_name("N")
      ->check(whole_number(1))
      ->capture_default_str();
  test->add_flag("--summary", options->summary, "Counts a day, cost and hints instead of rows; all of the history");
  test->callback(
      [options, &chosen] { chosen = [options](Invocation& invocation) { return test_rule(*options, invocation); }; });
}

}  // namespace daemoneye::cli
