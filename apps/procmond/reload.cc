#include "procmond/reload.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/text.h"
#include "config/change.h"
#include "config/kept.h"
#include "observe/log.h"
#include "observe/log_level.h"
#include "sandbox/sandbox.h"

namespace daemoneye::procmond {
namespace {

using nlohmann::json;
using observe::Level;

constexpr std::size_t max_told_problems = 20, max_told_bytes = 300;

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash == 0 ? 1 : slash);
}

bool holds(const std::string& folder, const std::string& path) {
  return folder == "/" || path == folder || path.starts_with(folder + '/');
}

std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

Result<collector::Collector::Live> live_of(const config::Settings& settings) {
  collector::Collector::Live live;
  live.mask_arguments = settings.collection.mask_arguments;
  live.store_forks = settings.collection.store_forks;
  for (const auto& text : settings.collection.exclude) {
    DE_TRY(auto predicate, predicate::Predicate::parse(text));
    live.exclude.push_back(std::move(predicate));
  }
  live.scan_interval = std::chrono::milliseconds(settings.app.scan_interval_ms);
  live.checkpoint_interval = std::chrono::seconds(settings.audit.checkpoint_interval_s);
  live.checkpoint_entries = settings.audit.checkpoint_entries;
  live.hash_cpu_percent = settings.collection.hash_cpu_percent;
  return live;
}

}  // namespace

void tell_changes(json& payload, const config::Settings& before, const config::Settings& now) {
  auto& changes = payload["changes"] = json::array();
  for (const auto& one : config::differences(before, now)) {
    changes.push_back({{"key", one.key}, {"before", one.before}, {"after", one.after}});
  }
  for (const auto& one : config::weakenings(before, now)) {
    payload["weakens"].push_back({{"key", one.key}, {"what", one.what}});
  }
}

void keep_configuration(const std::string& path, const config::Loaded& loaded) {
  if (auto kept = config::keep(path, loaded); !kept) {
    observe::log(Level::warn, "config", "what is in force could not be kept for the next start to compare with",
                 {{"error", kept.error().message}});
  }
}

ConfigurationFolders configuration_folders(const config::Sources& sources, const config::Settings& settings) {
  ConfigurationFolders found;
  const std::string user = ::geteuid() == 0 ? settings.app.collector_user : "";
  // One that cannot be entered would end the start, where it is to be opened to the sandbox.
  const auto add = [&](const std::string& folder) {
    if (::access(folder.c_str(), F_OK) != 0) return;
    if (auto readable = sandbox::check_access_as(user, {{folder, "configuration", sandbox::Access::read}}); readable)
      found.folders.push_back(folder);
    else
      found.out_of_reach = readable.error().message;
  };
  if (!sources.config_file) {
    add(sources.etc);
  } else {
    found.out_of_reach = config::out_of_collectors_reach(sources, settings);
    if (found.out_of_reach.empty()) add(folder_of(*sources.config_file));
  }
  if (!holds(sources.etc, settings.bundle.path)) add(settings.bundle.path);
  return found;
}

Result<void> Reload::refuse(const std::vector<std::string>& problems, const std::string& asked_by) {
  problems_.clear();
  for (const auto& problem : problems) {
    if (problems_.size() == max_told_problems) break;
    problems_.push_back(base::to_valid_utf8(problem.substr(0, max_told_bytes)));
    observe::log(Level::error, "config", "reload refused: nothing of the configuration changed",
                 {{"problem", problems_.back()}});
  }
  collector_->record("reload_refused", dump({{"by", asked_by},
                                             {"configuration", config::digest_hex(in_force_)},
                                             {"problems", problems_},
                                             {"count", problems.size()}}));
  return fail(Errc::invalid_input, problems.front());
}

Result<void> Reload::run(const std::string& asked_by) {
  if (!out_of_reach_.empty()) {
    // A signal is for the agent, too: only who knows that there is something to take up makes this a fault.
    observe::log(Level::warn, "config", "the configuration was not read again", {{"why", out_of_reach_}});
    return asked_by == "signal" ? Result<void>() : refuse({out_of_reach_}, asked_by);
  }
  auto on_disk = config::load(sources_);
  if (!on_disk) {
    std::vector<std::string> problems;
    for (const auto& problem : on_disk.error()) problems.push_back(config::to_string(problem));
    return refuse(problems, asked_by);
  }
  const auto before = in_force_.settings;
  const auto wanted = config::with_live_keys(before, on_disk->settings);
  auto live = live_of(wanted);
  if (!live) return refuse({"collection.exclude: " + live.error().message}, asked_by);
  if (auto taken = collector_->reconfigure(std::move(*live)); !taken) return refuse({taken.error().message}, asked_by);
  observe::set_log(wanted.logging.level, wanted.logging.format);
  in_force_.settings = wanted;
  problems_.clear();
  const auto changes = config::differences(before, wanted);
  observe::log(Level::info, "config", "the configuration was read again",
               {{"by", asked_by}, {"changes", std::uint64_t{changes.size()}}});
  if (changes.empty() && taken_up_) return {};  // the agent and the signal ask for the same
  taken_up_ = base::wall_now();
  json told = {{"by", asked_by}, {"configuration", config::digest_hex(in_force_)}};
  tell_changes(told, before, wanted);
  for (const auto& one : changes) {
    observe::log(Level::info, "config", "in force now", {{"key", one.key}, {"value", one.after}});
  }
  collector_->record("reload", dump(told));
  if (!changes.empty()) keep_configuration(kept_path_, in_force_);
  return {};
}

std::optional<observe::ComponentHealth> Reload::health() const {
  if (!taken_up_ && problems_.empty() && out_of_reach_.empty()) return std::nullopt;
  observe::ComponentHealth health{
      .component = "collector_config", .state = observe::HealthState::ok, .reason = {}, .details = {}};
  health.details["configuration"] = config::digest_hex(in_force_);
  if (taken_up_) health.details["reloaded"] = base::to_iso(*taken_up_);
  if (!out_of_reach_.empty()) health.details["reload"] = "changes count from the next start on: " + out_of_reach_;
  if (problems_.empty()) return health;
  health.state = observe::HealthState::degraded;
  health.reason = "the last reload was refused, and nothing changed: " + problems_.front();
  if (problems_.size() > 1) health.reason += " (and " + std::to_string(problems_.size() - 1) + " more)";
  return health;
}

}  // namespace daemoneye::procmond
