// rules enable, disable, severity, reset: the agent keeps them in its store, and packaged files stay as they are.
// rules delete: a rule file of this machine's own.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <ostream>

#include "base/text.h"
#include "cli/alerts.h"
#include "cli/rules.h"

namespace daemoneye::cli {
namespace {

using nlohmann::json;

struct Change {
  std::vector<std::string> rules;
  std::string severity, note;
  bool yes = false;
};

Outcome<Exit> change_rules(const std::string& what, const Change& change, Invocation& invocation) {
  if (what == "disable") {
    CLI_TRY([[maybe_unused]] const bool sure, invocation.confirmed("Disable " + base::printable(joined(change.rules)) +
                                                                       "? What they look for is not found any more.",
                                                                   change.yes));
  }
  CLI_TRY(const auto agent, invocation.agent(invocation.deadline()));
  CLI_TRY(const auto answer,
          ask_agent(*agent, ipc::RequestKind::change_rules,
                    {{"do", what}, {"rules", change.rules}, {"severity", change.severity}, {"note", change.note}},
                    invocation.deadline()));
  const auto refused = answer.value("refused", json::array());
  if (!refused.empty()) {
    Failure failure(Exit::usage, "nothing was changed");
    for (const auto& one : refused) {
      failure.details.push_back("rule '" + base::printable(one.value("rule_id", "")) +
                                "': " + base::printable(one.value("why", "")));
    }
    return std::unexpected(std::move(failure));
  }
  const auto writer = invocation.row_writer();
  writer->begin({{"rule_id"}, {"from"}, {"to"}});
  for (const auto& one : answer.value("changed", json::array())) {
    writer->row({one.value("rule_id", ""), one.value("from", ""), one.value("to", "")});
  }
  writer->finish({}, "");
  return Exit::done;
}

Outcome<Exit> delete_rule(const std::string& id, bool yes, Invocation& invocation) {
  CLI_TRY(const auto* loaded_settings, invocation.loaded());
  const auto& settings = loaded_settings->settings;
  const auto& folders = settings.detection.rule_paths;
  CLI_TRY(const auto set, load_rules(invocation));
  std::string file;
  for (const auto& loaded : set.rules) {
    if (loaded.rule.id == id) file = loaded.rule.file;
  }
  for (const auto& bad : set.unhealthy) {
    if (bad.id == id) file = bad.file;
  }
  if (file.empty()) return std::unexpected(Failure(Exit::usage, "no rule '" + base::printable(id) + "'"));
  if (folders.size() > 1 && file.starts_with(folders.front() + "/")) {
    return std::unexpected(Failure(Exit::usage, file + " belongs to the package: the next update would bring it back",
                                   {"disable it instead: daemoneye-cli rules disable " + id}));
  }
  if (file.starts_with(config::bundle_folder(settings) + "/")) {
    return std::unexpected(Failure(Exit::usage, file + " belongs to the bundle in force, whose signature covers it",
                                   {"disable it instead: daemoneye-cli rules disable " + id}));
  }
  CLI_TRY([[maybe_unused]] const bool sure, invocation.confirmed("Remove " + base::printable(file) + "?", yes));
  if (::unlink(file.c_str()) != 0) {
    return std::unexpected(
        Failure(errno == EACCES || errno == EPERM || errno == EROFS ? Exit::unavailable : Exit::failed,
                base::printable(file) + ": " + std::strerror(errno)));
  }
  invocation.out() << "removed " << base::printable(file) << '\n';
  return Exit::done;
}

}  // namespace

void add_rule_changes(CLI::App& rules, Action& chosen) {
  const auto change = std::make_shared<Change>();  // shared: the parser fills what the actions read
  const auto add = [&](const char* name, const char* help) {
    auto* verb = add_verb(rules, name, help);
    if (std::string_view(name) == "severity") {
      verb->add_option("SEVERITY", change->severity, "low, medium, high or critical")
          ->required()
          ->check(CLI::IsMember({"low", "medium", "high", "critical"}));
    }
    verb->add_option("RULE", change->rules, "Ids of rules")->required();
    verb->add_option("--note", change->note, "Why; kept with the change")->type_name("TEXT")->allow_extra_args(false);
    if (std::string_view(name) == "disable") verb->add_flag("--yes", change->yes, "Do not ask");
    verb->callback([change, what = std::string(name), &chosen] {
      chosen = [change, what](Invocation& invocation) { return change_rules(what, *change, invocation); };
    });
  };
  add("enable", "Evaluate rules whatever their files say; survives updates, recorded in the audit ledger");
  add("disable", "Stop evaluating rules; survives updates, recorded in the audit ledger");
  add("severity", "Give rules another severity; survives updates, recorded in the audit ledger");
  add("reset", "Take back what enable, disable and severity have changed");

  auto* remove = add_verb(rules, "delete", "Remove the file of a rule that is not a package's");
  const auto id = std::make_shared<std::string>();
  remove->add_option("RULE", *id, "A rule's id")->required();
  remove->add_flag("--yes", change->yes, "Do not ask");
  remove->callback([id, change, &chosen] {
    chosen = [id, change](Invocation& invocation) { return delete_rule(*id, change->yes, invocation); };
  });
}

}  // namespace daemoneye::cli
