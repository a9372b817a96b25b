// Finding rules: in the configured folders, or in a file.
#include <sys/stat.h>

#include "base/file.h"
#include "base/text.h"
#include "cli/rules.h"

namespace daemoneye::cli {
namespace {

std::vector<std::string> problem_lines(const std::vector<detect::RuleProblem>& problems) {
  std::vector<std::string> lines;
  for (const auto& problem : problems) lines.push_back(detect::to_string(problem));
  return lines;
}

// Without a store nobody has overridden anything.
std::vector<store::RuleOverride> overrides_in(const std::string& store_path) {
  return store::read_rule_overrides(store_path).value_or(std::vector<store::RuleOverride>());
}

}  // namespace

bool is_folder(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool is_file(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

Outcome<std::vector<std::string>> rule_folders(Invocation& invocation) {
  CLI_TRY(const auto* settings, invocation.loaded());
  return config::rule_folders(settings->settings);
}

Outcome<detect::RuleSet> load_rules(Invocation& invocation) {
  CLI_TRY(const auto folders, rule_folders(invocation));
  CLI_TRY(const auto path, invocation.store_path());
  return detect::load_rules(folders, nullptr, overrides_in(path));
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

Failure broken(const std::string& what, const std::vector<detect::RuleProblem>& problems) {
  return {Exit::usage, what + " has " + std::to_string(problems.size()) + (problems.size() == 1 ? " error" : " errors"),
          problem_lines(problems)};
}

// A file by its path, or a rule of the configured folders by its id.
Outcome<detect::LoadedRule> find_rule(const std::string& name, Invocation& invocation) {
  if (is_file(name)) {
    CLI_TRY(const auto text, base::read_file(name, detect::max_rule_file_bytes));
    auto rule = detect::compile_rule(text, name);
    if (!rule) return std::unexpected(broken(name, rule.error()));
    return std::move(*rule);
  }
  CLI_TRY(const auto folders, rule_folders(invocation));
  CLI_TRY(const auto path, invocation.store_path());
  auto alone = detect::load_rule(name, folders, overrides_in(path));
  if (!alone.rules.empty()) return std::move(alone.rules.front());
  // What is there, so that it can be said what was meant.
  CLI_TRY(auto set, load_rules(invocation));
  for (auto& rule : set.rules) {
    if (rule.rule.id == name) return std::move(rule);
  }
  for (const auto& bad : set.unhealthy) {
    if (bad.id == name) return std::unexpected(broken(bad.file, bad.problems));
  }
  std::vector<std::string_view> ids;
  for (const auto& rule : set.rules) ids.push_back(rule.rule.id);
  const auto near = base::nearest(name, ids);
  return std::unexpected(Failure(Exit::usage,
                                 "no file and no rule '" + base::printable(name.substr(0, 128)) + '\'' +
                                     (near.empty() ? "" : "; did you mean " + std::string(near) + "?"),
                                 {"rule folders: " + joined(folders)}));
}

std::vector<sql::Hint> hints_of(const detect::LoadedRule& loaded) {
  return sql::hints(*loaded.compiled, loaded.rule.evaluate ? sql::Use::scheduled_rule : sql::Use::stream_rule);
}

}  // namespace daemoneye::cli
