// procmond: the privileged collector. Opens what needs privilege, gives privilege up, then watches.
#include <unistd.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "collector/collector.h"
#include "common/startup.h"
#include "config/config.h"
#include "ipc/connection.h"
#include "observe/log.h"
#include "sandbox/sandbox.h"
#include "sensor/source.h"
#include "supervise/supervise.h"

namespace {

using namespace daemoneye;
using apps::give_up;
using nlohmann::json;
using observe::Level;

constexpr const char* program = "procmond";
constexpr std::chrono::milliseconds stop_grace{5000};
constexpr std::chrono::milliseconds reconnect_first{100}, reconnect_max{5000};
constexpr std::chrono::milliseconds connect_timeout{2000};

struct Sensors {
  std::unique_ptr<sensor::Source> source;
  std::unique_ptr<sensor::Snapshot> snapshot;
  std::string limits;  // why not the best
};

Result<Sensors> open_sensors(const config::Settings& settings) {
  Sensors sensors;
  const auto& wanted = settings.collection.realtime;
  if (wanted == "netlink") {
    return fail(Errc::unavailable,
                "collection.realtime: the netlink source is not in this build; allowed are auto, ebpf and off");
  }
  if (wanted == "off") {
    sensors.limits = "collection.realtime is off: a process that lives less than a scan interval is not seen";
  } else {
    constexpr std::size_t ring_bytes = 8 * 1024 * 1024;
    auto source = sensor::open_bpf_source(ring_bytes);
    if (source) {
      sensors.source = std::move(*source);
    } else if (wanted == "ebpf") {
      return fail(Errc::unavailable, "collection.realtime is ebpf, but: " + source.error().message);
    } else {
      sensors.limits = "no real-time source, only scans (" + source.error().message +
                       "): a process that lives less than a scan interval is not seen";
    }
    auto snapshot = sensor::open_bpf_snapshot();
    if (snapshot) {
      sensors.snapshot = std::move(*snapshot);
    } else if (sensors.source) {
      sensors.limits = "scans read /proc (" + snapshot.error().message +
                       "): executables of other users' processes that started before are not seen";
    }
  }
  if (!sensors.snapshot) {
    DE_TRY(sensors.snapshot, sensor::open_procfs_snapshot());
  }
  return sensors;
}

std::size_t table_size(const config::Settings& settings) {
  // About 1 KiB a process with its image; an eighth of the budget of both daemons.
  return std::max<std::size_t>(4096, settings.app.memory_budget_mb * std::size_t{1024} / 8);
}

Result<collector::Collector::Options> collector_options(const config::Settings& settings, const Sensors& sensors) {
  collector::Collector::Options options;
  options.uplink.host = apps::host_name();
  options.uplink.version = DAEMONEYE_VERSION;
  if (sensors.source) options.uplink.gap_source = sensors.source->kind();
  options.uplink.batch_events = settings.app.batch_size;
  options.uplink.max_held_bytes = settings.app.memory_budget_mb * std::size_t{1024 * 1024} / 6;
  options.tracker.max_processes = table_size(settings);
  options.tracker.mask_arguments = settings.collection.mask_arguments;
  options.tracker.store_forks = settings.collection.store_forks;
  for (const auto& text : settings.collection.exclude) {
    auto predicate = predicate::Predicate::parse(text);
    if (!predicate) return fail(Errc::invalid_input, "collection.exclude: " + predicate.error().message);
    options.tracker.exclude.push_back(std::move(*predicate));
  }
  options.scan_interval = std::chrono::milliseconds(settings.app.scan_interval_ms);
  options.source_limits = sensors.limits;
  return options;
}

observe::ComponentHealth capability_health(const sandbox::Reached& reached, const config::Settings& settings) {
  observe::ComponentHealth health{
      .component = "capabilities", .state = observe::HealthState::ok, .reason = {}, .details = reached.details()};
  for (const auto& missing : reached.missing) health.reason += (health.reason.empty() ? "" : "; ") + missing;
  if (settings.collection.hash_executables) {
    health.details["hashing"] = "executables are not hashed: this build has no hashing helper";
    health.reason += std::string(health.reason.empty() ? "" : "; ") + "executables are not hashed by this build";
  }
  if (!health.reason.empty()) health.state = observe::HealthState::degraded;
  return health;
}

// Connects to the agent's socket, again whenever the connection is gone. Under a supervisor it waits a while first: a
// restarted agent is handed to us; a line that broke while both live is not.
class Connector {
 public:
  Connector(EventLoop& loop, std::string path, collector::Collector& collector, std::chrono::milliseconds head_start)
      : loop_(loop), path_(std::move(path)), collector_(collector), head_start_(head_start) {}
  Result<void> start() {
    DE_TRY(const auto timer, loop_.add_timer(std::chrono::milliseconds(1), reconnect_first, [this] { attempt(); }));
    static_cast<void>(timer);  // for the life of the loop
    return {};
  }

