// alerts ack, close, reopen: the agent makes these changes. alerts follow: new alerts as they are raised.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>
#include <thread>

#include "alert/sink.h"
#include "base/text.h"
#include "cli/alerts.h"

namespace daemoneye::cli {
namespace {

using nlohmann::json;

constexpr int look_for_interrupt_ms = 500;
constexpr auto answer_within = std::chrono::seconds(10);
constexpr store::Reader::Window at_once{64, std::size_t{1024} * 1024};

struct Change {
  std::vector<std::string> alerts;
  std::string note;
};

Outcome<Exit> change_alerts(const std::string& what, const Change& change, Invocation& invocation) {
  CLI_TRY(const auto agent, invocation.agent(invocation.deadline()));
  CLI_TRY(const auto alerts, find_alerts(change.alerts, invocation));
  CLI_TRY(const auto answer,
          ask_agent(*agent, ipc::RequestKind::change_alerts, {{"do", what}, {"alerts", alerts}, {"note", change.note}},
                    invocation.deadline()));
  const auto refused = answer.value("refused", json::array());
  if (!refused.empty()) {
    Failure failure(Exit::failed, "nothing was changed");
    for (const auto& one : refused) {
      failure.details.push_back("alert '" + base::printable(one.value("alert_id", "")) +
                                "': " + base::printable(one.value("why", "")));
    }
    return std::unexpected(std::move(failure));
  }
  const auto writer = invocation.row_writer();
  writer->begin({{"alert_id"}, {"from"}, {"to"}});
  for (const auto& one : answer.value("changed", json::array())) {
    writer->row({one.value("alert_id", ""), one.value("from", ""), one.value("to", "")});
  }
  writer->finish({}, "");
  return Exit::done;
}

struct Filter {
  std::string since;
  std::vector<std::string> severity, rule, status;
};

bool among(const std::vector<std::string>& wanted, std::string_view value) {
  return wanted.empty() || std::ranges::find(wanted, value) != wanted.end();
}

// How far it was followed: the last alert that was looked at, its row, and the newest time of any.
struct Place {
  std::int64_t row = 0;
  std::string alert_id;
  Timestamp newest;
  std::optional<Timestamp> after;  // what is not newer was looked at already
};

// Rows are given anew after a purge: where another alert stands in that row, or none, all rows are looked at again,
// and what is newer counts.
Outcome<bool> find_again(store::Reader& reader, Place& place) {
  if (place.row == 0) return true;
  auto row = place.row - 1;
  CLI_TRY(const auto there, reader.alerts_after(row, {1, at_once.bytes}));
  if (!there.empty() && row == place.row && there[0].alert_id == place.alert_id) return true;
  place.row = 0;
  place.after = place.newest;
  return false;
}

// Where the last alert is now.
Outcome<Place> end_of(store::Reader& reader) {
  Place place;
  CLI_TRY(const auto last, reader.last_alert_row());
  if (last == 0) return place;
  place.row = last - 1;
  CLI_TRY(const auto there, reader.alerts_after(place.row, {1, at_once.bytes}));
  if (there.empty()) {  // gone, or it cannot be read: what is newer than now counts
    place = Place{0, {}, base::wall_now(), {}};
    place.after = place.newest;
    return place;
  }
  place.alert_id = there[0].alert_id;
  place.newest = there[0].time;
  return place;
}

// Every alert after the place, as far as the filter wants it. False: the output takes no more.
Outcome<bool> print_after(store::Reader& reader, Place& place, const Filter& filter,
                          const std::optional<Timestamp>& since, Invocation& invocation) {
  CLI_TRY([[maybe_unused]] const bool there, find_again(reader, place));
  while (true) {
    std::uint64_t passed = 0;
    CLI_TRY(const auto alerts, reader.alerts_after(place.row, at_once, &passed));
    if (passed > 0) {
      invocation.err() << "daemoneye-cli: " << passed << " alerts cannot be read and are left out (see `db check`)\n";
    }
    if (alerts.empty()) {
      place.after.reset();
      return true;
    }
    place.alert_id = alerts.back().alert_id;
    for (const auto& alert : alerts) {
      place.newest = std::max(place.newest, alert.time);
      if (place.after && alert.time <= *place.after) continue;
      if (since && alert.last_seen < *since) continue;
      if (!among(filter.severity, to_string(alert.severity)) || !among(filter.rule, alert.rule_id) ||
          !among(filter.status, alert.status)) {
        continue;
      }
      if (invocation.format() == Format::table)
        invocation.out() << alert::format_alert(alert, "text", invocation.render().colour) << '\n';
      else
        invocation.out() << store::to_json(alert) << '\n';
    }
    invocation.out().flush();
    if (!invocation.out()) return false;
    if (invocation.interrupted()) return true;
  }
}

// The store is opened anew as well: another version of the agent may have brought it forward. False: interrupted.
bool wait_for_agent(Invocation& invocation, std::unique_ptr<ipc::Client>& agent,
                    std::unique_ptr<store::Reader>& reader) {
  while (!invocation.interrupted()) {
    auto client = invocation.agent(Deadline::after(answer_within));
    auto opened = client ? invocation.reader() : std::unexpected(client.error());
    if (opened) {
      agent = *std::move(client);
      reader = *std::move(opened);
      return true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(look_for_interrupt_ms));
  }
  return false;
}

Outcome<Exit> follow(const Filter& asked, Invocation& invocation) {
  if (invocation.format() == Format::csv) {
    return std::unexpected(Failure(Exit::usage, "alerts follow has no CSV: table (text), json and jsonl"));
  }
  if (!invocation.options().database.empty()) {
    return std::unexpected(Failure(Exit::usage, "alerts follow follows the running agent: leave --db out"));
  }
  Filter filter = asked;
  CLI_TRY(filter.severity, words("--severity", asked.severity, severity_words));
  CLI_TRY(filter.status, words("--status", asked.status, status_words));
  std::optional<Timestamp> since;
  if (!asked.since.empty()) {
    CLI_TRY(since, parse_moment(asked.since, base::wall_now()));
  }
  CLI_TRY(auto reader, invocation.reader());
  CLI_TRY(auto agent, invocation.agent(invocation.deadline()));
  invocation.lift_time_limit();
  Place place;
  if (!since) {
    CLI_TRY(place, end_of(*reader));
  }
  while (!invocation.interrupted()) {
    CLI_TRY(const bool more, print_after(*reader, place, filter, since, invocation));
    if (!more) break;
    const auto answer =
        ask_agent(*agent, ipc::RequestKind::follow_alerts, {{"after", place.row}, {"wait_ms", look_for_interrupt_ms}},
                  Deadline::after(answer_within));
    if (answer) continue;
    if (answer.error().exit != Exit::unavailable) return std::unexpected(answer.error());
    invocation.err() << "the agent is away; following goes on when it is back\n" << std::flush;
    if (!wait_for_agent(invocation, agent, reader)) break;
  }
  return Exit::done;
}

}  // namespace

Outcome<json> ask_agent(ipc::Client& agent, ipc::RequestKind kind, const json& payload, Deadline deadline) {
  const auto answer = agent.call(kind, payload.dump(-1, ' ', false, json::error_handler_t::replace), deadline);
  if (!answer) {
    const auto code = answer.error().code;
    const bool gone = code == Errc::timeout || code == Errc::unavailable;
    return std::unexpected(gone ? Failure(Exit::unavailable, answer.error().message) : Failure(answer.error()));
  }
  auto document = json::parse(*answer, nullptr, false);
  if (document.is_object()) return document;
  return std::unexpected(Failure(Exit::failed, "the agent's answer is not understood"));
}

void add_alert_changes(CLI::App& alerts, Action& chosen) {
  const auto change = std::make_shared<Change>();  // shared: the parser fills what the actions read
  const auto add = [&](const char* name, const char* help) {
    auto* verb = add_verb(alerts, name, help);
    verb->add_option("ALERT", change->alerts, "Ids of alerts, or their beginnings")->required();
    verb->add_option("--note", change->note, "Why; kept with the change")->type_name("TEXT")->allow_extra_args(false);
    verb->callback([change, what = std::string(name), &chosen] {
      chosen = [change, what](Invocation& invocation) { return change_alerts(what, *change, invocation); };
    });
  };
  add("ack", "Acknowledge alerts; recorded in the audit ledger");
  add("close", "Close alerts; recorded in the audit ledger");
  add("reopen", "Open closed or acknowledged alerts again; recorded in the audit ledger");

  const auto filter = std::make_shared<Filter>();
  const auto several = [](CLI::Option* option, const char* type) { option->type_name(type)->allow_extra_args(false); };
  auto* following = add_verb(alerts, "follow", "Show alerts as they are raised, until interrupted");
  following->add_option("--since", filter->since, "Begin with those since then: a span ago (5m, 2h, 7d) or ISO 8601")
      ->type_name("TIME");
  several(following->add_option("--severity", filter->severity, "Only of these"), "low|medium|high|critical[,...]");
  several(following->add_option("--rule", filter->rule, "A rule's id"), "RULE");
  several(following->add_option("--status", filter->status, "Only in these states"), "open|acknowledged|closed[,...]");
  following->callback(
      [filter, &chosen] { chosen = [filter](Invocation& invocation) { return follow(*filter, invocation); }; });
}

}  // namespace daemoneye::cli
