// alerts, deliveries: what was raised, and what became of it.
#include "cli/alerts.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/text.h"
#include "store/alert.h"

namespace daemoneye::cli {
namespace {

struct Filters {
  std::string since;
  std::vector<std::string> severity, rule, status;  // alerts
  std::vector<std::string> sink, outcome, alert;    // deliveries
  std::uint64_t limit = 0;
};

// Builds "WHERE …" with every value as a parameter.
class Where {
 public:
  void since(const std::string& column, Timestamp moment) {
    parameters["since"] = moment.ns;
    add(column + " >= :since");
  }
  void any_of(const std::string& column, const std::vector<std::string>& values) {
    if (values.empty()) return;
    std::string list;
    for (const auto& value : values) {
      const std::string name = "p" + std::to_string(parameters.size());
      parameters[name] = value;
      list += (list.empty() ? ":" : ", :") + name;
    }
    add(column + " IN (" + list + ')');
  }
  [[nodiscard]] const std::string& text() const { return text_; }
  std::map<std::string, event::Value> parameters;

 private:
  void add(const std::string& condition) { text_ += (text_.empty() ? " WHERE " : " AND ") + condition; }
  std::string text_;
};

Outcome<Exit> list_alerts(const Filters& filters, Invocation& invocation) {
  Where where;
  if (!filters.since.empty()) {
    CLI_TRY(const auto moment, parse_moment(filters.since, base::wall_now()));
    where.since("last_seen", moment);
  }
  CLI_TRY(const auto severities, words("--severity", filters.severity, severity_words));
  CLI_TRY(const auto statuses, words("--status", filters.status, status_words));
  where.any_of("severity", severities);
  where.any_of("status", statuses);
  where.any_of("rule_id", filters.rule);
  return invocation.run_sql(
      "SELECT alert_id, time, severity, status, count, rule_id, title, pid, name, command_line FROM alerts" +
          where.text() + " ORDER BY time DESC",
      where.parameters, filters.limit);
}

Outcome<Exit> list_deliveries(const Filters& filters, Invocation& invocation) {
  Where where;
  if (!filters.since.empty()) {
    CLI_TRY(const auto moment, parse_moment(filters.since, base::wall_now()));
    where.since("time", moment);
  }
  CLI_TRY(const auto outcomes, words("--outcome", filters.outcome, {"delivered", "failed", "dead_letter", "held"}));
  where.any_of("outcome", outcomes);
  where.any_of("sink", filters.sink);
  where.any_of("alert_id", filters.alert);
  return invocation.run_sql(
      "SELECT time, alert_id, sink, attempt, outcome, duration_ms, response_code, error FROM alert_deliveries" +
          where.text() + " ORDER BY time DESC",
      where.parameters, filters.limit);
}

}  // namespace

Outcome<std::vector<std::string>> words(const char* flag, const std::vector<std::string>& given,
                                        const std::vector<std::string_view>& allowed) {
  std::vector<std::string> all;
  for (const auto& text : given) {
    for (const auto word : base::split(text, ',')) {
      if (std::ranges::find(allowed, word) == allowed.end()) {
        std::string list;
        for (const auto each : allowed) list += (list.empty() ? "" : ", ") + std::string(each);
        return std::unexpected(Failure(Exit::usage, std::string(flag) + ": found '" +
                                                        base::printable(word.substr(0, 64)) + "'; allowed: " + list));
      }
      all.emplace_back(word);
    }
  }
  return all;
}

void add_alerts(CLI::App& app, Action& chosen) {
  const auto filters = std::make_shared<Filters>();  // shared: the parser fills what the actions read
  const auto several = [](CLI::Option* option, const char* type) { option->type_name(type)->allow_extra_args(false); };
  const auto common = [&](CLI::App* verb) {
    verb->add_option("--since", filters->since, "A span ago (5m, 2h, 7d) or ISO 8601")->type_name("TIME");
    verb->add_option("--limit", filters->limit, "At most so many, newest first")
        ->type_name("N")
        ->check(CLI::PositiveNumber);
  };

  auto* alerts = add_verb(app, "alerts", "Alerts that were raised");
  alerts->require_subcommand(1);
  auto* list = add_verb(*alerts, "list", "List alerts, newest first");
  common(list);
  several(list->add_option("--severity", filters->severity, "Only of these"), "low|medium|high|critical[,...]");
  several(list->add_option("--rule", filters->rule, "A rule's id"), "RULE");
  several(list->add_option("--status", filters->status, "Only in these states"), "open|acknowledged|closed[,...]");
  list->callback(
      [filters, &chosen] { chosen = [filters](Invocation& invocation) { return list_alerts(*filters, invocation); }; });
  add_alert_show(*alerts, chosen);
  add_alert_changes(*alerts, chosen);

  auto* deliveries = add_verb(app, "deliveries", "Attempts to deliver alerts");
  deliveries->require_subcommand(1);
  auto* each = add_verb(*deliveries, "list", "List attempts, newest first");
  common(each);
  several(each->add_option("--sink", filters->sink, "A sink's name"), "SINK");
  several(each->add_option("--outcome", filters->outcome, "Only these"), "delivered|failed|dead_letter|held[,...]");
  several(each->add_option("--alert", filters->alert, "An alert's id"), "ALERT");
  each->callback([filters, &chosen] {
    chosen = [filters](Invocation& invocation) { return list_deliveries(*filters, invocation); };
  });
}

}  // namespace daemoneye::cli
