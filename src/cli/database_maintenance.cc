// db compact, analyze, purge: changes. The agent makes them, as the store's only writer; a file that --db names and no
// agent has is worked on here.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/text.h"
#include "cli/database.h"
#include "cli/progress.h"
#include "store/store_file.h"
#include "store/writer.h"

namespace daemoneye::cli {
namespace {

using Kind = store::MaintenanceRequest::Kind;

constexpr std::chrono::milliseconds look_again{100};

std::string name_of(Kind kind) {
  switch (kind) {
    case Kind::compact: return "compact";
    case Kind::analyze: return "analyze";
    case Kind::purge: return "purge";
  }
  return "";
}

std::uint64_t count(const nlohmann::json& document, const char* key) {
  const auto found = document.find(key);
  return found != document.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

Outcome<store::MaintenanceState> state_in_agent(ipc::Client& agent, Deadline deadline) {
  CLI_TRY(const auto answer, agent.call(ipc::RequestKind::maintenance, "{}", deadline));
  const auto document = nlohmann::json::parse(answer, nullptr, false);
  if (!document.is_object()) return std::unexpected(Failure(Exit::failed, "the agent's answer is not understood"));
  store::MaintenanceState state;
  state.id = count(document, "id");
  state.running = document.value("running", false);
  state.done = count(document, "done");
  state.total = count(document, "total");
  state.error = document.value("error", "");
  state.bytes_freed = count(document, "bytes_freed");
  state.events_removed = count(document, "events_removed");
  state.rows_removed = count(document, "rows_removed");
  state.blocks_kept = count(document, "blocks_kept");
  return state;
}

// Until it is over. `look` gives the state now.
template <class Look>
Outcome<store::MaintenanceState> wait_for(std::uint64_t id, Kind kind, const Invocation& invocation, Look look) {
  Progress progress(invocation, name_of(kind));
  while (true) {
    CLI_TRY(auto state, look());
    if (state.id != id) return std::unexpected(Failure(Exit::failed, "it was done, and something else since"));
    if (!state.running) return state;
    if (invocation.deadline().expired()) {
      return std::unexpected(Failure(Exit::failed, "not done within --timeout; " + std::to_string(state.done) + " of " +
                                                       std::to_string(state.total) + " so far"));
    }
    progress.show(state.done, state.total);
    std::this_thread::sleep_for(look_again);
  }
}

Outcome<store::MaintenanceState> in_agent(const store::MaintenanceRequest& request, Invocation& invocation) {
  auto agent = invocation.agent(invocation.deadline());
  if (!agent) {
    auto failure = agent.error();
    failure.details.emplace_back("the agent changes its store; for a file that no agent has: --db FILE");
    return std::unexpected(std::move(failure));
  }
  nlohmann::json payload = {{"do", name_of(request.kind)}};
  if (request.kind == Kind::purge) {
    payload["before"] = request.before ? nlohmann::json(request.before->ns) : nlohmann::json(nullptr);
  }
  CLI_TRY(const auto answer, (*agent)->call(ipc::RequestKind::maintain, payload.dump(), invocation.deadline()));
  const auto document = nlohmann::json::parse(answer, nullptr, false);
  if (!document.is_object()) return std::unexpected(Failure(Exit::failed, "the agent's answer is not understood"));
  return wait_for(count(document, "id"), request.kind, invocation,
                  [&] { return state_in_agent(**agent, invocation.deadline()); });
}

Outcome<store::MaintenanceState> in_file(const std::string& path, const store::MaintenanceRequest& request,
                                         Invocation& invocation) {
  CLI_TRY([[maybe_unused]] const auto readable, invocation.reader());  // it is there, and a store
  CLI_TRY(const auto* settings, invocation.loaded());
  std::error_code error;
  if (request.kind == Kind::purge && std::filesystem::equivalent(path, settings->settings.database.path, error)) {
    return std::unexpected(Failure(Exit::unavailable,
                                   "this is the agent's own store: start the agent and leave --db out",
                                   {"what is purged there is recorded in the audit ledger"}));
  }
  store::StoreOptions options;
  options.path = path;
  options.retention_days = options.max_size_mb = 0;
  CLI_TRY(const auto writer, store::Writer::open(options));
  CLI_TRY(const auto id, writer->start_maintenance(request));
  return wait_for(id, request.kind, invocation,
                  [&]() -> Outcome<store::MaintenanceState> { return writer->maintenance(); });
}

Outcome<Exit> maintain(const store::MaintenanceRequest& request, Invocation& invocation) {
  const auto& path = invocation.options().database;
  CLI_TRY(const auto state, path.empty() ? in_agent(request, invocation) : in_file(path, request, invocation));
  if (!state.error.empty()) {
    Failure failure(Exit::failed, state.error);
    if (request.kind == Kind::purge) {
      failure.details.push_back("removed before that: " + std::to_string(state.events_removed) + " events, " +
                                std::to_string(state.rows_removed) + " other rows");
    }
    return std::unexpected(std::move(failure));
  }
  const auto number = [](std::uint64_t value) -> event::Value { return static_cast<std::int64_t>(value); };
  switch (request.kind) {
    case Kind::compact: write_record(invocation, {{"bytes_freed"}}, {number(state.bytes_freed)}); break;
    case Kind::analyze: write_record(invocation, {{"analyzed"}}, {std::string("yes")}); break;
    case Kind::purge:
      write_record(invocation, {{"events_removed"}, {"rows_removed"}, {"blocks_kept"}},
                   {number(state.events_removed), number(state.rows_removed), number(state.blocks_kept)});
      if (state.blocks_kept > 0 && invocation.format() != Format::json) {
        invocation.out().flush();
        invocation.err() << "note: " << state.blocks_kept
                         << " blocks hold events from before and from after that moment; they stay\n";
      }
      break;
  }
  return Exit::done;
}

Outcome<Exit> purge(const std::string& before, bool all, bool yes, Invocation& invocation) {
  if (before.empty() != all) {
    return std::unexpected(Failure(Exit::usage, "db purge needs --before TIME or --all, and not both"));
  }
  store::MaintenanceRequest request;
  request.kind = Kind::purge;
  if (!all) {
    CLI_TRY(request.before, parse_moment(before, base::wall_now()));
  }
  const std::string what = all ? "all events, alerts and scans" : "everything before " + base::to_iso(*request.before);
  CLI_TRY([[maybe_unused]] const bool go_on, invocation.confirmed("Remove " + what + " for good?", yes));
  return maintain(request, invocation);
}

}  // namespace

void add_maintenance(CLI::App& db, Action& chosen) {
  add_verb(db, "compact", "Give free space back to the file system, while the agent runs")->callback([&chosen] {
    chosen = [](Invocation& invocation) { return maintain({Kind::compact, {}}, invocation); };
  });
  add_verb(db, "analyze", "Renew what the query planner knows of the tables")->callback([&chosen] {
    chosen = [](Invocation& invocation) { return maintain({Kind::analyze, {}}, invocation); };
  });
  auto* verb = add_verb(db, "purge", "Remove history for good; recorded in the audit ledger");
  const auto before = std::make_shared<std::string>();  // shared: the parser fills what the action reads
  const auto all = std::make_shared<bool>(false), yes = std::make_shared<bool>(false);
  verb->add_option("--before", *before, "A span ago (5m, 2h, 7d) or ISO 8601")->type_name("TIME");
  verb->add_flag("--all", *all, "All of it; living processes and what waits for delivery stay");
  verb->add_flag("--yes", *yes, "Do not ask");
  verb->footer(
      "Whole blocks go (about 8,000 events each): one that also holds younger events stays. Answers over what is gone "
      "say so.");
  verb->callback([before, all, yes, &chosen] {
    chosen = [before, all, yes](Invocation& invocation) { return purge(*before, *all, *yes, invocation); };
  });
}

}  // namespace daemoneye::cli
