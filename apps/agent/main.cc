// daemoneye-agent: without --role the supervisor of procmond and itself; with a role the agent alone.
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <vector>

#include "agent/agent.h"
#include "agent/needed_paths.h"
#include "alert/sink.h"
#include "base/memory.h"
#include "common/find_procmond.h"
#include "common/startup.h"
#include "observe/log.h"
#include "predicate/predicate.h"
#include "supervise/service_manager.h"
#include "supervise/supervise.h"

namespace {

using namespace daemoneye;
using apps::give_up;
using observe::Level;

constexpr const char* program = "daemoneye-agent";
constexpr const char* reader_group = "daemoneye";
constexpr const char* admin_group = "daemoneye-admin";
constexpr std::chrono::milliseconds stop_grace{8000};
// Threads here rarely allocate at the same time, and what each has freed is kept in its arena: 4 MB of memory.
constexpr int malloc_arenas = 2;
// And what is so large goes back to the kernel when it is freed: columns of blocks, of which each thread has had some.
constexpr int mapped_from_bytes = 1024 * 1024;

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

int supervise_both(const apps::CommandLine& command_line) {
  const auto procmond = apps::find_procmond();
  if (!procmond) return give_up(program, procmond.error().message, apps::exit_unavailable);
  supervise::Options options;
  const auto child = [&](const std::string& name, const std::string& path) {
    supervise::ChildSpec spec{.name = name, .argv = {path}};
    for (auto& argument : command_line.arguments()) spec.argv.push_back(std::move(argument));
    spec.argv.insert(spec.argv.end(), {"--role", "supervised"});
    return spec;
  };
  std::error_code error;
  options.first = child("procmond", *procmond);
  options.second = child("agent", std::filesystem::read_symlink("/proc/self/exe", error).string());
  // From here on it only waits.
  base::release_free_memory();
  base::release_read_pages();
  return supervise::run(options);
}

// Makes the folders as root, and finds out as the agent's user whether they can be used.
Result<void> prepare(const config::Settings& settings, bool root) {
  const std::string user = root ? settings.app.user : "";
  const std::string group = root ? reader_group : "";
  const std::string store_folder = folder_of(settings.database.path);
  const std::string socket_folder = folder_of(settings.ipc.socket_path);
  DE_CHECK(sandbox::prepare_folder(store_folder, user, group, 0750));
  if (socket_folder != store_folder) DE_CHECK(sandbox::prepare_folder(socket_folder, user, group, 0750));
  std::vector<sandbox::PathCheck> checks = {{store_folder, "event store", sandbox::Access::write_folder},
                                            {socket_folder, "ipc.socket_path", sandbox::Access::write_folder}};
  for (const auto& path : config::rule_folders(settings)) {
    if (::access(path.c_str(), F_OK) == 0)
      checks.push_back({path, "detection.rule_paths or bundle.path", sandbox::Access::read});
  }
  for (const auto& sink : settings.alerting.sinks) {
    for (auto& needed : apps::paths_of(sink)) checks.push_back(std::move(needed));
  }
  if (!settings.metrics.textfile.empty()) {
    checks.push_back({folder_of(settings.metrics.textfile), "metrics.textfile", sandbox::Access::write_folder});
  }
  return sandbox::check_access_as(user, checks);
}

// The group is shared with others only by somebody who is in it: not root, and not a service, it is one's own business.
bool in_group(const std::string& name) {
  const auto group = sandbox::find_group(name);
  if (!group) return false;
  if (::getegid() == *group) return true;
  std::vector<gid_t> groups(static_cast<std::size_t>(std::max(0, ::getgroups(0, nullptr))));
  if (::getgroups(static_cast<int>(groups.size()), groups.data()) < 0) return false;
  return std::ranges::find(groups, *group) != groups.end();
}

int run_agent(const apps::CommandLine& command_line, const config::Loaded& loaded) {
  const auto& settings = loaded.settings;
  const bool root = ::geteuid() == 0;
  apps::Agent::Context context;
  context.sources = config::sources_from_process(command_line.config_file, command_line.set);
  if (auto prepared = prepare(settings, root); !prepared) {
    return give_up(program, prepared.error().message, apps::exit_unavailable);
  }
  auto reached = sandbox::drop_privileges(
      {.user = root ? settings.app.user : "", .own_network = false, .drop_capabilities = true});
  if (!reached) return give_up(program, "privileges: " + reached.error().message, apps::exit_unavailable);

  auto loop = EventLoop::create();
  if (!loop) return give_up(program, loop.error().message, apps::exit_failed);
  context.reached = *reached;
  context.supervised = command_line.role == "supervised";
  // The supervisor's word counts, not that of the manager above it.
  auto manager = context.supervised ? Result<supervise::ServiceManager>() : supervise::ServiceManager::of_process();
  if (!manager) return give_up(program, manager.error().message, apps::exit_unavailable);
  if (in_group(reader_group)) context.reader_group = reader_group;
  context.admin_group = admin_group;
  if (auto collector = sandbox::find_user(settings.app.collector_user)) context.collector_uid = collector->uid;
  apps::Agent agent(**loop, loaded, std::move(context));
  // Before any thread starts: they inherit the blocked signals.
  auto prepared = (*loop)->on_signals({SIGTERM, SIGINT, SIGHUP}, [&](int signal) {
    if (signal == SIGHUP) {
      manager->reloading();
      agent.reload();
      manager->reloaded();
    } else {
      manager->stopping();
      (*loop)->stop();
    }
  });
  if (prepared) prepared = agent.start();
  if (prepared) prepared = manager->ready(**loop, "Storing events, running rules, delivering alerts.");
  if (!prepared) {
    if (prepared.error().code == Errc::corrupt) {
      return give_up(program, prepared.error().message, apps::exit_integrity);
    }
    const bool final = prepared.error().code != Errc::internal && prepared.error().code != Errc::cancelled;
    return give_up(program, prepared.error().message, final ? apps::exit_unavailable : apps::exit_failed);
  }
  (*loop)->run();
  agent.stop(stop_grace);
  return apps::exit_ok;
}

}  // namespace

int main(int argc, char** argv) {
  ::mallopt(M_ARENA_MAX, malloc_arenas);
  ::mallopt(M_MMAP_THRESHOLD, mapped_from_bytes);
  const auto parsed = apps::parse_command_line(argc, argv, program,
                                               "DaemonEye's agent: stores events, runs rules, delivers alerts. Without "
                                               "--role it also starts and watches procmond.",
                                               {"supervised", "alone"});
  if (parsed.exit_code) return *parsed.exit_code;
  alert::register_sink_types();
  config::register_validator("collection.exclude", [](const std::string& text) -> Result<void> {
    DE_CHECK(predicate::Predicate::parse(text));
    return {};
  });
  // The supervisor reads the configuration once to find errors before anything starts, and keeps nothing of it.
  const auto loaded = apps::load_config(parsed.command_line, program);
  if (!loaded) return apps::exit_invalid;
  observe::start_log(program, loaded->settings.logging.level, loaded->settings.logging.format);
  if (parsed.command_line.role.empty()) return supervise_both(parsed.command_line);
  for (const auto& notice : loaded->notices) observe::log(Level::warn, "config", "notice", {{"text", notice}});
  ::signal(SIGPIPE, SIG_IGN);
  return run_agent(parsed.command_line, *loaded);
}
