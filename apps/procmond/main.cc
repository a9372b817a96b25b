// procmond: the privileged collector. Opens what needs privilege, gives privilege up, then watches.
#include <unistd.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "collector/budget.h"
#include "collector/collector.h"
#include "common/startup.h"
#include "config/config.h"
#include "config/kept.h"
#include "observe/log.h"
#include "procmond/confinement.h"
#include "procmond/connector.h"
#include "procmond/hashing.h"
#include "procmond/probe.h"
#include "procmond/reload.h"
#include "procmond/sensors.h"
#include "sandbox/sandbox.h"
#include "sensor/source_chain.h"
#include "supervise/service_manager.h"
#include "supervise/supervise.h"

namespace {

using namespace daemoneye;
using namespace daemoneye::procmond;
using apps::give_up;
using nlohmann::json;
using observe::Level;

constexpr const char* program = "procmond";
constexpr const char* reader_group = "daemoneye";
constexpr std::chrono::milliseconds stop_grace{5000};
// When the source has died: until procmond is started anew nothing is seen.
constexpr std::chrono::milliseconds handover_grace{2000};

Result<collector::Collector::Options> collector_options(const config::Settings& settings, const Sensors& sensors,
                                                        const sensor::Namespaces& own_namespaces) {
  collector::Collector::Options options;
  options.uplink.host = apps::host_name();
  options.uplink.version = DAEMONEYE_VERSION;
  if (sensors.source) options.uplink.gap_source = sensors.source->kind();
  options.uplink.batch_events = settings.app.batch_size;
  const auto budget = collector::Budget::of(settings.app.memory_budget_mb);
  options.uplink.max_held_bytes = budget.held_bytes;
  options.tracker.max_processes = budget.processes;
  options.tracker.max_bytes = budget.table_bytes;
  options.tasks.max_concurrent = settings.ipc.max_concurrent_tasks;
  options.tracker.mask_arguments = settings.collection.mask_arguments;
  options.tracker.store_forks = settings.collection.store_forks;
  options.tracker.own_namespaces = own_namespaces;
  for (const auto& text : settings.collection.exclude) {
    auto predicate = predicate::Predicate::parse(text);
    if (!predicate) return fail(Errc::invalid_input, "collection.exclude: " + predicate.error().message);
    options.tracker.exclude.push_back(std::move(*predicate));
  }
  options.scan_interval = std::chrono::milliseconds(settings.app.scan_interval_ms);
  options.source_reason = sensors.reason;
  options.source_limits = sensors.limits;
  return options;
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return path.substr(0, slash == 0 ? 1 : slash);
}

ledger::Ledger::Options ledger_options(const config::Settings& settings, bool root, const event::BootId& boot) {
  const auto& audit = settings.audit;
  return {.path = audit.path,
          .reader_group = root ? "" : reader_group,
          .boot = base::to_hex({reinterpret_cast<const char*>(boot.data()), boot.size()}),
          .key_path = audit.key_path,
          .name = apps::host_name(),
          .checkpoint_interval = std::chrono::seconds(audit.checkpoint_interval_s),
          .checkpoint_entries = audit.checkpoint_entries,
          .checkpoint_copy = audit.checkpoint_copy,
          .segment_bytes = std::uint64_t{audit.segment_mb} * 1024 * 1024};
}

// As root it is made for the collector's user, who is asked whether it can be used.
Result<void> prepare_audit_folder(const config::Settings& settings, const std::string& folder) {
  if (::geteuid() != 0) return sandbox::prepare_folder(folder, "", "", 0750);
  DE_CHECK(sandbox::prepare_folder(folder, settings.app.collector_user, reader_group, 0750));
  return sandbox::check_access_as(settings.app.collector_user,
                                  {{folder, "audit ledger", sandbox::Access::write_folder}});
}

int run(const apps::CommandLine& command_line, const config::Loaded& loaded) {
  const auto& settings = loaded.settings;
  const bool root = ::geteuid() == 0;
  sandbox::share_refusal_counts();  // before anything is forked
  const std::string audit_folder = folder_of(settings.audit.path);
  const std::string failures_path = audit_folder + "/source-failures.json";
  if (auto prepared = prepare_audit_folder(settings, audit_folder); !prepared) {
    return give_up(program, "audit folder: " + prepared.error().message, apps::exit_unavailable);
  }
  if (const auto folder = folder_of(settings.audit.key_path); folder != audit_folder) {
    if (auto prepared = prepare_audit_folder(settings, folder); !prepared) {
      return give_up(program, "audit.key_path: " + prepared.error().message, apps::exit_unavailable);
    }
  }
  // First, while little is open that a helper would have to close.
  auto hashing = open_hashing(settings, root);
  const bool supervised = command_line.role == "supervised";
  auto manager = supervised ? Result<supervise::ServiceManager>() : supervise::ServiceManager::of_process();
  if (!manager) return give_up(program, manager.error().message, apps::exit_unavailable);
  auto boot = sensor::read_boot_id();
  auto boot_time = sensor::read_boot_time();
  if (!boot || !boot_time) return give_up(program, "boot id and time cannot be read", apps::exit_failed);
  const auto own_namespaces = sensor::own_namespaces();  // before there is a network namespace of procmond's own
  auto sensors = open_sensors(settings, failures_path, *boot);
  if (!sensors) return give_up(program, sensors.error().message, apps::exit_unavailable);

  // Everything privileged is open; from here on there is no way back. The ledger is the collector's user's, and is
  // opened before that user, too, can open little else.
  std::unique_ptr<ledger::Ledger> ledger;
  const std::string key_folder = folder_of(settings.audit.key_path);
  auto sources = config::sources_from_process(command_line.config_file, command_line.set);
  auto configuration = configuration_folders(sources, settings);
  auto reached = confine(settings, {.audit_folder = audit_folder,
                                    .key_folder = key_folder,
                                    .configuration_folders = configuration.folders,
                                    .reads_proc_links = sensors->read_proc_links(),
                                    .once_unprivileged = [&]() -> Result<void> {
                                      auto opened = ledger::Ledger::open(ledger_options(settings, root, *boot));
                                      if (!opened) {
                                        return fail(opened.error().code, "audit ledger: " + opened.error().message);
                                      }
                                      ledger = std::move(*opened);
                                      return {};
                                    }});
  if (!reached) return give_up(program, reached.error().message, apps::exit_unavailable);

  const auto note = [&](const std::string& action, const json& payload) -> Result<void> {
    DE_CHECK(ledger->append(program, action, payload.dump(-1, ' ', false, json::error_handler_t::replace)));
    return {};
  };
  const std::string source_name = sensors->source ? std::string(sensors->source->name()) : "none";
  json start = {{"version", DAEMONEYE_VERSION},
                {"pid", ::getpid()},
                {"source", source_name},
                {"reason", sensors->reason},
                {"snapshot", sensors->snapshot->name()},
                {"limits", sensors->limits},
                {"configuration", config::digest_hex(loaded)}};
  const std::string kept_path = audit_folder + '/' + config::kept_file_name;
  if (const auto before = config::read_kept(kept_path)) tell_changes(start, *before, settings);
  auto noted = note("start", start);
  if (noted) keep_configuration(kept_path, loaded);
  if (noted) noted = note("privileges", reached->details());
  if (noted && settings.collection.hash_executables) noted = note("hashing_helper", hashing.details);
  if (noted) noted = ledger->checkpoint();
  if (!noted) return give_up(program, "audit ledger: " + noted.error().message, apps::exit_unavailable);

  auto options = collector_options(settings, *sensors, own_namespaces);
  if (!options) return give_up(program, options.error().message, apps::exit_invalid);
  if (reached->landlock == "no") configuration.out_of_reach.clear();
  Reload reload(std::move(sources), loaded, std::move(configuration.out_of_reach), kept_path);
  options->own_health = [&] {
    std::vector health{capability_health(*reached)};
    if (auto of_reload = reload.health()) health.push_back(std::move(*of_reload));
    return health;
  };
  options->tasks.reload_configuration = [&reload] { return reload.run("agent"); };

  auto loop = EventLoop::create();
  if (!loop) return give_up(program, loop.error().message, apps::exit_failed);
  int exit_code = apps::exit_ok;
  collector::Collector collector(**loop, std::move(*options),
                                 {std::move(sensors->source), std::move(sensors->snapshot), std::move(ledger), *boot,
                                  *boot_time, std::move(hashing.hashes), std::move(sensors->spare_snapshot)},
                                 [&reached] { return reached->details(); });
  reload.use(collector);
  collector.on_source_failure = [&](const Error& error) {
    observe::log(Level::error, program, "the real-time source failed",
                 {{"source", source_name}, {"error", error.message}});
    const sensor::SourceFailure failure{source_name, sensor::uptime_now(), error.message};
    if (auto kept = sensor::remember_failure(failures_path, *boot, failure); !kept) {
      observe::log(Level::error, program, "the failure cannot be remembered: the same source is tried again",
                   {{"error", kept.error().message}});
    }
    exit_code = apps::exit_source_failed;
    // What is held is handed over first, and the ledger closed in order. Not in here, where the source is speaking.
    (*loop)->post([&] { collector.stop(handover_grace, [&] { (*loop)->stop(); }); });
  };

  const auto stop = [&] {
    manager->stopping();
    collector.stop(stop_grace, [&] { (*loop)->stop(); });
  };
  auto prepared = (*loop)->on_signals({SIGTERM, SIGINT, SIGHUP}, [&](int signal) {
    if (signal != SIGHUP) return stop();
    [[maybe_unused]] const auto told = reload.run("signal");  // the log and health tell
  });
  if (!prepared) return give_up(program, prepared.error().message, apps::exit_failed);
  const auto look_for_refused_calls = watch_refused_calls(**loop);
  if (!look_for_refused_calls) return give_up(program, look_for_refused_calls.error().message, apps::exit_failed);
  std::unique_ptr<Connector> connector;
  prepared = collector.start();
  if (exit_code != apps::exit_ok) {  // the source failed at its very start
    (*loop)->run();
    (*look_for_refused_calls)();
    return exit_code;
  }
  if (prepared && supervised) {
    prepared = supervise::receive_sockets(
        **loop, supervise::control_fd, [&](UniqueFd socket) { collector.attach(std::move(socket)); }, stop);
  }
  if (prepared) {
    connector = std::make_unique<Connector>(**loop, settings.ipc.socket_path, collector,
                                            supervised ? supervised_head_start : std::chrono::milliseconds(0));
    prepared = connector->start();
  }
  if (prepared) prepared = manager->ready(**loop, "Watching; source: " + source_name + ".");
  if (!prepared) return give_up(program, prepared.error().message, apps::exit_failed);
  (*loop)->run();
  (*look_for_refused_calls)();
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  const auto parsed = apps::parse_command_line(
      argc, argv, program, "DaemonEye's collector: sees process starts and exits, and alone writes the audit ledger.",
      {"supervised", "probe"});
  if (parsed.exit_code) return *parsed.exit_code;
  if (parsed.command_line.role == "probe") return probe_sources();
  config::register_validator("collection.exclude", [](const std::string& text) -> Result<void> {
    DE_CHECK(predicate::Predicate::parse(text));
    return {};
  });
  const auto loaded = apps::load_config(parsed.command_line, program);
  if (!loaded) return apps::exit_invalid;
  observe::start_log(program, loaded->settings.logging.level, loaded->settings.logging.format);
  for (const auto& notice : loaded->notices) observe::log(Level::warn, "config", "notice", {{"text", notice}});
  ::signal(SIGPIPE, SIG_IGN);
  return run(parsed.command_line, *loaded);
}
