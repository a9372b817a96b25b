// alerts show: one alert with its lineage, its events and what became of it.
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <ostream>

#include "base/text.h"
#include "cli/alert_case.h"
#include "cli/alerts.h"
#include "cli/tree_table.h"

namespace daemoneye::cli {
namespace {

constexpr std::string_view bold = "\x1b[1m", reset = "\x1b[0m";
constexpr std::string_view indent = "  ";

std::string_view colour_of(store::Severity severity) {
  switch (severity) {
    case store::Severity::critical: return "\x1b[1;31m";
    case store::Severity::high: return "\x1b[31m";
    case store::Severity::medium: return "\x1b[33m";
    case store::Severity::low: return "\x1b[36m";
  }
  return "";
}

class Shown {
 public:
  Shown(const Invocation& invocation, const AlertCase& found)
      : invocation_(invocation), out_(invocation.out()), found_(found) {}

  void run() {
    headline();
    record();
    matched_row();
    lineage();
    events();
    history();
  }

 private:
  void headline() {
    const auto& alert = found_.alert;
    const bool colour = invocation_.render().colour;
    const auto severity = std::string(to_string(alert.severity));
    out_ << (colour ? colour_of(alert.severity) : "") << severity << (colour ? reset : "") << "  "
         << (colour ? bold : "") << base::printable(alert.title) << (colour ? reset : "") << "\n\n";
  }

  void record() {
    const auto& alert = found_.alert;
    const auto text = [](const std::string& value) -> event::Value {
      if (value.empty()) return std::monostate{};
      return value;
    };
    std::string tags, evidence;
    for (const auto& tag : alert.tags) tags += (tags.empty() ? "" : ", ") + tag;
    for (const auto id : alert.evidence) evidence += (evidence.empty() ? "" : ", ") + std::to_string(id);
    Row row = {text(alert.alert_id),
               alert.time.ns,
               alert.last_seen.ns,
               static_cast<std::int64_t>(alert.count),
               text(alert.rule_id),
               text(std::string(to_string(alert.severity))),
               text(alert.status),
               text(alert.description),
               optional_text(alert.process_key),
               std::monostate{},
               optional_text(alert.name),
               optional_text(alert.executable_path),
               optional_text(alert.command_line),
               text(tags),
               text(evidence),
               text(alert.host),
               text(alert.correlation_id)};
    if (alert.pid) row[9] = *alert.pid;
    write_record(invocation_,
                 {{"alert_id"},
                  {"time", true},
                  {"last_seen", true},
                  {"count"},
                  {"rule_id"},
                  {"severity"},
                  {"status"},
                  {"description"},
                  {"process_key"},
                  {"pid"},
                  {"name"},
                  {"executable_path"},
                  {"command_line"},
                  {"tags"},
                  {"evidence"},
                  {"host"},
                  {"correlation_id"}},
                 row);
  }

  // In the order of the rule's columns.
  void matched_row() {
    const auto matched = nlohmann::ordered_json::parse(found_.alert.row_json, nullptr, false);
    if (!matched.is_object() || matched.empty()) return;
    heading("matched row");
    std::vector<OutputColumn> columns;
    Row row;
    for (const auto& [name, value] : matched.items()) {
      columns.push_back({base::printable(name)});
      if (value.is_null())
        row.emplace_back(std::monostate{});
      else
        row.emplace_back(value.is_string() ? value.get<std::string>() : value.dump());
    }
    write_record(invocation_, columns, row, indent);
  }

  void heading(std::string_view text) {
    const bool colour = invocation_.render().colour;
    out_ << '\n' << (colour ? bold : "") << text << (colour ? reset : "") << '\n';
  }

  void lineage() {
    if (found_.family.empty()) return;
    heading("lineage");
    write_tree_table(out_, invocation_.render(),
                     {.now = base::wall_now(), .marked = found_.subject, .indent = std::string(indent)}, found_.family);
    if (found_.more_descendants) out_ << indent << "… it started more than are shown\n";
  }

