// config set, unset, reload: a file of the configuration changed by line, what that weakens asked for, all of it told
// to the agent, who records it.
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <ostream>

#include "base/text.h"
#include "cli/alerts.h"
#include "cli/config.h"
#include "config/change.h"
#include "config/edit.h"
#include "config/edit_file.h"
#include "config/schema.h"

namespace daemoneye::cli {
namespace {

using config::EditedFile;
using nlohmann::json;

constexpr int max_tries = 5;  // while somebody else writes the same file
constexpr mode_t system_mode = 0644, system_folder_mode = 0755, own_mode = 0600, own_folder_mode = 0700;

struct ChangeOptions {
  std::string key, value, file;
  bool remove = false, yes = false, reload = false, dry_run = false;
};

std::vector<std::string> texts(const std::vector<config::Problem>& problems) {
  std::vector<std::string> all;
  all.reserve(problems.size());
  for (const auto& problem : problems) all.push_back(config::to_string(problem));
  return all;
}

// The value as it is to stand in the file, when the key may have it.
Outcome<config::Node> read_given(const config::Key& key, const std::string& text) {
  auto node = config::parse_yaml(text);
  std::vector<std::string> problems;
  if (!node) {
    for (const auto& bad : node.error()) problems.push_back(bad.message + "; allowed: " + config::allowed_text(key));
  } else {
    static_cast<void>(
        config::read_value(key, *node, [&](unsigned, const std::string& name, const std::string& message) {
          problems.push_back(name + ": " + message);
        }));
  }
  if (problems.empty()) return std::move(*node);
  return std::unexpected(Failure(Exit::usage, "nothing was changed: " + problems.front(),
                                 std::vector(problems.begin() + 1, problems.end())));
}

// One try of the change: everything that is found out before the file is replaced.
struct Prepared {
  config::LayerFile layer;
  EditedFile file;
  std::string text;  // the new one
  config::Loaded after;
  std::vector<config::Weakening> weakenings;
};

bool is_from(const std::string& origin, const std::string& path) {
  return origin.starts_with(path + ':') && origin.find('/', path.size()) == std::string::npos;
}

// A value that stands in a file and does not count is worth refusing, when the file that hides it can be changed.
Outcome<bool> check_not_hidden(const ChangeOptions& options, const Prepared& prepared, Invocation& invocation) {
  if (options.remove) return true;
  const auto& origin = prepared.after.origin.at(options.key);
  if (is_from(origin, prepared.layer.path)) return true;
  const bool of_this_call = origin.starts_with("DAEMONEYE_") || origin == "--set";
  const std::string what =
      options.key + " is set by " + origin + ", too, which is stronger than " + prepared.layer.path;
  if (of_this_call || !options.file.empty()) {
    invocation.err() << "notice: " << base::printable(what) << '\n';
    return true;
  }
  return std::unexpected(
      Failure(Exit::usage, "nothing was changed: " + what,
              {"a change there would not count; --file " + prepared.layer.path + " makes it all the same"}));
}

Outcome<Prepared> prepare(const ChangeOptions& options, const config::Node& value, const Invocation::Attempt& before,
                          Invocation& invocation) {
  std::optional<std::string> wanted;
  if (!options.file.empty()) wanted = options.file;
  CLI_TRY(auto layer, config::layer_for(before.sources, options.key, wanted));
  auto opened = EditedFile::open(layer.path);
  if (!opened) {
    Failure failure(opened.error());
    failure.message = "nothing was changed: " + failure.message;
    return std::unexpected(std::move(failure));
  }
  auto text = options.remove ? config::with_key_removed(opened->text(), options.key)
                             : config::with_key_set(opened->text(), options.key, value);
  if (!text) {
    return std::unexpected(Failure(Exit::usage, "nothing was changed: " + layer.path + ": " +
                                                    (options.remove && text.error().code == Errc::not_found
                                                         ? options.key + ' ' + text.error().message
                                                         : text.error().message)));
  }
  auto sources = before.sources;
  sources.instead[layer.path] = *text;
  auto after = config::load(sources);
  if (!after) {
    return std::unexpected(
        Failure(Exit::usage, "nothing was changed: the configuration would not be valid", texts(after.error())));
  }
  Prepared prepared{std::move(layer), std::move(*opened), std::move(*text), std::move(*after), {}};
  CLI_TRY([[maybe_unused]] const bool counts, check_not_hidden(options, prepared, invocation));
  prepared.weakenings = before.loaded ? config::weakenings(before.loaded->settings, prepared.after.settings)
                                      : config::weaker_than_default(prepared.after.settings);
  return prepared;
}

// Nothing: no agent runs that would record it. What it refuses is refused before anything is changed.
Outcome<std::unique_ptr<ipc::Client>> recording_agent(const Prepared& prepared, const Invocation::Attempt& before,
                                                      Invocation& invocation) {
  const auto& settings = before.loaded ? before.loaded->settings : prepared.after.settings;
  const auto note = [&](const std::string& why) {
    invocation.err() << "notice: " << base::printable(why)
                     << "; an agent that starts with this configuration records it then\n";
  };
  auto agent = ipc::Client::connect(settings.ipc.socket_path, invocation.deadline());
  if (!agent && agent.error().code == Errc::unavailable) {
    note(agent.error().message);
    return nullptr;
  }
  auto may = agent ? ask_agent(**agent, ipc::RequestKind::configuration, {{"do", "may"}}, invocation.deadline())
                   : Outcome<json>(std::unexpected(Failure(agent.error())));
  if (may) return std::move(*agent);
  // One's own file is one's own business; the agent of somebody else does not read it.
  if (prepared.layer.of_user && before.sources.system_paths) {
    note("the system's agent is not told of a change of your own file: " + may.error().message);
    return nullptr;
  }
  auto failure = std::move(may).error();
  failure.message = "nothing was changed: " + failure.message;
  return std::unexpected(std::move(failure));
}

std::string value_text(const config::Loaded& loaded, const std::string& key) {
  const auto* found = config::find_key(key);
  return config::write_value(*found, found->get(loaded.settings));
}

json told(const ChangeOptions& options, const Invocation::Attempt& before, const Prepared& prepared) {
  json payload = {{"do", "changed"}, {"key", options.key}, {"file", prepared.layer.path}, {"reload", options.reload}};
  if (before.loaded) {
    for (const auto& difference : config::differences(before.loaded->settings, prepared.after.settings)) {
      if (difference.key != options.key) continue;
      payload["before"] = difference.before;
      payload["after"] = difference.after;
    }
  }
  if (options.remove) payload["removed"] = true;
  auto& weakens = payload["weakens"] = json::array();
  for (const auto& one : prepared.weakenings) weakens.push_back({{"key", one.key}, {"what", one.what}});
  return payload;
}

// Where a reload does not reach, that is better said at once than found in health.
void tell_of_collector(const std::string& key, const config::Sources& sources, const config::Settings& settings,
                       Invocation& invocation) {
  const auto* known = config::find_key(key);
  if (known == nullptr || !known->live || !config::concerns_collector(key)) return;
  const auto why = config::out_of_collectors_reach(sources, settings);
  if (why.empty()) return;
  invocation.err() << "notice: procmond takes " << base::printable(key)
                   << " up at its next start: " << base::printable(why) << '\n';
}

void show(const ChangeOptions& options, const Invocation::Attempt& before, const Prepared& prepared, bool reloaded,
          Invocation& invocation) {
  const auto after = value_text(prepared.after, options.key);
  const auto was = before.loaded ? value_text(*before.loaded, options.key) : std::string();
  const auto& origin = prepared.after.origin.at(options.key);
  const bool live = config::find_key(options.key)->live;
  if (invocation.format() != Format::table) {
    std::string weakens;
    for (const auto& one : prepared.weakenings) weakens += (weakens.empty() ? "" : "; ") + one.key + ": " + one.what;
    write_record(invocation,
                 {{"key"}, {"before"}, {"after"}, {"origin"}, {"file"}, {"a_change_counts"}, {"reloaded"}, {"weakens"}},
                 {options.key, optional_text(before.loaded ? std::optional(was) : std::nullopt), after, origin,
                  prepared.layer.path, std::string(live ? "live" : "restart"), std::int64_t{reloaded ? 1 : 0},
                  optional_text(weakens.empty() ? std::nullopt : std::optional(weakens))});
    return;
  }
  auto& out = invocation.out();
  out << options.key << ": " << (was.empty() ? "" : was + " -> ") << after << "  (" << base::printable(origin) << ")\n";
  if (options.dry_run)
    out << "nothing was written\n";
  else if (!live)
    out << "it counts from the next start of the agent on\n";
  else if (!reloaded)
    out << "it counts once the configuration is loaded again: daemoneye-cli config reload\n";
}

// The keys that changed.
Outcome<std::vector<std::string>> ask_for_reload(ipc::Client& agent, Invocation& invocation) {
  CLI_TRY(const auto answer, ask_agent(agent, ipc::RequestKind::reload, json::object(), invocation.deadline()));
  const auto list = [&](const char* name) {
    std::string all;
    if (const auto found = answer.find(name); found != answer.end() && found->is_array()) {
      for (const auto& one : *found)
        all += (all.empty() ? "" : ", ") + (one.is_string() ? one.get<std::string>() : "?");
    }
    return base::printable(all);
  };
  std::vector<std::string> keys;
  for (const auto& one : answer.value("changed", json::array())) {
    if (one.is_string()) keys.push_back(one.get<std::string>());
  }
  if (invocation.format() != Format::table) {
    write_record(invocation, {{"changed"}, {"at_next_start"}}, {list("changed"), list("at_next_start")});
    return keys;
  }
  const auto changed = list("changed"), later = list("at_next_start");
  invocation.out() << (changed.empty() ? "loaded again; nothing in it is new" : "in force now: " + changed) << '\n';
  if (!later.empty()) invocation.out() << "from the next start on: " << later << '\n';
  return keys;
}

Outcome<bool> agree(const ChangeOptions& options, const Prepared& prepared, Invocation& invocation) {
  if (prepared.weakenings.empty()) return true;
  for (const auto& one : prepared.weakenings) {
    invocation.err() << "warning: " << base::printable(one.key + ": " + one.what) << '\n';
  }
  if (options.dry_run) return true;
  return invocation.confirmed("This weakens what DaemonEye protects, and is recorded. Change it?", options.yes);
}

Outcome<Exit> change(const ChangeOptions& options, Invocation& invocation) {
  const auto* key = config::find_key(options.key);
  if (key == nullptr) return std::unexpected(unknown_key(options.key));
  const auto before = invocation.try_load();  // may be bad: perhaps this mends it
  config::Node value;
  if (!options.remove) {
    CLI_TRY(value, read_given(*key, options.value));
  }
  bool agreed = false;
  for (int attempt = 1;; ++attempt) {
    CLI_TRY(auto prepared, prepare(options, value, before, invocation));
    if (prepared.text == prepared.file.text()) {
      invocation.out() << options.key << ": " << value_text(prepared.after, options.key) << " already  ("
                       << base::printable(prepared.after.origin.at(options.key)) << ")\n";
      return Exit::done;
    }
    if (!agreed) {
      CLI_TRY(agreed, agree(options, prepared, invocation));
    }
    if (options.dry_run) {
      show(options, before, prepared, false, invocation);
      return Exit::done;
    }
    CLI_TRY(const auto agent, recording_agent(prepared, before, invocation));
    const bool own = prepared.layer.of_user;
    const auto put =
        prepared.file.replace(prepared.text, own ? own_mode : system_mode, own ? own_folder_mode : system_folder_mode);
    if (!put && put.error().code == Errc::cancelled && attempt < max_tries) continue;
    if (!put) {
      Failure failure(put.error());
      if (put.error().code == Errc::permission_denied) {
        failure.details = {"the system's configuration is root's to change"};
      }
      return std::unexpected(std::move(failure));
    }
    if (own && before.sources.system_paths) {
      invocation.err() << "notice: this is your own file; the system's agent reads /etc/daemoneye, which is root's\n";
    }
    if (agent) {
      const auto heard =
          ask_agent(*agent, ipc::RequestKind::configuration, told(options, before, prepared), invocation.deadline());
      if (!heard) {
        auto failure = heard.error();
        failure.message = prepared.layer.path + " is written, but the agent did not record it: " + failure.message;
        return std::unexpected(std::move(failure));
      }
    }
    show(options, before, prepared, options.reload && agent, invocation);
    tell_of_collector(options.key, before.sources, prepared.after.settings, invocation);
    if (options.reload && agent) {
      CLI_TRY([[maybe_unused]] const auto keys, ask_for_reload(*agent, invocation));
    }
    return Exit::done;
  }
}

Outcome<Exit> reload(Invocation& invocation) {
  CLI_TRY(const auto* loaded, invocation.loaded());
  CLI_TRY(const auto agent, invocation.agent(invocation.deadline()));
  CLI_TRY(const auto reloaded, ask_for_reload(*agent, invocation));
  for (const auto& key : reloaded) tell_of_collector(key, invocation.sources(), loaded->settings, invocation);
  return Exit::done;
}

void add_common(CLI::App& verb, ChangeOptions& options) {
  verb.add_option("--file", options.file, "The file of the configuration to change; the right one is found without it")
      ->type_name("FILE");
  verb.add_flag("--yes", options.yes, "Do not ask, whatever it weakens");
  verb.add_flag("--reload", options.reload, "Have the agent load the configuration again afterwards");
  verb.add_flag("--dry-run", options.dry_run, "Show what would change, and change nothing");
}

}  // namespace

void add_config_changes(CLI::App& config, Action& chosen) {
  auto* set = add_verb(config, "set", "Set one key in the file it belongs into; comments and everything else stay");
  const auto options = std::make_shared<ChangeOptions>();  // shared: the parser fills what the action reads
  set->add_option("KEY", options->key, "Such as app.batch_size")->required();
  set->add_option("VALUE", options->value, "YAML: 15000, off, '[/srv/rules]'")->required();
  add_common(*set, *options);
  set->callback(
      [options, &chosen] { chosen = [options](Invocation& invocation) { return change(*options, invocation); }; });

  auto* unset = add_verb(config, "unset", "Take one key out of its file: what is weaker counts again");
  const auto removal = std::make_shared<ChangeOptions>();
  removal->remove = true;
  unset->add_option("KEY", removal->key, "Such as app.batch_size")->required();
  add_common(*unset, *removal);
  unset->callback(
      [removal, &chosen] { chosen = [removal](Invocation& invocation) { return change(*removal, invocation); }; });

  add_verb(config, "reload", "Have the agent and procmond load the configuration again, as SIGHUP does")
      ->callback([&chosen] { chosen = reload; });
}

}  // namespace daemoneye::cli
