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

constexpr unsigned narrow_terminal = 110;  // columns; in fewer only what tells alerts apart

bool for_people(const Invocation& invocation) {
  return invocation.format() == Format::table && !invocation.render().raw;
}

std::string text_of(const event::Value& value) {
  const auto* text = std::get_if<std::string>(&value);
  return text == nullptr ? std::string() : *text;
}

std::int64_t number_of(const event::Value& value) {
  const auto* number = std::get_if<std::int64_t>(&value);
  return number == nullptr ? 0 : *number;
}

// Runs it, and writes each row as `shown` has it.
Outcome<Exit> write_for_people(const std::string& sql, const Where& where, std::uint64_t limit,
                               std::vector<OutputColumn> columns, const std::function<Row(const sql::Row&)>& shown,
                               Invocation& invocation) {
  CLI_TRY(const auto connection, invocation.connect());
  const auto compiled = sql::compile(sql);
  if (!compiled) return std::unexpected(Failure(Exit::failed, compiled.error().message));
  sql::RunOptions options;
  options.parameters = where.parameters;
  options.deadline = invocation.deadline();
  options.row_limit = limit;
  const auto writer = invocation.row_writer("-");
  writer->begin(std::move(columns));
  const auto ran = connection->run(*compiled, options, [&](const sql::Row& row) { return writer->row(shown(row)); });
  writer->finish({}, "");
  if (!ran) return std::unexpected(Failure(ran.error()));
  invocation.tell(ran->completeness, false);
  return exit_for(ran->completeness);
}

// alert_id, time, severity, status, count, rule_id, title, pid, name, command_line
Row narrow_alert(const sql::Row& row, Timestamp now) {
  const auto status = text_of(row[3]);
  std::string title = status == "acknowledged" ? "(ack) " : status == "closed" ? "(closed) " : "";
  if (const auto count = number_of(row[4]); count > 1) title += std::to_string(count) + "x ";
  return {short_time(Timestamp{number_of(row[1])}, now), row[2], short_id(text_of(row[0])), row[5],
          title + text_of(row[6])};
}

Row wide_alert(const sql::Row& row, Timestamp now) {
  event::Value process;
  if (const auto name = text_of(row[8]); !name.empty() || number_of(row[7]) != 0)
    process = name + " (" + std::to_string(number_of(row[7])) + ')';
  return {short_time(Timestamp{number_of(row[1])}, now),
          row[2],
          short_id(text_of(row[0])),
          row[3],
          row[4],
          row[5],
          row[6],
          std::move(process),
          row[9]};
}

Outcome<Exit> list_for_people(const std::string& sql, const Filters& filters, const Where& where,
                              Invocation& invocation) {
  const auto now = base::wall_now();
  const auto width = invocation.render().width;
  const bool narrow = width > 0 && width < narrow_terminal;
  std::vector<OutputColumn> columns = {{"time (UTC)"}, {"severity"}, {"alert"}};
  if (!narrow) columns.insert(columns.end(), {{"status"}, {"count"}});
  for (auto& column : columns) column.whole = true;
  columns.insert(columns.end(), {{"rule"}, {"title"}});
  if (!narrow) columns.insert(columns.end(), {{"process"}, {"command line"}});
  return write_for_people(
      sql, where, filters.limit, std::move(columns),
      [&](const sql::Row& row) { return narrow ? narrow_alert(row, now) : wide_alert(row, now); }, invocation);
}

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
  const auto sql =
      "SELECT alert_id, time, severity, status, count, rule_id, title, pid, name, command_line FROM alerts" +
      where.text() + " ORDER BY time DESC";
  if (for_people(invocation)) return list_for_people(sql, filters, where, invocation);
  return invocation.run_sql(sql, where.parameters, filters.limit);
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
  CLI_TRY(const auto alerts, find_alerts(filters.alert, invocation));
  where.any_of("alert_id", alerts);
  const auto sql =
      "SELECT time, alert_id, sink, attempt, outcome, duration_ms, response_code, error FROM alert_deliveries" +
      where.text() + " ORDER BY time DESC";
  if (!for_people(invocation)) return invocation.run_sql(sql, where.parameters, filters.limit);
  std::vector<OutputColumn> columns = {{"time (UTC)"}, {"alert"},   {"sink"}, {"attempt"},
                                       {"outcome"},    {"took ms"}, {"code"}, {"error"}};
  columns[0].whole = columns[1].whole = true;
  return write_for_people(
      sql, where, filters.limit, std::move(columns),
      [now = base::wall_now()](const sql::Row& row) {
        auto shown = row;
        shown[0] = short_time(Timestamp{number_of(row[0])}, now);
        shown[1] = short_id(text_of(row[1]));
        return shown;
      },
      invocation);
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
        ->check(whole_number(1));
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
  several(each->add_option("--alert", filters->alert, "An alert's id, or its beginning"), "ALERT");
  each->callback([filters, &chosen] {
    chosen = [filters](Invocation& invocation) { return list_deliveries(*filters, invocation); };
  });
}

}  // namespace daemoneye::cli
