// sinks: where alerts go, and whether they arrive. deadletter: what was given up.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>

#include "base/text.h"
#include "cli/alerts.h"

namespace daemoneye::cli {
namespace {

using nlohmann::json;

constexpr std::size_t letters_at_once = 256;

event::Value value_of(const json& document, const char* key) {
  const auto found = document.find(key);
  if (found == document.end() || found->is_null()) return std::monostate{};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number_integer()) return found->get<std::int64_t>();
  if (found->is_number()) return found->get<double>();
  if (found->is_boolean()) return std::string(found->get<bool>() ? "yes" : "no");
  return std::monostate{};
}

// A time that is measured to the microsecond says no more than that.
event::Value rounded(const json& document, const char* key) {
  const auto value = value_of(document, key);
  const auto* number = std::get_if<double>(&value);
  if (number == nullptr) return value;
  return static_cast<double>(static_cast<std::int64_t>(*number * 1000 + 0.5)) / 1000;
}

const std::vector<OutputColumn>& sink_columns() {
  static const std::vector<OutputColumn> columns = {{"name"},
                                                    {"type"},
                                                    {"breaker"},
                                                    {"waiting"},
                                                    {"oldest_undelivered", true},
                                                    {"dead_letters"},
                                                    {"delivered"},
                                                    {"failed"},
                                                    {"last_success", true},
                                                    {"p50_ms"},
                                                    {"p99_ms"},
                                                    {"last_error"}};
  return columns;
}

event::Value time_value(const std::optional<Timestamp>& time) {
  if (time) return time->ns;
  return std::monostate{};
}

// Without the agent: the configuration, and what the agent last wrote down.
Outcome<Exit> list_stored(const Failure& why, Invocation& invocation) {
  CLI_TRY(const auto* loaded, invocation.loaded());
  CLI_TRY(const auto reader, invocation.reader());
  CLI_TRY(const auto records, reader->sink_records());
  CLI_TRY(const auto dead_letters, reader->dead_letter_counts());
  const auto writer = invocation.row_writer("-");
  writer->begin(sink_columns());
  for (const auto& sink : loaded->settings.alerting.sinks) {
    CLI_TRY(const auto waiting, reader->outbox_depth(sink.name));
    CLI_TRY(const auto oldest, reader->oldest_undelivered(sink.name));
    const auto dead = dead_letters.find(sink.name);
    const auto known = std::ranges::find(records, sink.name, &store::SinkRecord::sink);
    const bool any = known != records.end();
    writer->row({sink.name, sink.type, any ? event::Value(known->breaker) : event::Value(std::monostate{}),
                 static_cast<std::int64_t>(waiting), time_value(oldest),
                 static_cast<std::int64_t>(dead == dead_letters.end() ? 0 : dead->second), std::monostate{},
                 std::monostate{}, any ? time_value(known->last_success) : event::Value(std::monostate{}),
                 std::monostate{}, std::monostate{},
                 any && !known->last_error.empty() ? event::Value(known->last_error) : event::Value(std::monostate{})});
  }
  writer->finish({}, "");
  invocation.out().flush();
  invocation.err() << "notice: as it was left; " << base::printable(why.message) << '\n';
  return Exit::done;
}

Outcome<Exit> list_sinks(Invocation& invocation) {
  const auto agent = invocation.agent(invocation.deadline());
  if (!agent) return list_stored(agent.error(), invocation);
  CLI_TRY(const auto answer, ask_agent(**agent, ipc::RequestKind::sinks, json::object(), invocation.deadline()));
  const auto writer = invocation.row_writer("-");
  writer->begin(sink_columns());
  for (const auto& sink : answer.value("sinks", json::array())) {
    auto error = value_of(sink, "last_error");
    if (const auto* text = std::get_if<std::string>(&error); text != nullptr && text->empty()) error = std::monostate{};
    writer->row({value_of(sink, "name"), value_of(sink, "type"), value_of(sink, "breaker"), value_of(sink, "waiting"),
                 value_of(sink, "oldest_undelivered"), value_of(sink, "dead_letters"), value_of(sink, "delivered"),
                 value_of(sink, "failed"), value_of(sink, "last_success"), rounded(sink, "p50_ms"),
                 rounded(sink, "p99_ms"), std::move(error)});
  }
  writer->finish({}, "");
  return Exit::done;
}

Outcome<Exit> test_sinks(const std::string& sink, Invocation& invocation) {
  CLI_TRY(const auto agent, invocation.agent(invocation.deadline()));
  const auto answered = agent->call(ipc::RequestKind::test_sinks, json{{"sink", sink}}.dump(), invocation.deadline());
  if (!answered) {
    // A name that there is not is the asker's slip, not a part that is missing.
    if (answered.error().code == Errc::not_found)
      return std::unexpected(Failure(Exit::usage, answered.error().message));
    return std::unexpected(answered.error().code == Errc::timeout ? Failure(Exit::unavailable, answered.error().message)
                                                                  : Failure(answered.error()));
  }
  const auto answer = json::parse(*answered, nullptr, false);
  if (!answer.is_object()) return std::unexpected(Failure(Exit::failed, "the agent's answer is not understood"));
  const auto results = answer.value("results", json::array());
  const auto writer = invocation.row_writer("-");
  writer->begin({{"sink"}, {"type"}, {"result"}, {"latency_ms"}, {"response_code"}, {"error"}});
  bool all = true;
  for (const auto& result : results) {
    const bool delivered = result.value("delivered", false);
    all = all && delivered;
    auto error = value_of(result, "error");
    if (delivered) error = std::monostate{};
    writer->row({value_of(result, "sink"), value_of(result, "type"), std::string(delivered ? "delivered" : "failed"),
                 rounded(result, "latency_ms"), value_of(result, "response_code"), std::move(error)});
  }
  writer->finish({}, "");
  return all ? Exit::done : Exit::failed;
}

struct Letters {
  std::vector<std::string> sinks, alerts;
  std::string before;
  std::uint64_t limit = 0;
  bool all = false, yes = false;
};

Outcome<Exit> list_letters(const Letters& asked, Invocation& invocation) {
  CLI_TRY(const auto reader, invocation.reader());
  const auto writer = invocation.row_writer("-");
  const bool for_people = invocation.format() == Format::table && !invocation.render().raw;
  const auto now = base::wall_now();
  writer->begin({for_people ? OutputColumn{.name = "time (UTC)", .whole = true} : OutputColumn{"time", true},
                 for_people ? OutputColumn{.name = "alert", .whole = true} : OutputColumn{"alert_id"},
                 {"sink"},
                 {"attempts"},
                 {"response_code"},
                 {"rule_id"},
                 {"severity"},
                 {"title"},
                 {"reason"}});
  event::Completeness completeness;
  std::uint64_t shown = 0;
  std::int64_t before = INT64_MAX;
  for (bool more = true; more;) {
    CLI_TRY(const auto letters, reader->dead_letters(asked.sinks, before, letters_at_once));
    more = letters.size() == letters_at_once;
    for (const auto& letter : letters) {
      before = letter.id;
      if (asked.limit > 0 && shown == asked.limit) {
        completeness.reasons.push_back({"limit_reached", asked.limit, std::nullopt, std::nullopt});
        more = false;
        break;
      }
      ++shown;
      event::Value code = std::monostate{};
      if (letter.response_code) code = std::int64_t{*letter.response_code};
      event::Value time = letter.time.ns;
      if (for_people) time = short_time(letter.time, now);
      auto id = for_people ? short_id(letter.alert_id) : letter.alert_id;
      more = writer->row({std::move(time), std::move(id), letter.sink, std::int64_t{letter.attempts}, std::move(code),
                          letter.rule_id, letter.severity, letter.title, letter.reason}) &&
             more;
    }
  }
  writer->finish(completeness, "");
  invocation.tell(completeness, false);
  return exit_for(completeness);
}

Outcome<Exit> change_letters(const std::string& what, const Letters& asked, Invocation& invocation) {
  const bool narrowed = !asked.sinks.empty() || !asked.alerts.empty() || !asked.before.empty();
  if (asked.all == narrowed) {
    return std::unexpected(Failure(
        Exit::usage, "deadletter " + what + " needs ALERT, --sink or --before to say which, or --all, and not both"));
  }
  CLI_TRY(const auto alerts, find_alerts(asked.alerts, invocation));
  json payload = {{"do", what}, {"sinks", asked.sinks}, {"alerts", alerts}};
  if (asked.all) payload["all"] = true;
  std::string which = asked.all ? "all dead letters" : "the dead letters";
  if (!asked.alerts.empty()) which += " of " + std::to_string(asked.alerts.size()) + " alerts";
  for (const auto& sink : asked.sinks) which += " of sink " + base::printable(sink);
  if (!asked.before.empty()) {
    CLI_TRY(const auto moment, parse_moment(asked.before, base::wall_now()));
    payload["before"] = moment.ns;
    which += " from before " + base::to_iso(moment);
  }
  if (what == "purge") {
    CLI_TRY([[maybe_unused]] const bool go_on,
            invocation.confirmed("Remove " + which + " for good? They were delivered to nobody.", asked.yes));
  }
  CLI_TRY(const auto agent, invocation.agent(invocation.deadline()));
  CLI_TRY(const auto answer, ask_agent(*agent, ipc::RequestKind::dead_letters, payload, invocation.deadline()));
  write_record(invocation, {{what == "purge" ? "purged" : "retried"}},
               {static_cast<std::int64_t>(answer.value("changed", std::uint64_t{0}))});
  if (const auto left = answer.value("left", std::uint64_t{0}); left > 0) {
    invocation.out().flush();
    invocation.err() << "note: " << left << " stay: their sinks are not configured\n";
  }
  return Exit::done;
}

}  // namespace