  void events() {
    heading("events of these processes around it");
    RenderOptions render = invocation_.render();
    const auto writer = make_table_writer_for(render);
    writer->begin({{"event"}, {"time", true}, {"kind"}, {"process"}, {"evidence"}, {"what"}});
    for (const auto& each : found_.events) {
      writer->row({each.id, each.event.time.ns, std::string(to_string(each.event.kind)),
                   process_for_people(each.event.process), std::string(each.evidence ? "yes" : ""),
                   event_for_people(each.event)});
    }
    writer->finish({}, "");
    if (found_.more_events > 0) {
      out_ << "… " << (found_.more_events_uncounted ? "more than " : "") << found_.more_events
           << " more, farther from the alert\n";
    }
    for (const auto id : found_.lost_evidence) out_ << "evidence " << id << " is no longer kept\n";
    if (found_.more_evidence > 0) out_ << "… " << found_.more_evidence << " more events of evidence\n";
  }

  [[nodiscard]] std::unique_ptr<RowWriter> make_table_writer_for(RenderOptions render) const {
    render.format = Format::table;
    return make_row_writer(render, out_);
  }

  void history() {
    if (!found_.changes.empty()) heading("changes");
    for (const auto& change : found_.changes) {
      out_ << indent << value_text(change.time.ns, true, invocation_.render().raw).value_or("") << "  "
           << base::printable(change.actor) << ": " << base::printable(change.from) << " -> "
           << base::printable(change.to);
      if (!change.note.empty()) out_ << "  (" << base::printable(change.note) << ')';
      out_ << '\n';
    }
  }

  const Invocation& invocation_;
  std::ostream& out_;
  const AlertCase& found_;
};

std::string event_json(const CaseEvent& each, bool raw) {
  std::string json = "{\"evidence\":";
  json += each.evidence ? "true" : "false";
  for (const auto& info : event::columns()) {
    const auto value = event::column_value(each.event, each.id, info.column);
    if (std::holds_alternative<std::monostate>(value)) continue;
    json += ',' + base::json_quote(info.name) + ':' + value_json(value, info.is_time, raw);
  }
  return json + '}';
}

// The alert as sinks give it, and what the store knows besides.
std::string case_json(const AlertCase& found, bool raw) {
  std::string json = store::to_json(found.alert);
  json.pop_back();
  json += ",\"events\":[";
  for (std::size_t i = 0; i < found.events.size(); ++i) json += (i == 0 ? "" : ",") + event_json(found.events[i], raw);
  json += "],\"more_events\":" + std::to_string(found.more_events) +
          ",\"looked\":" + event::to_json(found.looked, raw) + ",\"changes\":[";
  for (std::size_t i = 0; i < found.changes.size(); ++i) {
    const auto& change = found.changes[i];
    json += (i == 0 ? "{\"time\":" : ",{\"time\":") + value_json(change.time.ns, true, raw) +
            ",\"actor\":" + base::json_quote(change.actor) + ",\"from\":" + base::json_quote(change.from) +
            ",\"to\":" + base::json_quote(change.to) + ",\"note\":" + base::json_quote(change.note) + '}';
  }
  return json + "]}";
}

Outcome<Exit> show_alert(const std::string& given, Invocation& invocation) {
  CLI_TRY(const auto connection, invocation.connect());
  CLI_TRY(const auto id, find_alert(*connection, given, invocation.deadline()));
  if (invocation.format() == Format::csv) {
    return invocation.run_sql("SELECT * FROM alerts WHERE alert_id = :id", {{"id", id}});
  }
  CLI_TRY(const auto found, collect_case(*connection, invocation, id));
  if (invocation.format() == Format::table)
    Shown(invocation, found).run();
  else
    invocation.out() << case_json(found, invocation.render().raw) << '\n';
  const auto completeness = completeness_of(found);
  invocation.tell(completeness, false);
  return exit_for(completeness);
}

}  // namespace

void add_alert_show(CLI::App& alerts, Action& chosen) {
  auto* show = add_verb(alerts, "show", "Show one alert with its lineage, its events and what became of it");
  const auto id = std::make_shared<std::string>();  // shared: the parser fills what the action reads
  show->add_option("ALERT", *id, "The alert's id, or its beginning")->required();
  show->callback([id, &chosen] { chosen = [id](Invocation& invocation) { return show_alert(*id, invocation); }; });
}

}  // namespace daemoneye::cli
