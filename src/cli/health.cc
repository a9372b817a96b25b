// health, metrics: asked of the agent; without it, health says what the store still tells.
#include "observe/health.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <ostream>

#include "base/text.h"
#include "cli/verbs.h"
#include "ledger/reader.h"
#include "observe/exposition.h"

namespace daemoneye::cli {
namespace {

using observe::ComponentHealth;
using observe::HealthState;

constexpr std::size_t longest_shown_reason = 300;
// Those that can be asked for, whether anybody can tell of them at the moment or not.
constexpr std::array known_components = {"config", "collector", "store", "ledger", "rules", "sinks", "capabilities"};

Exit exit_for_state(HealthState state) {
  switch (state) {
    case HealthState::ok: return Exit::done;
    case HealthState::degraded: return Exit::degraded;
    case HealthState::failed: return Exit::failed;
  }
  return Exit::failed;
}

std::string painted(HealthState state, bool colour) {
  const char* paint = state == HealthState::ok ? "\x1b[32m" : state == HealthState::degraded ? "\x1b[33m" : "\x1b[31m";
  return (colour ? paint : "") + std::string(to_string(state)) + (colour ? "\x1b[0m" : "");
}

// "DaemonEye  degraded  2 of 12 components: collector, rules".
void print_overall(const Invocation& invocation, const std::vector<ComponentHealth>& report) {
  std::string names;
  std::size_t count = 0;
  for (const auto& component : report) {
    if (component.state == HealthState::ok) continue;
    names += (names.empty() ? "" : ", ") + base::printable(component.component);
    ++count;
  }
  invocation.out() << "DaemonEye  " << painted(observe::worst(report), invocation.render().colour) << "  ";
  if (count == 0)
    invocation.out() << "everything works";
  else
    invocation.out() << count << " of " << report.size() << " components: " << names;
  invocation.out() << "\n\n";
}

void print_table(const Invocation& invocation, const std::vector<ComponentHealth>& report) {
  auto& out = invocation.out();
  const bool colour = invocation.render().colour;
  std::size_t width = 0;
  for (const auto& component : report) width = std::max(width, component.component.size());
  if (report.size() > 1) print_overall(invocation, report);
  for (const auto& component : report) {
    out << base::printable(component.component) << std::string(width - component.component.size() + 2, ' ')
        << painted(component.state, colour);
    // All of it is in the other formats.
    if (!component.reason.empty()) out << "  " << shortened(base::printable(component.reason), longest_shown_reason);
    out << '\n';
    for (const auto& [key, value] : component.details) {
      out << "    " << base::printable(key) << ": " << base::printable(value) << '\n';
    }
  }
}

void print_report(const Invocation& invocation, const std::vector<ComponentHealth>& report, bool agent_running) {
  if (invocation.format() == Format::table) {
    print_table(invocation, report);
    return;
  }
  if (invocation.format() == Format::json) {
    auto document = nlohmann::json::parse(observe::to_json(report), nullptr, false);
    document["agent_running"] = agent_running;
    invocation.out() << document.dump() << '\n';
    return;
  }
  const auto writer = invocation.row_writer();
  writer->begin({{"component"}, {"state"}, {"reason"}, {"details"}});
  for (const auto& component : report) {
    writer->row({component.component, std::string(to_string(component.state)), component.reason,
                 nlohmann::json(component.details).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)});
  }
  writer->finish({}, "");
}

Outcome<std::vector<ComponentHealth>> narrowed(std::vector<ComponentHealth> report, const std::string& wanted) {
  if (wanted.empty()) return report;
  std::string names;
  for (const auto* name : known_components) {
    const bool reported =
        std::ranges::any_of(report, [&](const ComponentHealth& component) { return component.component == name; });
    if (name == wanted && !reported) {
      return std::vector<ComponentHealth>{{wanted, HealthState::failed, "not known: only the agent can tell", {}}};
    }
    if (!reported) names += (names.empty() ? "" : ", ") + std::string(name);
  }
  for (const auto& component : report) {
    if (component.component == wanted) return std::vector<ComponentHealth>{component};
    names += (names.empty() ? "" : ", ") + component.component;
  }
  return std::unexpected(Failure(Exit::usage, "no component '" + base::printable(wanted.substr(0, 64)) + "' is known",
                                 {"known: " + base::printable(names)}));
}

std::string time_text(Timestamp time) { return base::to_iso(time); }

ComponentHealth store_health(const store::Reader::Stats& stats, const std::string& path) {
  ComponentHealth health{"store", HealthState::ok, "", {}};
  health.details = {{"path", path},
                    {"store_id", stats.store_id},
                    {"events", std::to_string(stats.events)},
                    {"live_processes", std::to_string(stats.live_processes)},
                    {"alerts", std::to_string(stats.alerts)},
                    {"file_bytes", std::to_string(stats.file_bytes)},
                    {"wal_bytes", std::to_string(stats.wal_bytes)}};
  if (stats.oldest) health.details["oldest"] = time_text(*stats.oldest);
  if (stats.newest) health.details["newest"] = time_text(*stats.newest);
  return health;
}

// The collectors, as the agent last wrote them down.
ComponentHealth collector_health(const store::Reader::Stats& stats) {
  ComponentHealth health{"collector", HealthState::failed, "nothing is recorded while the agent does not run", {}};
  if (stats.agent_running) health = {"collector", HealthState::degraded, "only the agent knows more than this", {}};
  for (const auto& collector : stats.collectors) {
    health.details[collector.source + " covered until"] = time_text(collector.covered_until);
  }
  std::size_t n = 0;
  for (const auto& row : stats.recent_gaps) {
    std::string text = row.gap.reason + " from " + time_text(row.gap.from) + " to " + time_text(row.gap.to);
    if (row.gap.count) text += ", " + std::to_string(*row.gap.count);
    std::string number = std::to_string(++n);
    number.insert(0, number.size() < 2 ? 1 : 0, '0');
    health.details["gap " + number] = text + " (" + row.source + ')';
  }
  return health;
}

// The ledger can be read whoever runs; whether it is whole is what `audit verify` says.
ComponentHealth ledger_health(const config::Settings::Audit& audit) {
  ComponentHealth health{"ledger", HealthState::degraded, "nothing is recorded while the agent does not run", {}};
  health.details["path"] = audit.path;
  const auto reader = ledger::LedgerReader::open(audit.path);
  const auto size = reader ? (*reader)->size() : std::unexpected(reader.error());
  if (!size) {
    health.state = HealthState::failed;
    health.reason = size.error().message;
    return health;
  }
  health.details["entries"] = std::to_string(*size);
  if (*size == 0) return health;
  const auto read = (*reader)->read(*size - 1, 1, [&](const ledger::Entry& entry) {
    health.details["last_entry"] = time_text(entry.time) + ' ' + entry.action;
    return false;
  });
  if (!read) {
    health.state = HealthState::failed;
    health.reason = read.error().message;
  }
  return health;
}

// It is valid, or this program would not have come so far.
ComponentHealth config_health(const config::Loaded& loaded) {
  ComponentHealth health{"config", HealthState::ok, "", {{"digest", config::digest_hex(loaded)}}};
  for (const auto& notice : loaded.notices) {
    health.state = HealthState::degraded;
    health.reason += (health.reason.empty() ? "" : "; ") + notice;
  }
  return health;
}

Outcome<Exit> without_agent(const std::string& wanted, Invocation& invocation, const Failure& why) {
  // Not allowed to ask is not the same as not there.
  const bool forbidden = !why.details.empty();
  const std::string state = forbidden ? "not known: it may not be asked by this user" : "not running";
  std::vector<ComponentHealth> report = {{"agent", HealthState::failed, state, {{"why", why.message}}}};
  bool running = false;
  if (const auto reader = invocation.reader()) {
    if (const auto stats = (*reader)->stats()) {
      if (stats->agent_running && !forbidden) report.front().reason = "running, but it does not answer";
      report.push_back(collector_health(*stats));
      running = stats->agent_running;
      report.push_back(store_health(*stats, (*reader)->path()));
    } else {
      report.push_back({"store", HealthState::failed, stats.error().message, {}});
    }
  } else {
    report.push_back({"store", HealthState::failed, reader.error().message, {}});
  }
  CLI_TRY(const auto* loaded, invocation.loaded());
  report.push_back(ledger_health(loaded->settings.audit));
  report.push_back(config_health(*loaded));
  CLI_TRY(const auto chosen, narrowed(std::move(report), wanted));
  print_report(invocation, chosen, running);
  invocation.out().flush();
  return std::unexpected(why);
}

Outcome<Exit> show_health(const std::string& wanted, Invocation& invocation) {
  CLI_TRY([[maybe_unused]] const auto* settings, invocation.loaded());
  const auto agent = invocation.agent(invocation.deadline());
  if (!agent) return without_agent(wanted, invocation, agent.error());
  const auto answer = (*agent)->call(ipc::RequestKind::health, "{}", invocation.deadline());
  if (!answer) {
    const bool gone = answer.error().code == Errc::timeout || answer.error().code == Errc::unavailable;
    if (gone) return without_agent(wanted, invocation, Failure(Exit::unavailable, answer.error().message));
    return std::unexpected(Failure(answer.error()));
  }
  CLI_TRY(auto report, observe::parse_health(*answer));
  CLI_TRY(const auto chosen, narrowed(std::move(report), wanted));
  print_report(invocation, chosen, true);
  return exit_for_state(observe::worst(chosen));
}

Outcome<Exit> show_metrics(Invocation& invocation) {
  CLI_TRY(const auto agent, invocation.agent(invocation.deadline()));
  const auto answer = agent->call(ipc::RequestKind::metrics, "{}", invocation.deadline());
  if (!answer) {
    const bool gone = answer.error().code == Errc::timeout;
    return std::unexpected(gone ? Failure(Exit::unavailable, answer.error().message) : Failure(answer.error()));
  }
  const auto document = nlohmann::json::parse(*answer, nullptr, false);
  if (!document.is_object() || !document.contains("text") || !document["text"].is_string()) {
    return std::unexpected(Failure(Exit::failed, "the agent's answer is not understood"));
  }
  const auto text = document["text"].get<std::string>();
  if (invocation.format() == Format::table) {
    invocation.out() << text;
    return Exit::done;
  }
  const auto writer = invocation.row_writer();
  writer->begin({{"name"}, {"labels"}, {"value"}, {"type"}, {"help"}});
  for (const auto& family : observe::parse_exposition(text).families) {
    for (const auto& sample : family.samples) {
      writer->row({sample.name, sample.labels, sample.value, family.type, family.help});
    }
  }
  writer->finish({}, "");
  return Exit::done;
}

}  // namespace

void add_health(CLI::App& app, Action& chosen) {
  auto* health = add_verb(app, "health", "What works, what does not, and why");
  const auto component = std::make_shared<std::string>();  // shared: the parser fills what the action reads
  health->add_option("COMPONENT", *component, "One part of the report, like collector, store, rules or sinks")
      ->type_name(
          "agent|collector|store|ledger|rules|detection|sinks|config|resources|capabilities|hashing|audit_requests");
  health->callback([component, &chosen] {
    chosen = [component](Invocation& invocation) { return show_health(*component, invocation); };
  });
  add_verb(app, "metrics", "The agent's metrics in Prometheus' text format")->callback([&chosen] {
    chosen = show_metrics;
  });
}

}  // namespace daemoneye::cli
