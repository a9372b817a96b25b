// What the verbs of `rules` have in common.
#pragma once

#include <string>
#include <vector>

#include "cli/verbs.h"
#include "detect/rule.h"

namespace daemoneye::cli {

void add_rule_changes(CLI::App& rules, Action& chosen);  // enable, disable, severity, reset, delete
void add_rule_show(CLI::App& rules, Action& chosen);     // show
void add_rule_test(CLI::App& rules, Action& chosen);     // test

void add_rule_transfer(CLI::App& rules, Action& chosen);  // import, export
void add_rule_create(CLI::App& rules, Action& chosen);    // create

bool is_folder(const std::string& path);
bool is_file(const std::string& path);
std::string joined(const std::vector<std::string>& words);
Failure broken(const std::string& what, const std::vector<detect::RuleProblem>& problems);

Outcome<std::vector<std::string>> rule_folders(Invocation& invocation);
// As the agent would load them now: the folders, exceptions files and, where a store can be read, overrides.
Outcome<detect::RuleSet> load_rules(Invocation& invocation);
// A file by its path, or a rule of the configured folders by its id.
Outcome<detect::LoadedRule> find_rule(const std::string& name, Invocation& invocation);
std::vector<sql::Hint> hints_of(const detect::LoadedRule& loaded);

}  // namespace daemoneye::cli