 private:
  void attempt() {
    if (collector_.connected()) {
      not_before_ = base::SteadyClock::now() + head_start_;
      return;
    }
    if (base::SteadyClock::now() < not_before_) return;
    auto socket = ipc::connect_to(path_, Deadline::after(connect_timeout));
    if (!socket) {
      if (failures_ == 0) observe::log(Level::warn, "ipc", "agent not reachable", {{"error", socket.error().message}});
      const auto wait = std::min(reconnect_max, reconnect_first * (1 << std::min(failures_, 6)));
      ++failures_;
      not_before_ = base::SteadyClock::now() + wait;
      return;
    }
    failures_ = 0;
    not_before_ = base::SteadyClock::now() + reconnect_max;  // the greeting needs its time
    collector_.attach(std::move(*socket));
  }
  EventLoop& loop_;
  std::string path_;
  collector::Collector& collector_;
  std::chrono::milliseconds head_start_;
  int failures_ = 0;
  base::SteadyClock::time_point not_before_ = base::SteadyClock::now() + head_start_;
};

int run(const apps::CommandLine& command_line, const config::Loaded& loaded) {
  const auto& settings = loaded.settings;
  const bool root = ::geteuid() == 0;
  const auto slash = settings.audit.path.rfind('/');
  const std::string audit_folder = settings.audit.path.substr(0, slash == 0 ? 1 : slash);
  const std::string group = "daemoneye";

  if (root) {
    if (auto made = sandbox::prepare_folder(audit_folder, settings.app.collector_user, group, 0750); !made) {
      return give_up(program, "audit folder: " + made.error().message, apps::exit_unavailable);
    }
    if (auto reachable = sandbox::check_access_as(settings.app.collector_user,
                                                  {{audit_folder, "audit ledger", sandbox::Access::write_folder}});
        !reachable) {
      return give_up(program, reachable.error().message, apps::exit_unavailable);
    }
  } else if (auto made = sandbox::prepare_folder(audit_folder, "", "", 0750); !made) {
    return give_up(program, "audit folder: " + made.error().message, apps::exit_unavailable);
  }

  auto sensors = open_sensors(settings);
  if (!sensors) return give_up(program, sensors.error().message, apps::exit_unavailable);
  auto boot = sensor::read_boot_id();
  auto boot_time = sensor::read_boot_time();
  if (!boot || !boot_time) return give_up(program, "boot id and time cannot be read", apps::exit_failed);

  // Everything privileged is open; from here on there is no way back.
  auto reached = sandbox::drop_privileges(
      {.user = root ? settings.app.collector_user : "", .own_network = root, .drop_capabilities = true});
  if (!reached) return give_up(program, "privileges: " + reached.error().message, apps::exit_unavailable);

  auto ledger = ledger::Ledger::open({.path = settings.audit.path, .reader_group = root ? "" : group});
  if (!ledger) return give_up(program, "audit ledger: " + ledger.error().message, apps::exit_unavailable);
  const auto note = [&](const std::string& action, const json& payload) -> Result<void> {
    DE_CHECK((*ledger)->append(program, action, payload.dump(-1, ' ', false, json::error_handler_t::replace)));
    return {};
  };
  const std::string source_name = sensors->source ? std::string(sensors->source->name()) : "none";
  auto noted = note("start", {{"version", DAEMONEYE_VERSION},
                              {"pid", ::getpid()},
                              {"source", source_name},
                              {"snapshot", sensors->snapshot->name()},
                              {"limits", sensors->limits},
                              {"configuration", config::digest_hex(loaded)}});
  if (noted) noted = note("privileges", reached->details());
  if (!noted) return give_up(program, "audit ledger: " + noted.error().message, apps::exit_unavailable);
  observe::log(Level::info, program, "privileges given up",
               {{"uid", std::uint64_t{reached->uid}},
                {"capabilities", reached->capabilities_effective},
                {"own_network", reached->own_network},
                {"no_new_privs", reached->no_new_privs}});

  auto options = collector_options(settings, *sensors);
  if (!options) return give_up(program, options.error().message, apps::exit_invalid);
  options->fixed_health.push_back(capability_health(*reached, settings));

  auto loop = EventLoop::create();
  if (!loop) return give_up(program, loop.error().message, apps::exit_failed);
  int exit_code = apps::exit_ok;
  collector::Collector collector(
      **loop, std::move(*options),
      {std::move(sensors->source), std::move(sensors->snapshot), std::move(*ledger), *boot, *boot_time},
      [details = reached->details()] { return details; });
  collector.on_source_failure = [&](const Error& error) {
    observe::log(Level::error, program, "the real-time source failed", {{"error", error.message}});
    exit_code = apps::exit_source_failed;
    (*loop)->stop();
  };

  const auto stop = [&] { collector.stop(stop_grace, [&] { (*loop)->stop(); }); };
  auto prepared = (*loop)->on_signals({SIGTERM, SIGINT, SIGHUP}, [&](int signal) {
    if (signal == SIGHUP) {
      observe::log(Level::info, program, "SIGHUP: nothing of the collector's configuration can change while it runs");
    } else {
      stop();
    }
  });
  std::unique_ptr<Connector> connector;
  if (prepared) prepared = collector.start();
  const bool supervised = command_line.role == "supervised";
  if (prepared && supervised) {
    prepared = supervise::receive_sockets(
        **loop, supervise::control_fd, [&](UniqueFd socket) { collector.attach(std::move(socket)); }, stop);
  }
  if (prepared) {
    connector = std::make_unique<Connector>(**loop, settings.ipc.socket_path, collector,
                                            supervised ? reconnect_max : std::chrono::milliseconds(0));
    prepared = connector->start();
  }
  if (!prepared) return give_up(program, prepared.error().message, apps::exit_failed);
  (*loop)->run();
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  const auto parsed = apps::parse_command_line(
      argc, argv, program, "DaemonEye's collector: sees process starts and exits, and alone writes the audit ledger.",
      {"supervised"});
  if (parsed.exit_code) return *parsed.exit_code;
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