void add_sinks(CLI::App& app, Action& chosen) {
  auto* sinks = add_verb(app, "sinks", "Where alerts go");
  sinks->require_subcommand(1);
  add_verb(*sinks, "list", "Each sink with its breaker, what waits, and when it last worked")->callback([&chosen] {
    chosen = list_sinks;
  });
  auto* test = add_verb(*sinks, "test", "Send a marked alert to each sink, or to one, and tell what became of it");
  const auto name = std::make_shared<std::string>();  // shared: the parser fills what the action reads
  test->add_option("SINK", *name, "A sink's name; without it all");
  test->callback(
      [name, &chosen] { chosen = [name](Invocation& invocation) { return test_sinks(*name, invocation); }; });

  auto* letters = add_verb(app, "deadletter", "Alerts that were given up, by sink");
  letters->require_subcommand(1);
  const auto asked = std::make_shared<Letters>();
  const auto several = [](CLI::Option* option, const char* type) { option->type_name(type)->allow_extra_args(false); };
  auto* list = add_verb(*letters, "list", "List them, newest first");
  several(list->add_option("--sink", asked->sinks, "A sink's name"), "SINK");
  list->add_option("--limit", asked->limit, "At most so many")->type_name("N")->check(whole_number(1));
  list->callback(
      [asked, &chosen] { chosen = [asked](Invocation& invocation) { return list_letters(*asked, invocation); }; });
  const auto add = [&](const char* verb_name, const char* help) {
    auto* verb = add_verb(*letters, verb_name, help);
    verb->add_option("ALERT", asked->alerts, "Ids of alerts, or their beginnings");
    several(verb->add_option("--sink", asked->sinks, "A sink's name"), "SINK");
    verb->add_option("--before", asked->before, "Those from before: a span ago (5m, 2h, 7d) or ISO 8601")
        ->type_name("TIME");
    verb->add_flag("--all", asked->all, "All of them");
    verb->callback([asked, what = std::string(verb_name), &chosen] {
      chosen = [asked, what](Invocation& invocation) { return change_letters(what, *asked, invocation); };
    });
    return verb;
  };
  add("retry", "Deliver them again, with all their retries; recorded in the audit ledger");
  add("purge", "Remove them for good; recorded in the audit ledger")->add_flag("--yes", asked->yes, "Do not ask");
}

}  // namespace daemoneye::cli
