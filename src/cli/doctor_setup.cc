// The configuration, the rules, the sinks, the running agent.
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "alert/sink.h"
#include "cli/doctor.h"
#include "cli/rules.h"
#include "sandbox/sandbox.h"

namespace daemoneye::cli {
namespace {

// Of one kind; the rest is counted.
constexpr std::size_t most_shown = 20;

void look_at_config(const Patient& patient, const std::vector<std::string>& broken, Findings& findings) {
  if (broken.empty()) {
    return findings.ok("config", "valid; digest " + config::digest_hex(*patient.loaded).substr(0, 12));
  }
  for (std::size_t i = 0; i < std::min(broken.size(), most_shown); ++i) {
    findings.add("config", Verdict::fail, broken[i],
                 "the daemons do not start; below, the built-in defaults are looked at",
                 "mend it; daemoneye-cli config validate tells whether it is");
  }
}

void look_at_rules(const Patient& patient, Findings& findings) {
  constexpr const char* nothing = "nothing is detected";
  // What the running agent has loaded is what counts; broken ones are in its health, which is told below.
  if (const auto* rules = patient.component("rules"); rules != nullptr && rules->details.contains("active")) {
    const auto& active = rules->details.at("active");
    if (active != "0") return findings.ok("rules", active + " active, the agent says");
    return findings.add("rules", Verdict::warn, "none is active, the agent says", nothing,
                        "put rules into detection.rule_paths, or enable one: daemoneye-cli rules list");
  }
  const auto folders = config::rule_folders(patient.loaded->settings);
  std::string closed;
  bool any = false;
  for (const auto& folder : folders) {
    if (::access(folder.c_str(), R_OK | X_OK) == 0)
      any = true;
    else if (errno != ENOENT)
      closed = folder;
  }
  if (!closed.empty()) findings.unknown("rules", closed + " cannot be read by this user", "run it as root");
  if (!any) {
    return findings.add("rules", Verdict::fail, "none of the folders is there: " + joined(folders), nothing,
                        "put rules into one of them, or set detection.rule_paths");
  }
  const auto set = load_rules(patient.invocation);
  if (!set) return findings.unknown("rules", set.error().message, "daemoneye-cli rules list");
  const auto active = std::ranges::count(set->rules, detect::RuleStatus::active,
                                         [](const detect::LoadedRule& rule) { return rule.rule.status; });
  for (std::size_t i = 0; i < std::min(set->unhealthy.size(), most_shown); ++i) {
    const auto& bad = set->unhealthy[i];
    findings.add("rules", Verdict::warn, bad.problems.empty() ? bad.file : detect::to_string(bad.problems.front()),
                 "this rule does not run, or only as it was before", "daemoneye-cli rules validate " + bad.file);
  }
  const auto found = std::to_string(active) + " active of " + std::to_string(set->rules.size()) + " that load";
  if (active == 0)
    return findings.add("rules", Verdict::fail, found, nothing, "enable a rule: daemoneye-cli rules list");
  if (set->unhealthy.empty()) findings.ok("rules", found);
}

// Whether the agent's user can use what a sink or the text file of metrics needs.
void look_at_needed(const Patient& patient, const std::string& check, const std::string& purpose,
                    const std::string& path, sandbox::Access access, Findings& findings) {
  const auto& user = patient.loaded->settings.app.user;
  if (patient.for_root_start && !patient.root) {
    return findings.unknown(check, purpose + ": " + path + ", as user " + user, "run it as root");
  }
  const auto usable = sandbox::check_access_as(patient.for_root_start ? user : "", {{path, purpose, access}});
  if (usable) return findings.ok(check, purpose + ": " + path);
  findings.add(check, Verdict::fail, usable.error().message, "the agent does not start",
               "give that user the right, or use another path");
}

void look_at_outlets(const Patient& patient, Findings& findings) {
  const auto& settings = patient.loaded->settings;
  for (const auto& sink : settings.alerting.sinks) {
    const auto needed = alert::needed_paths(sink);
    for (const auto& one : needed) {
      const auto access =
          one.use == alert::NeededPath::Use::read ? sandbox::Access::read : sandbox::Access::write_folder;
      look_at_needed(patient, "sinks", "sink " + sink.name, one.path, access, findings);
    }
    if (needed.empty()) findings.ok("sinks", sink.name + " needs no files; sinks test tries it");
  }
  if (settings.alerting.sinks.empty()) {
    findings.add("sinks", Verdict::warn, "there is none", "alerts are stored, but nobody is told",
                 "alerting.sinks in the configuration");
  }
  if (const auto& textfile = settings.metrics.textfile; !textfile.empty()) {
    const auto slash = textfile.rfind('/');
    look_at_needed(patient, "metrics", "metrics.textfile", slash == 0 ? "/" : textfile.substr(0, slash),
                   sandbox::Access::write_folder, findings);
  }
}

void look_at_agent(const Patient& patient, Findings& findings) {
  const auto& path = patient.loaded->settings.ipc.socket_path;
  if (!patient.health) {
    constexpr const char* means = "nothing is watched while the daemons are stopped";
    constexpr const char* start = "start it: systemctl start daemoneye-agent, or daemoneye-agent as root";
    struct stat status{};
    if (::lstat(path.c_str(), &status) != 0) {
      if (errno != ENOENT) {
        return findings.unknown("agent", path + " cannot be reached by this user",
                                "usermod -aG daemoneye USER, then log in again");
      }
      return findings.add("agent", Verdict::warn, "not running: there is no " + path, means, start);
    }
    if (!S_ISSOCK(status.st_mode)) {
      return findings.add("agent", Verdict::fail, path + " is no socket", "the agent does not start", "move it away");
    }
    if (::access(path.c_str(), W_OK) != 0) {
      return findings.unknown("agent", path + " may not be used by this user",
                              "usermod -aG daemoneye USER, then log in again");
    }
    return findings.add("agent", Verdict::warn, path + " is there, but no agent answers", means, start);
  }
  const auto* agent = patient.component("agent");
  const auto version = agent != nullptr && agent->details.contains("version") ? agent->details.at("version") : "";
  if (version != DAEMONEYE_VERSION) {
    findings.add("agent", Verdict::warn, "it runs as version " + version + ", this program is " DAEMONEYE_VERSION,
                 "answers of one may not be understood by the other", "restart the agent, so that the new one runs");
  } else {
    findings.ok("agent", "answers at " + path + ", version " + version);
  }
  const auto state = observe::worst(*patient.health);
  if (state == observe::HealthState::ok) return findings.ok("health", observe::summary(*patient.health));
  for (const auto& component : *patient.health) {
    if (component.state == observe::HealthState::ok) continue;
    findings.add("health", component.state == observe::HealthState::failed ? Verdict::fail : Verdict::warn,
                 component.component + ": " + component.reason, "the running daemons say so themselves",
                 "docs/health.md has a cure for each reason; daemoneye-cli health " + component.component);
  }
}

}  // namespace

std::vector<Finding> look_at_setup(const Patient& patient, const std::vector<std::string>& broken) {
  Findings findings("setup");
  look_at_config(patient, broken, findings);
  look_at_rules(patient, findings);
  look_at_outlets(patient, findings);
  look_at_agent(patient, findings);
  return findings.take();
}

}  // namespace daemoneye::cli
