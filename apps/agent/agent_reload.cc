// The agent's part in a change of the configuration: a reload takes up the live keys or nothing, and the ledger is
// told.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "agent/agent.h"
#include "agent/needed_paths.h"
#include "base/text.h"
#include "config/change.h"
#include "config/kept.h"
#include "observe/log.h"
#include "observe/log_level.h"

namespace daemoneye::apps {
namespace {

using nlohmann::json;
using observe::Level;

constexpr std::size_t max_told_problems = 20, max_told_bytes = 300;  // in the log, the ledger and health
constexpr std::size_t max_change_bytes = 16 * 1024;                  // of what `config set` tells

std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

store::StoreOptions bounds_of(const config::Settings& settings) {
  store::StoreOptions options;
  options.retention_days = settings.database.retention_days;
  options.max_size_mb = settings.database.max_size_mb;
  options.delivery_retention_days = settings.alerting.delivery_retention_days;
  options.dead_letter_retention_days = settings.alerting.dead_letter_retention_days;
  return options;
}

detect::Engine::Tuning tuning_of(const config::Settings& settings) {
  return {.rule_paths = config::rule_folders(settings),
          .rule_timeout = std::chrono::milliseconds(settings.detection.rule_timeout_ms),
          .dedup_window = std::chrono::milliseconds(settings.alerting.dedup_window_ms)};
}

// What the deliverer is made with.
bool is_of_delivery(std::string_view key) {
  return key.starts_with("alerting.") && key != "alerting.dedup_window_ms" && !key.ends_with("_retention_days");
}

json weakens_json(const std::vector<config::Weakening>& weakenings) {
  json list = json::array();
  for (const auto& one : weakenings) list.push_back({{"key", one.key}, {"what", one.what}});
  return list;
}

json changes_json(const std::vector<config::Difference>& differences) {
  json list = json::array();
  for (const auto& one : differences) list.push_back({{"key", one.key}, {"before", one.before}, {"after", one.after}});
  return list;
}

}  // namespace

// Whoever changed the files while no agent ran, and how, the ledger has it from here.
void Agent::record_start() {
  const auto& settings = loaded_.settings;
  json payload = {{"version", DAEMONEYE_VERSION},
                  {"configuration", config::digest_hex(loaded_)},
                  {"weaker_than_default", weakens_json(config::weaker_than_default(settings))},
                  {"uid", context_.reached.uid},
                  {"capabilities", context_.reached.capabilities_effective},
                  {"no_new_privs", context_.reached.no_new_privs}};
  if (const auto before = config::read_kept(kept_configuration())) {
    payload["changes"] = changes_json(config::differences(*before, settings));
    if (const auto weaker = config::weakenings(*before, settings); !weaker.empty()) {
      payload["weakens"] = weakens_json(weaker);
    }
  }
  if (collector_->audit("start", dump(payload))) keep_configuration();
}

std::string Agent::kept_configuration() const {
  return folder_of(loaded_.settings.database.path) + '/' + config::kept_file_name;
}

void Agent::keep_configuration() const {
  if (auto kept = config::keep(kept_configuration(), loaded_); !kept) {
    observe::log(Level::warn, "config", "what is in force could not be kept for the next start to compare with",
                 {{"error", kept.error().message}});
  }
}

void Agent::reload() {
  // What came of it, the log, health and the ledger tell.
  [[maybe_unused]] const auto told = load_again("signal", std::nullopt);
}

void Agent::refuse_reload(const std::vector<std::string>& problems, const std::string& asked_by,
                          std::optional<uid_t> by) {
  reload_.problems.clear();
  for (const auto& problem : problems) {
    if (reload_.problems.size() == max_told_problems) break;
    reload_.problems.push_back(base::to_valid_utf8(problem.substr(0, max_told_bytes)));
    observe::log(Level::error, "config", "reload refused: nothing of the configuration changed",
                 {{"problem", reload_.problems.back()}});
  }
  reload_.refused_at = base::wall_now();
  json payload = {{"by", asked_by},
                  {"configuration", config::digest_hex(loaded_)},
                  {"problems", reload_.problems},
                  {"count", problems.size()}};
  if (by) payload["by_uid"] = *by;
  collector_->audit("reload_refused", dump(payload), by);
}

// What a start would have found out before anything is changed.
Result<void> Agent::check_new(const config::Settings& wanted) const {
  if (wanted.alerting.sinks != loaded_.settings.alerting.sinks) {
    for (const auto& sink : wanted.alerting.sinks) DE_CHECK(check_sink_paths(sink, ""));
  }
  const auto& textfile = wanted.metrics.textfile;
  if (!textfile.empty() && textfile != loaded_.settings.metrics.textfile) {
    DE_CHECK(sandbox::check_access_as("", {{folder_of(textfile), "metrics.textfile", sandbox::Access::write_folder}}));
  }
  return {};
}

Result<void> Agent::take_up(const config::Settings& wanted) {
  const auto& is = loaded_.settings;
  DE_CHECK(check_new(wanted));
  const auto changed = config::differences(is, wanted);
  const bool alerting = std::ranges::any_of(changed, [](const auto& one) { return is_of_delivery(one.key); });
  if (alerting) DE_CHECK(deliverer_->reconfigure(wanted.alerting));  // the only step that can fail: first
  {
    std::lock_guard lock(routes_mutex_);
    routes_ = wanted.alerting.sinks;
  }
  engine_->retune(tuning_of(wanted));
  writer_->set_retention(bounds_of(wanted));
  monitoring_->reconfigure(wanted.metrics);
  observe::set_log(wanted.logging.level, wanted.logging.format);
  loaded_.settings = wanted;
  return {};
}

// The rules are loaded and the sinks' files opened again in any case: they are no part of the configuration's files.
Result<std::string> Agent::load_again(const std::string& asked_by, std::optional<uid_t> by) {
  engine_->reload();
  deliverer_->reopen();
  auto on_disk = config::load(context_.sources);
  if (!on_disk) {
    std::vector<std::string> problems;
    for (const auto& problem : on_disk.error()) problems.push_back(config::to_string(problem));
    refuse_reload(problems, asked_by, by);
    return fail(Errc::invalid_input, "nothing changed: " + std::to_string(problems.size()) +
                                         (problems.size() == 1 ? " problem: " : " problems, the first: ") +
                                         problems.front().substr(0, max_told_bytes));
  }
  const auto before = loaded_.settings;
  const auto digest_before = config::digest_hex(loaded_);
  const auto wanted = config::with_live_keys(before, on_disk->settings);
  if (auto taken = take_up(wanted); !taken) {
    refuse_reload({taken.error().message}, asked_by, by);
    return fail(Errc::invalid_input, "nothing changed: " + taken.error().message);
  }
  json changed = json::array();
  bool of_collector = false;
  const auto differences = config::differences(before, wanted);
  for (const auto& one : differences) {
    changed.push_back(one.key);
    of_collector = of_collector || config::concerns_collector(one.key);
    loaded_.origin[one.key] = on_disk->origin.at(one.key);
  }
  if (of_collector) collector_->reload_configuration();  // a signal may reach it, too; an operator's request does not
  loaded_.notices = on_disk->notices;
  reload_ = {};
  reload_.at = base::wall_now();
  for (const auto& one : config::differences(wanted, on_disk->settings)) reload_.at_next_start.push_back(one.key);
  const auto weaker = config::weakenings(before, wanted);
  json payload = {{"by", asked_by}, {"configuration", config::digest_hex(loaded_)}};
  if (by) payload["by_uid"] = *by;
  if (!differences.empty()) {
    payload["configuration_before"] = digest_before;
    payload["changes"] = changes_json(differences);
  }
  if (!weaker.empty()) payload["weakens"] = weakens_json(weaker);
  if (!reload_.at_next_start.empty()) {
    payload["at_next_start"] = reload_.at_next_start;
    payload["configuration_at_next_start"] = config::digest_hex(*on_disk);
  }
  if (collector_->audit("reload", dump(payload), by) && !differences.empty()) keep_configuration();
  for (const auto& one : weaker) {
    observe::log(Level::warn, "config", "a reload weakens protection", {{"key", one.key}, {"what", one.what}});
  }
  observe::log(Level::info, "config", "reloaded",
               {{"changed", changed.dump()}, {"at_next_start", json(reload_.at_next_start).dump()}});
  return json{{"changed", std::move(changed)}, {"at_next_start", reload_.at_next_start}}.dump();
}

Result<void> Agent::record_configuration_change(uid_t by, const std::string& payload) {
  const auto not_understood = [] { return fail(Errc::invalid_input, "configuration: not understood"); };
  // The size bounds the nesting, which the printer follows on the stack.
  if (payload.size() > max_change_bytes) return not_understood();
  auto asked = json::parse(payload, nullptr, false);
  if (!asked.is_object() || !asked.contains("do") || !asked["do"].is_string()) return not_understood();
  if (asked["do"] == "may") return {};  // who may not was turned away before
  const bool whole = asked["do"] == "changed" && asked.contains("key") && asked["key"].is_string() &&
                     asked.contains("file") && asked["file"].is_string();
  if (!whole) return not_understood();
  asked.erase("do");
  asked["by_uid"] = by;
  if (collector_->audit("configuration_change", dump(asked), by)) return {};
  return fail(Errc::limit_exceeded, "the change could not be recorded: too much waits for the collector already");
}

}  // namespace daemoneye::apps
